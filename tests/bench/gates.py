# SPDX-License-Identifier: Apache-2.0
"""What is promised of the figures, a row each: which figure, of which part and number of connections, and its limit. A gate that is missed is
said; it does not end the bench, for what is wanted of a bench is its figures. One whose part was not run says nothing.

Figures are ratios of Weft to a bare relay or a peer within the same run (perf.md of the project says why only those mean something)."""

import typing


def _cpu(of):
    return lambda rungs: rungs["weft"]["cpu_us_per_req"] / rungs[of]["cpu_us_per_req"]


def _rate(of):
    return lambda rungs: rungs["weft"]["rps"] / rungs[of]["rps"]


def _added_p50(of):
    """What two hops add to the p50 of the way without any."""
    return lambda rungs: (rungs["weft"]["p50_us"] - rungs["direct"]["p50_us"]) / (rungs[of]["p50_us"] - rungs["direct"]["p50_us"])


def _two_threads(rungs):
    return rungs["weft-2"]["cpu_us_per_req"] / rungs["weft"]["cpu_us_per_req"]


class Gate(typing.NamedTuple):
    text: str
    part: str
    conns: int
    figure: typing.Callable
    limit: float
    at_least: bool = False


GATES = (
    Gate("HTTP/1.1: CPU a request / multiplexing relay", "h1", 32, _cpu("floor-mux"), 1.6),
    Gate("HTTP/1.1: CPU a request / nghttpx", "h1", 32, _cpu("nghttpx"), 1.0),
    Gate("HTTP/1.1, 16 KB: CPU a request / multiplexing relay", "h1-16k", 32, _cpu("floor-mux"), 1.4),
    Gate("HTTP/1.1, new connections: CPU of each / multiplexing relay", "h1-new", 32, _cpu("floor-mux"), 1.5),
    Gate("HTTP/1.1, new connections: how many a second / multiplexing relay", "h1-new", 32, _rate("floor-mux"), 0.67, True),
    Gate("HTTP/1.1, one connection, one core: added p50 / multiplexing relay", "h1-core", 1, _added_p50("floor-mux"), 1.3),
    Gate("HTTP/1.1: CPU a request, two worker threads / one", "threads", 32, _two_threads, 1.1),
    Gate("HTTP/2: CPU a request / multiplexing relay", "h2c", 32, _cpu("floor-mux"), 1.8),
    Gate("HTTP/2, 16 KB: CPU a request / multiplexing relay", "h2c-16k", 32, _cpu("floor-mux"), 1.4),
    Gate("gRPC: CPU a request / multiplexing relay", "grpc", 32, _cpu("floor-mux"), 1.8),
    Gate("TCP: CPU a request / one-connection-each relay", "tcp", 32, _cpu("floor-one"), 1.15),
    Gate("TCP, one stream down: bytes a second / one-connection-each relay", "bulk-down", 1, _rate("floor-one"), 0.9, True),
    Gate("TCP, one stream up: bytes a second / one-connection-each relay", "bulk-up", 1, _rate("floor-one"), 0.9, True),
)


def judge(runs):
    """The gates whose figures are there: [{"gate", "figure", "limit", "met"}]."""
    out = []
    for g in GATES:
        rungs = {r["peer"]: r for r in runs if r["proto"] == g.part and r["conns"] == g.conns}
        if not rungs:
            continue
        figure = round(g.figure(rungs), 2)
        out.append({"gate": g.text, "figure": figure, "limit": ("at least " if g.at_least else "at most ") + str(g.limit),
                    "met": figure >= g.limit if g.at_least else figure <= g.limit})
    return out
