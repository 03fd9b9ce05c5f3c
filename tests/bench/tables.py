# SPDX-License-Identifier: Apache-2.0
"""The figures as text: `report(...)` is what the bench prints. Run by itself it makes Markdown of build/bench.json for the README: the ladder of HTTP/1.1
at 32 connections, the gates, and the other parts.
    tables.py [bench.json]"""

import json
import sys

NAMES = {"floor-one": "bare relay, one connection each", "floor-mux": "bare relay, multiplexing", "direct": "no proxy", "weft": "**Weft**",
         "weft-2": "Weft, two threads", "haproxy": "haproxy 2.6", "nghttpx": "nghttpx 1.52", "nginx": "nginx 1.22"}
PARTS = {"h1": "HTTP/1.1", "h1-16k": "HTTP/1.1, 16 KB answers", "h1-new": "HTTP/1.1, each request on a new connection", "h1-core": "HTTP/1.1, all on one core",
         "threads": "HTTP/1.1, worker threads", "h2c": "HTTP/2", "h2c-16k": "HTTP/2, 16 KB answers", "grpc": "gRPC", "tcp": "opaque TCP",
         "bulk-down": "one TCP stream down", "bulk-up": "one TCP stream up"}


def beside(report, r):
    """The rungs that were measured with the same load, by name."""
    return {x["peer"]: x for x in report["runs"] if x["proto"] == r["proto"] and x["conns"] == r["conns"]}


def times(report, r, floor):
    """Its CPU as a multiple of a floor's, as text."""
    of = beside(report, r).get(floor)
    return f"{r['cpu_us_per_req'] / of['cpu_us_per_req']:.2f}" if of and r["cpu_us_per_req"] else "-"


def text(report):
    out = [f"{'part':<10}{'peer':<10} {'conns':>5} {'CPU us/unit':>12} {'x floor-mux':>12} {'x floor-one':>12} {'p50 us':>8} {'p99 us':>8} {'units/s':>8} "
           f"{'unit':<10} {'PSS idle':>9} {'load kB':>8}"]
    for r in report["runs"]:
        out.append(f"{r['proto']:<10}{r['peer']:<10} {r['conns']:>5} {r['cpu_us_per_req']:>12.2f} {times(report, r, 'floor-mux'):>12} "
                   f"{times(report, r, 'floor-one'):>12} {r['p50_us']:>8.0f} {r['p99_us']:>8.0f} {r['rps']:>8} {r['unit']:<10} {r['pss_idle_kb']:>9} "
                   f"{r['pss_load_kb']:>8}")
    out += ["", *(f"{'met' if g['met'] else 'MISSED':<7} {g['figure']:>6.2f}  {g['limit']:<14} {g['gate']}" for g in report["gates"])]
    return "\n".join(out)


def _row(cells):
    return "| " + " | ".join(str(c) for c in cells) + " |"


def _head(cells):
    return [_row(cells), "|" + "---|" * len(cells)]


def _ladder(report):
    rows = [r for r in report["runs"] if r["proto"] == "h1" and r["conns"] == 32 and r["cpu_us_per_req"]]
    out = _head(["", "CPU per request, both hops", "× bare multiplexing relay", "p50", "requests/s", "idle memory (PSS), both hops"])
    floors = {"floor-one": 0, "floor-mux": 1}
    for r in sorted(rows, key=lambda r: (floors.get(r["peer"], 2), r["cpu_us_per_req"])):
        cells = [f"{r['cpu_us_per_req']:.1f} µs", times(report, r, "floor-mux"), f"{r['p50_us']:.0f} µs", f"{r['rps']:,}", f"{r['pss_idle_kb'] / 1000:.1f} MB"]
        out.append(_row([NAMES[r["peer"]], *(f"**{c}**" if r["peer"] == "weft" else c for c in cells)]))
    return out


def _gates(report):
    out = _head(["figure, Weft / other", "measured", "limit", ""])
    return out + [_row([g["gate"], f"{g['figure']:.2f}", g["limit"], "met" if g["met"] else "**missed**"]) for g in report["gates"]]


def _others(report):
    """A row a part and number of connections, a column a peer: CPU a unit and units a second."""
    peers = list(dict.fromkeys(r["peer"] for r in report["runs"]))
    out = _head(["CPU a unit; units a second", "connections", *(NAMES[p].strip("*") for p in peers)])
    for proto, conns in dict.fromkeys((r["proto"], r["conns"]) for r in report["runs"]):
        rungs = {r["peer"]: r for r in report["runs"] if (r["proto"], r["conns"]) == (proto, conns)}
        unit = next(iter(rungs.values()))["unit"]
        cell = lambda p: f"{rungs[p]['cpu_us_per_req']:.1f} µs; {rungs[p]['rps']:,}" if p in rungs else "–"  # noqa: E731
        out.append(_row([f"{PARTS[proto]} ({unit})", conns, *(cell(p) for p in peers)]))
    return out


def markdown(report):
    return "\n\n".join("\n".join(f(report)) for f in (_ladder, _gates, _others))


if __name__ == "__main__":
    print(markdown(json.load(open(sys.argv[1] if len(sys.argv) > 1 else "build/bench.json"))))
