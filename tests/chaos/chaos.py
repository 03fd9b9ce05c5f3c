#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Faults under load, drawn by a seed, with certificates that live seconds and a configuration that changes ten times a second.

    chaos.py [--seed N] [--rounds N | --each N | --minutes M] [--from N] [--only NAME,...] [--lifetime SECONDS] [--state FILE] [--at-once]

A round is one fault under load (faults.py); what clients got and what applications ran is compared after each, and at the end what is held (held.py)
with what was held before. --each: all of them in turn, N times. --state keeps the number of the next round, so that a long run that was interrupted
goes on where it was. Prints a line a round; exits 1 at the first promise that was broken, with how to repeat the round.

--at-once: one load from the first to the last round, never at rest: streams that are open all the time, certificates renewed all the time. No GET may fail."""

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

from faults import FAULTS, Fault  # noqa: E402
from harness.netns import Net  # noqa: E402
from held import held, leaked  # noqa: E402
from world import Changes, World, now  # noqa: E402


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
    print(f"{now()} {number:5} {fault.name:18} {took:5.1f} s  {told(r)}; {changes.applied} changes", flush=True)
    check(r, fault)


def told(r):
    """What came of a load, in words."""
    streams = ", ".join(f"{name} {r['blocks'][name]} blocks {r['breaks'][name]} breaks" for name in r["blocks"])
    return (f"GET {r['get']['good']} good {len(r['get_bad'])} bad, slowest {r['get']['slowest']:.1f} s; POST {r['post']['good']} good {len(r['post_bad'])} bad;"
            f" {streams}")


def check(r, fault):
    assert not r["twice"], f"ran more than once: {r['twice'][:5]}"
    assert not r["lost"], f"answered well and never ran: {r['lost'][:5]}"
    assert len(r["get_bad"]) <= fault.get_bad, f"GETs failed: {r['get_bad'][:5]}"
    assert len(r["post_bad"]) <= fault.post_bad, f"POSTs failed: {r['post_bad'][:5]}"
    assert len(r["broke"]) <= fault.breaks, f"streams broke: {r['broke'][:5]}"
    assert r["get"]["good"] > 0 and min(r["blocks"].values()) > 0, r


def at_once(world, seed, minutes, only=None):
    """Every fault that need not cost the caller a GET, one upon the other, under one load."""
    rnd = random.Random(f"{seed}")
    faults = [f for f in FAULTS if f.get_bad == 0 and (only is None or f.name in only)]
    issued = world.issued()
    changes, began, played = Changes(world.mesh, 10), time.monotonic(), []
    world.begin("once")
    try:
        while time.monotonic() < began + minutes * 60 and world.bad_so_far() == 0:
            fault = rnd.choice(faults)
            start, played = time.monotonic(), [*played, fault.name]
            fault.run(world, rnd)
            world.good_now(20)
            print(f"{now()} {len(played):5} {fault.name:18} {time.monotonic() - start:5.1f} s, GETs bad so far: {world.bad_so_far()}", flush=True)
    finally:
        changes.stop()
        took = time.monotonic() - began
        r = world.end()
    renewed = {name: n - issued[name] for name, n in world.issued().items()}
    print(f"{took:.0f} s at once, {len(played)} faults ({len(set(played))} of {len(faults)} kinds): {told(r)}; {changes.applied} changes"
          f" ({changes.applied / took:.1f}/s, {len(changes.failed)} refused); certificates issued: {renewed}", flush=True)
    try:
        check(r, Fault("all", None))
        # The caller's is never without; one that is frozen or cut off renews when it is back.
        assert all(n >= took / world.lifetime_s / (1 if name == world.web.name else 2) for name, n in renewed.items()), f"renewed too seldom: {renewed}"
        assert changes.applied >= took, f"too few changes were applied: {changes.applied}, {changes.failed[-2:]}"
    except AssertionError as e:
        raise AssertionError(f"{e}\nthe last faults: {played[-5:]}; repeat it: chaos.py --at-once --lifetime {world.lifetime_s:g} --seed {seed}") from None


def play(world, seed, rounds, first=0, only=None, until=None, state=None, each=None):
    faults = [f for f in FAULTS if only is None or f.name in only]
    for number in range(first, each * len(faults) if each else first + rounds):
        if until is not None and time.monotonic() > until:
            break
        fault = faults[number % len(faults)] if each else random.Random(f"{seed}/{number}").choice(faults)
        try:
            one_round(world, fault, seed, number)
        except AssertionError as e:
            names = (f" --only {','.join(only)}" if only else "") + (f" --each {number // len(faults) + 1}" if each else "")
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
    ap.add_argument("--each", type=int)
    ap.add_argument("--minutes", type=float)
    ap.add_argument("--from", dest="first", type=int, default=0)
    ap.add_argument("--only")
    ap.add_argument("--state")
    ap.add_argument("--lifetime", type=float, default=20, help="of certificates, seconds; they are renewed at half of it")
    ap.add_argument("--at-once", action="store_true")
    a = ap.parse_args()
    if a.state and pathlib.Path(a.state).exists():
        a.seed, a.first = map(int, pathlib.Path(a.state).read_text().split())
    if a.rounds == 10**9 and a.minutes is None and a.each is None:
        a.minutes = 5
    print(f"seed {a.seed}, from round {a.first}", flush=True)
    until = time.monotonic() + a.minutes * 60 if a.minutes else None
    with tempfile.TemporaryDirectory(prefix="weft-chaos-") as tmp, Net() as net:
        os.chmod(tmp, 0o755)
        world = World(net, tmp, a.lifetime)
        try:
            world.good_now(20)
            one_round(world, FAULTS[0], a.seed, -1)  # what is made at first use is no leak
            before, only = held(world), a.only.split(",") if a.only else None
            if a.at_once:
                at_once(world, a.seed, a.minutes, only)
            else:
                play(world, a.seed, a.rounds, a.first, only, until, a.state, a.each)
            one_round(world, FAULTS[0], a.seed, -2)
            print(leaked(world, before), flush=True)
        except AssertionError as e:
            print(e, file=sys.stderr)
            keep = evidence(world)
            print(f"logs: {keep}", file=sys.stderr)
            sys.exit(1)
        finally:
            world.close()


if __name__ == "__main__":
    main()
