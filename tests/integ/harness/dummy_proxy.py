# SPDX-License-Identifier: Apache-2.0
"""A proxy of a hundred lines for tests of the capture: no TLS, no policy, only what the ABI (bpf/abi.h) asks of a proxy.

Modes (argv[1]): "relay" dials the original destination; between two of them the bytes travel with every bit flipped, so that a plaintext
marker on the wire proves a leak. "plain" does not flip (for peers outside the mesh). "tell" answers with the original destination and
holds the connection. "idle" never accepts. It runs as UID 4800 under `weft-capture exec`, with what it inherited."""

import asyncio
import os
import resource
import socket
import struct
import sys

SOL, EXEMPT, CLIENT, ORIGINAL_DST = 0x5745, 1, 2, 80
OWN_PORTS = {4806, 4820, *range(4830, 4838)}
FLIP = bytes(b ^ 0xFF for b in range(256))

mode = sys.argv[1]
fds = [(name, int(fd)) for name, fd in (item.split(":") for item in os.environ["WEFT_FDS"].split(","))]
token = os.pread(dict(fds)["token"], 16, 0)


def say(*words):
    print(*words, flush=True)


def original(sock):
    """What the application dialled, as (family, address, port); None when this is no captured connection."""
    try:
        if sock.family == socket.AF_INET6:
            raw = sock.getsockopt(socket.IPPROTO_IPV6, ORIGINAL_DST, 28)
            return socket.AF_INET6, socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack("!H", raw[2:4])[0]
        raw = sock.getsockopt(socket.IPPROTO_IP, ORIGINAL_DST, 16)
        return socket.AF_INET, socket.inet_ntoa(raw[4:8]), struct.unpack("!H", raw[2:4])[0]
    except OSError as e:
        say("none", e.errno)
        return None


def unmapped(name):
    """(family, address, port) of a socket name, v4-mapped told as IPv4."""
    host = name[0].removeprefix("::ffff:") if "." in name[0] else name[0]
    return (socket.AF_INET6 if ":" in host else socket.AF_INET), host, name[1]


async def dial(family, host, port, source=None, client=None):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.setblocking(False)
    s.setsockopt(SOL, EXEMPT, token)
    if client:
        cfam, chost, cport = client
        s.setsockopt(SOL, CLIENT, token + struct.pack("=H", cfam) + struct.pack("!H", cport) +
                     socket.inet_pton(cfam, chost).ljust(16, b"\0"))
    if source:
        s.bind((source, 0))
    try:
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(s, (host, port)), 5)
    except BaseException:
        s.close()
        raise
    return await asyncio.open_connection(sock=s)


async def copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data if mode == "plain" else data.translate(FLIP))
        await writer.drain()
    writer.write_eof()


async def relay(client, upstream):
    done = await asyncio.gather(copy(client[0], upstream[1]), copy(upstream[0], client[1]), return_exceptions=True)
    for _, w in (client, upstream):
        if any(isinstance(d, Exception) for d in done):
            w.transport.abort()
        w.close()


async def outbound(reader, writer):
    to = original(writer.get_extra_info("socket"))
    if to is None:
        writer.transport.abort()
        return
    if mode == "tell":
        writer.write(f"{to[1]} {to[2]}\n".encode())
        return
    say("out", to[1], to[2])
    try:
        upstream = await dial(*to)
    except OSError as e:
        say("failed", to[1], to[2], e)
        writer.transport.abort()
        return
    await relay((reader, writer), upstream)


async def inbound(reader, writer):
    sock = writer.get_extra_info("socket")
    to, client = unmapped(sock.getsockname()), unmapped(sock.getpeername())
    say("in", to[1], to[2], "from", client[1], client[2])
    if to[2] in OWN_PORTS:
        writer.transport.abort()
        return
    try:
        upstream = await dial(*to, source=to[1] if to[0] == socket.AF_INET6 else "127.0.0.6", client=client)
    except OSError as e:
        say("failed", to[1], to[2], e)
        writer.transport.abort()
        return
    await relay((reader, writer), upstream)


async def main():
    handlers = {"out": outbound, "in": inbound}
    servers = [await asyncio.start_server(handlers[name], sock=socket.socket(fileno=fd), backlog=4096)
               for name, fd in fds if name in handlers]
    say("serving", len(servers))
    await asyncio.gather(*(s.serve_forever() for s in servers))


hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
if mode == "idle":
    say("serving", 0)
    while True:
        sys.stdin.read()
        import time
        time.sleep(1000)
asyncio.run(main())
