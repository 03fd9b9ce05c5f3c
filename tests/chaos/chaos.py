#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Faults under load, one after the other, drawn by a seed, with certificates that live seconds and a configuration that changes all the time.

    chaos.py [--seed N] [--rounds N | --minutes M] [--from N] [--only NAME,...] [--lifetime TIME] [--state FILE]

A round is one fault under load (faults.py); what clients got and what applications ran is compared after each. --state keeps the number of the next round, so
that a long run that was interrupted goes on where it was. Prints a line a round; exits 1 at the first promise that was broken, with how to repeat the round."""

import argparse
import contextlib
import json
import os
import pathlib
import random
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integ"))
sys.path.insert(0, str(ROOT / "tests" / "chaos"))

from faults import FAULTS  # noqa: E402
from harness.netns import Net  # noqa: E402
from world import Changes, World, fds, now, pss_kb  # noqa: E402


def one_round(world, fault, seed, number):
    """Raises AssertionError when a promise was broken."""
    rnd = random.Random(f"{seed}-{number}")
    changes = Changes(world.mesh, 10)
    world.begin(f"r{number}")
    time.sleep(0.3)
    began = time.monotonic()
    try:
        fault.run(world, rnd)
    finally:
        world.good_now()
        time.sleep(0.3)
        took = time.monotonic() - began
        changes.stop()
        r = world.end()
    print(f"{now()} {number:5} {fault.name:18} {took:5.1f} s  GET {r['get']['good']} good {len(r['get_bad'])} bad, slowest {r['get']['slowest']:.1f} s;"
          f" POST {r['post']['good']} good {len(r['post_bad'])} bad; stream {r['blocks']} blocks, {r['breaks']} breaks; {changes.applied} changes", flush=True)
    assert not r["twice"], f"ran more than once: {r['twice'][:5]}"
    assert not r["lost"], f"answered well and never ran: {r['lost'][:5]}"
    assert len(r["get_bad"]) <= fault.get_bad, f"GETs failed: {r['get_bad'][:5]}"
    assert len(r["post_bad"]) <= fault.post_bad, f"POSTs failed: {r['post_bad'][:5]}"
    assert r["get"]["good"] > 0 and r["blocks"] > 0, r


def settle(world):
    """After the last round: what is left is what there was."""
    pid = world.web.worker()
    return fds(pid), pss_kb(pid)


def play(world, seed, rounds, first=0, only=None, until=None, state=None):
    faults = [f for f in FAULTS if only is None or f.name in only]
    for number in range(first, first + rounds):
        if until is not None and time.monotonic() > until:
            break
        fault = random.Random(f"{seed}/{number}").choice(faults)
        try:
            one_round(world, fault, seed, number)
        except AssertionError as e:
            names = f" --only {','.join(only)}" if only else ""
            raise AssertionError(f"round {number} ({fault.name}): {e}\nrepeat it: chaos.py --seed {seed} --from {number} --rounds 1{names}") from None
        if state:
            pathlib.Path(state).write_text(f"{seed} {number + 1}\n")


def evidence(world):
    """What everybody has said and counts, in a folder."""
    keep = pathlib.Path(tempfile.mkdtemp(prefix="weft-chaos-failed-"))
    (keep / "weftd.log").write_text(world.mesh.weftd.output())
    for name, app in world.apps.items():
        (keep / f"{name}-app.log").write_text(f"alive: {app.alive()}\n{app.output()[-20000:]}")
    for w in (*world.orders, world.web):
        (keep / f"{w.name}.log").write_text(w.log())
        with contextlib.suppress(Exception):
            (keep / f"{w.name}.metrics").write_text(w.status("/metrics")[1])
            (keep / f"{w.name}.endpoints.json").write_text(json.dumps(w.admin("/endpoints"), indent=1))
    return keep


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or time.time()))
    ap.add_argument("--rounds", type=int, default=10**9)
    ap.add_argument("--minutes", type=float)
    ap.add_argument("--from", dest="first", type=int, default=0)
    ap.add_argument("--only")
    ap.add_argument("--state")
    ap.add_argument("--lifetime", default="20s", help="of certificates; they are renewed at half of it, so weftd's own faults must be shorter")
    a = ap.parse_args()
    if a.state and pathlib.Path(a.state).exists():
        a.seed, a.first = map(int, pathlib.Path(a.state).read_text().split())
    if a.rounds == 10**9 and a.minutes is None:
        a.minutes = 5
    print(f"seed {a.seed}, from round {a.first}", flush=True)
    until = time.monotonic() + a.minutes * 60 if a.minutes else None
    with tempfile.TemporaryDirectory(prefix="weft-chaos-") as tmp, Net() as net:
        os.chmod(tmp, 0o755)
        world = World(net, tmp, a.lifetime)
        try:
            world.good_now(20)
            before = settle(world)
            play(world, a.seed, a.rounds, a.first, a.only.split(",") if a.only else None, until, a.state)
            print(f"descriptors and kB PSS of the caller's worker: {before} before, {settle(world)} after")
        except AssertionError as e:
            print(e, file=sys.stderr)
            keep = evidence(world)
            print(f"logs: {keep}", file=sys.stderr)
            sys.exit(1)
        finally:
            world.close()


if __name__ == "__main__":
    main()
