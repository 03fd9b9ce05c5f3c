# SPDX-License-Identifier: Apache-2.0
"""The parts of the bench, a row each: what is asked of every rung that can. `kind` says which listeners and origins it goes through; parts of one kind
stand together and share their rungs. `ladder` parts are the whole of it: 1, 32 and 256 connections, and a fixed low rate."""

import typing

import load


class Part(typing.NamedTuple):
    name: str
    kind: str  # h1, h2c, grpc, tcp, bulk
    load: typing.Callable
    unit: str = "request"
    path: str = "/"
    body: int = 1024
    conns: tuple = (32,)
    ladder: bool = False
    one_core: bool = False  # client, origin and proxies on one core: no wake-up crosses cores
    threads: bool = False  # Weft alone: one worker thread against two with as many connections each
    seconds: int = 2


LADDER = {"conns": (1, 32, 256), "ladder": True}
PARTS = (
    Part("h1", "h1", load.http1, **LADDER),
    Part("h1-16k", "h1", load.http1, path="/16k", body=16384),
    Part("h1-new", "h1", load.http1_new, unit="connection"),
    Part("h1-core", "h1", load.http1, conns=(1,), one_core=True),
    Part("threads", "h1", load.http1, threads=True, seconds=3),
    Part("h2c", "h2c", load.http2, **LADDER),
    Part("h2c-16k", "h2c", load.http2, path="/16k", body=16384),
    Part("grpc", "grpc", load.grpc, path="/index.html", **LADDER),
    Part("tcp", "tcp", load.http1, **LADDER),
    Part("bulk-down", "bulk", load.bulk_down, unit="MB", body=0, conns=(1,)),
    Part("bulk-up", "bulk", load.bulk_up, unit="MB", body=0, conns=(1,)),
)
KINDS = ("h1", "h2c", "grpc", "tcp", "bulk")
