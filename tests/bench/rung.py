# SPDX-License-Identifier: Apache-2.0
"""One rung of the ladder: where its client goes, whose CPU and memory count, and what was measured on it."""

import statistics

import load
from usage import cpu_ns, pin, pss_kb

LOW_RATE = 200  # requests a second, one connection


class Rung:
    """`times`: how many times the connections of the others it is given (one for each of its threads)."""

    def __init__(self, name, client, url, pids, times=1):
        self.name, self.client, self.url, self.pids, self.times = name, client, url, pids, times
        self.idle = pss_kb(pids) if pids else 0
        self.samples = {}  # (part, conns): what each round gave
        self.low = {}
        self.counted = 0  # requests that the client got answers to
        self.unread = 0  # at most so many more were answered: a closed loop ends in the middle of one on each connection

    def _run(self, part, conns, seconds, tmp):
        r = part.load(self, part, conns * self.times, seconds, tmp)
        self.counted += r[0]
        self.unread += conns * self.times
        return r

    def warm_up(self, part, conns, tmp):
        self._run(part, conns, 1, tmp)

    def round(self, part, conns, seconds, tmp):
        if part.one_core:
            pin(self.pids, 0)
        before = cpu_ns(self.pids)
        n, p50, p99, rate = self._run(part, conns, seconds, tmp)
        used = cpu_ns(self.pids) - before
        if part.one_core:
            pin(self.pids, 1)
        self.samples.setdefault((part.name, conns), []).append(
            {"cpu": used / n / 1000, "p50": p50, "p99": p99, "rate": rate, "pss": pss_kb(self.pids) if self.pids else 0})

    def low_rate(self, part, tmp):
        n, p50, p99, _ = load.low_rate(self, part, LOW_RATE, 2, tmp)
        self.counted += n
        self.low[part.name] = {"rps": LOW_RATE, "p50_us": p50, "p99_us": p99}

    def result(self, part, conns):
        s = self.samples[part.name, conns]
        mid = lambda key: statistics.median(x[key] for x in s)  # noqa: E731
        r = {"peer": self.name, "proto": part.name, "conns": conns, "body": part.body, "unit": part.unit, "cpu_us_per_req": round(mid("cpu"), 2),
             "p50_us": mid("p50"), "p99_us": mid("p99"), "rps": round(mid("rate")), "pss_idle_kb": self.idle,
             "pss_load_kb": max(x["pss"] for x in s)}
        if part.name in self.low and conns == part.conns[0]:
            r["low_rate"] = self.low[part.name]
        return r
