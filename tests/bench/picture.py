# SPDX-License-Identifier: Apache-2.0
"""build/bench.svg: the ladder as bars, CPU a unit and two hops, one panel a part, at 32 connections (or the only number there is).
    picture.py [bench.json] > docs/bench.svg"""

import json
import sys

from tables import PARTS

WIDTH, BAR, GAP, LEFT = 760, 22, 8, 110
COLOUR = {"weft": "#0b6e4f", "floor-one": "#9aa5b1", "floor-mux": "#9aa5b1"}


def svg(report):
    protos = list(dict.fromkeys(r["proto"] for r in report["runs"]))
    parts, y = [], 40
    for proto in protos:
        of = [r for r in report["runs"] if r["proto"] == proto]
        conns = 32 if any(r["conns"] == 32 for r in of) else of[0]["conns"]
        rows = [r for r in of if r["conns"] == conns and r["cpu_us_per_req"]]
        top = max(r["cpu_us_per_req"] for r in rows)
        parts.append(f'<text x="10" y="{y}" font-weight="bold">{PARTS[proto]}: CPU a {rows[0]["unit"]}, {conns} connection{"s" if conns > 1 else ""}</text>')
        y += 10
        for r in sorted(rows, key=lambda x: x["cpu_us_per_req"]):
            w = (WIDTH - LEFT - 120) * r["cpu_us_per_req"] / top
            parts.append(f'<text x="{LEFT - 8}" y="{y + BAR - 6}" text-anchor="end">{r["peer"]}</text>'
                         f'<rect x="{LEFT}" y="{y}" width="{w:.1f}" height="{BAR}" fill="{COLOUR.get(r["peer"], "#5b7fa6")}"/>'
                         f'<text x="{LEFT + w + 6:.1f}" y="{y + BAR - 6}">{r["cpu_us_per_req"]:.1f} µs</text>')
            y += BAR + GAP
        y += 28
    head = f"CPU of both hops, mTLS, 1 KB where nothing else is said ({report['machine']})"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" font-family="sans-serif" font-size="13">'
            f'<rect width="100%" height="100%" fill="white"/><text x="10" y="18">{head}</text>{"".join(parts)}</svg>\n')


if __name__ == "__main__":
    print(svg(json.load(open(sys.argv[1] if len(sys.argv) > 1 else "build/bench.json"))), end="")
