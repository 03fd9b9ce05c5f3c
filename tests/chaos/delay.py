#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A relay between two network devices that holds every frame for a while, in order: the way is longer, nothing else changes.

    delay.py DEVICE DEVICE LEAST MOST      # milliseconds in each direction; prints "relaying"

Frames keep what the kernel knows of them (a virtio header), so segments that no card has cut or summed yet pass as they are. At most QUEUE frames are under
way in a direction, what comes beyond that is lost, as on any way. Runs where kernels have no netem."""

import collections
import random
import select
import socket
import sys
import time

ETH_P_ALL, SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 3, 263, 15, 23
QUEUE = 4096


def port(device):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    s.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    s.bind((device, 0))
    s.setblocking(False)
    return s


def take(s, queue, least, most):
    """All that has come, each with the time at which it goes on: never before the one ahead of it."""
    try:
        while True:
            frame = s.recv(1 << 17)
            at = time.monotonic() + random.uniform(least, most)
            if len(queue) < QUEUE:
                queue.append((max(at, queue[-1][0] if queue else 0), frame))
    except BlockingIOError:
        pass


def give(s, queue):
    while queue and queue[0][0] <= time.monotonic():
        try:
            s.send(queue.popleft()[1])
        except OSError:
            pass  # the other device is full or gone: lost


def main():
    ends = [port(d) for d in sys.argv[1:3]]
    least, most = (float(a) / 1000 for a in sys.argv[3:5])
    queues = [collections.deque(), collections.deque()]
    print("relaying", flush=True)
    while True:
        first = min((q[0][0] for q in queues if q), default=None)
        wait = None if first is None else max(0, first - time.monotonic())
        for s in select.select(ends, [], [], wait)[0]:
            take(s, queues[ends.index(s)], least, most)
        for i, q in enumerate(queues):
            give(ends[1 - i], q)


if __name__ == "__main__":
    main()
