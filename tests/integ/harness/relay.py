# SPDX-License-Identifier: Apache-2.0
"""A relay that speaks the hop for a program that cannot: plain bytes in, mutual TLS with a certificate of the mesh and ALPN out.

    with TlsRelay(host, credential, folder, orders.host.ip4, 8080) as port:      # listens on 127.0.0.1:port of `host`
        host.run(["h2spec", "-h", "127.0.0.1", "-p", str(port)])

It ends each side when the other has ended, in order or not, and changes nothing between."""

import asyncio
import contextlib
import socket
import ssl
import threading


def client_context(credential, folder, alpn="weft1-h2", name="relay"):
    """An SSLContext that shows `credential` and offers `alpn`; whom it talks to is not checked."""
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    crt, key, _ = credential.write(folder, name)
    c.load_cert_chain(crt, key)
    if alpn:
        c.set_alpn_protocols([alpn] if isinstance(alpn, str) else alpn)
    return c


class TlsRelay:
    def __init__(self, host, credential, folder, address, port, alpn="weft1-h2"):
        self.host, self.to = host, (address, port)
        self.context = client_context(credential, folder, alpn)
        with host.inside():
            self.sock = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.sock.getsockname()[1]
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._serve, sock=self.sock))
        self.loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self.loop)
        for t in tasks:
            t.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()

    async def _serve(self, reader, writer):
        up_writer = None
        with contextlib.suppress(OSError):
            s = self.host.connect(*self.to)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.setblocking(False)
            up_reader, up_writer = await asyncio.open_connection(sock=s, ssl=self.context, server_hostname="")
            ways = [asyncio.ensure_future(self._move(reader, up_writer)), asyncio.ensure_future(self._move(up_reader, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for w in ways:
                w.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        for w in filter(None, (up_writer, writer)):
            w.close()

    @staticmethod
    async def _move(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    def __enter__(self):
        self.thread.start()
        return self.port

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
