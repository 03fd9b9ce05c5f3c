# SPDX-License-Identifier: Apache-2.0
"""The load, on core 0: wrk for HTTP/1.1 and TCP, h2load for HTTP/2 and gRPC, bulk.py for one stream. Each function drives one rung with so many
connections for so many seconds and answers (how many units, p50_us, p99_us, units a second). A run in which an answer was not good ends the bench."""

import pathlib
import re
import urllib.parse

from usage import on_core

BULK = str(pathlib.Path(__file__).with_name("bulk.py"))
MB = 1000000


def _duration_us(text):
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(value) * {"us": 1, "ms": 1000, "s": 1000000}[unit]


def _wrk(rung, path, conns, seconds, *more):
    out = rung.client.run(on_core(0, ["wrk", "-t1", f"-c{conns}", f"-d{seconds}s", "--latency", *more, rung.url + path]), timeout=seconds + 20).stdout
    if re.search(r"Socket errors|Non-2xx|\b0 requests in|nan", out):
        raise SystemExit(f"bench: {rung.name}, {rung.url}{path}: {out}")
    return (int(re.search(r"(\d+) requests in", out).group(1)), _duration_us(re.search(r"^\s+50%\s+(\S+)", out, re.M).group(1)),
            _duration_us(re.search(r"^\s+99%\s+(\S+)", out, re.M).group(1)), float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)))


def http1(rung, part, conns, seconds, tmp):
    return _wrk(rung, part.path, conns, seconds)


def http1_new(rung, part, conns, seconds, tmp):
    """Each request on a new connection of the client's."""
    return _wrk(rung, part.path, conns, seconds, "-H", "Connection: close")


def _h2load(rung, part, clients, streams, seconds, tmp, more):
    log = pathlib.Path(tmp) / "h2load.log"
    log.unlink(missing_ok=True)
    argv = ["h2load", f"-c{clients}", f"-m{streams}", "-t1", f"-D{seconds}", f"--log-file={log}", *more, rung.url + part.path]
    out = rung.client.run(on_core(0, argv), timeout=seconds + 30).stdout
    n = _answered(out, part.body, "--h1" in more)
    if n == 0:
        raise SystemExit(f"bench: {rung.name}, {rung.url}{part.path}: {out}")
    took = sorted(int(line.split()[2]) for line in open(log))
    return n, took[len(took) // 2], took[len(took) * 99 // 100], n / seconds


def _answered(out, body, h1):
    """How many requests h2load got a good answer to; 0 when one failed. In HTTP/1.1 it does not see the status of an answer without a reason phrase, as
    haproxy sends them: there every request must have ended, and with as many bytes."""
    m = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", out)
    done, good, failed, errored, late = map(int, m.groups()) if m else (0, 0, 1, 0, 0)
    if re.search(r"[1-9]\d* [345]xx", out) or errored + late > 0:
        return 0
    if h1 and good == 0:
        data = re.search(r"\((\d+)\) data", out)
        return done if data and int(data.group(1)) == done * body else 0
    return good if failed == 0 else 0


def _grpc_args(tmp):
    body = pathlib.Path(tmp) / "message"
    body.write_bytes(b"\0\0\0\0\x10" + b"m" * 16)
    return ["-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"]


def http2(rung, part, conns, seconds, tmp, more=()):
    """At most 8 connections, the rest as streams on them (what HTTP/2 clients do)."""
    clients = min(conns, 8)
    return _h2load(rung, part, clients, max(1, conns // clients), seconds, tmp, more)


def grpc(rung, part, conns, seconds, tmp):
    return http2(rung, part, conns, seconds, tmp, _grpc_args(tmp))


def low_rate(rung, part, rate, seconds, tmp):
    """Open loop: one connection, `rate` requests a second whatever becomes of them."""
    more = [f"--rps={rate}", *({"h1": ["--h1"], "tcp": ["--h1"], "grpc": _grpc_args(tmp)}.get(part.kind, []))]
    return _h2load(rung, part, 1, 1, seconds, tmp, more)


def _bulk(rung, seconds, way):
    to = urllib.parse.urlsplit(rung.url)
    out = rung.client.run(on_core(0, ["/usr/bin/python3", BULK, "load", to.hostname, to.port, seconds, way]), timeout=seconds + 20).stdout
    got, took = out.split()
    return float(got) / MB, 0, 0, float(got) / MB / float(took)


def bulk_down(rung, part, conns, seconds, tmp):
    return _bulk(rung, seconds, "down")


def bulk_up(rung, part, conns, seconds, tmp):
    return _bulk(rung, seconds, "up")
