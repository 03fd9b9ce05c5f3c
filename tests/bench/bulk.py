# SPDX-License-Identifier: Apache-2.0
"""One TCP stream as fast as it goes.
    bulk.py serve PORT                      an origin: a connection that begins with "d" is sent bytes; one with "u" and a digit is read for so many seconds,
                                            told how much came, and read on
    bulk.py load IP PORT SECONDS down|up    prints the bytes that arrived and the seconds that they took
Nobody ends one side alone: a bare relay need not know how."""

import select
import socket
import sys
import threading
import time

PIECE = 1 << 18  # as large as a read or write of this Python gets: nothing but the kernel is to be measured


def send(s):
    """Until the other side says something."""
    piece = b"x" * PIECE
    while not select.select([s], [], [], 0)[0]:
        s.send(piece)


def receive(s, seconds):
    """(bytes, seconds) from the first byte on."""
    piece, got = bytearray(PIECE), s.recv_into(bytearray(1))
    start = time.monotonic()
    while time.monotonic() < start + seconds and (n := s.recv_into(piece)) > 0:
        got += n
    return got, time.monotonic() - start


def one(s):
    with s:
        try:
            if s.recv(1) == b"d":
                send(s)
            else:
                s.sendall(b"%d %f\n" % receive(s, int(s.recv(1))))
                receive(s, float("inf"))
        except OSError:  # the client has had enough
            return


def serve(port):
    listener = socket.create_server(("", port), backlog=64)
    while True:
        threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()


def load(ip, port, seconds, way):
    with socket.create_connection((ip, port)) as s:
        s.sendall(b"d" if way == "down" else b"u%d" % seconds)
        if way == "down":
            print(*receive(s, seconds))
        else:
            send(s)
            print(s.makefile().readline())


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        load(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
