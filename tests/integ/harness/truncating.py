# SPDX-License-Identifier: Apache-2.0
"""A TLS server on an unmeshed host that shows a credential of the mesh, says something, and ends the connection beneath TLS: no close_notify."""

import contextlib
import os
import socket
import ssl
import threading


class Truncating:
    def __init__(self, host, port, credential, folder, says, alpn="weft1-tcp"):
        self.says = says
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        crt, key, _ = credential.write(folder, "truncating")
        self.context.load_cert_chain(crt, key)
        self.context.set_alpn_protocols([alpn])
        with host.inside():
            self.sock = socket.create_server(("", port))
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            try:
                s, _ = self.sock.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                t = self.context.wrap_socket(s, server_side=True)
                t.recv(1)
                t.sendall(self.says)
                os.close(t.detach())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.thread.join(5)
