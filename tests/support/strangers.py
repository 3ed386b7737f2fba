"""Connections of strangers to a listener on loopback: garbage, no TLS, a wrong certificate, or nothing."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Self

from tests.support.patience import PATIENCE

GARBAGE = b"\x16\x03\x01\xff\xff" + b"z" * 4000
PLAIN = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
KINDS = ("garbage", "no TLS", "wrong certificate", "nothing")


class Strangers:
    """Open connections of strangers; a context manager that closes them.

    Args:
        address: "host:port" of the listener.
        certificates: a folder with own.key and own.crt that the listener does not know.
    """

    def __init__(self, address: str, certificates: Path) -> None:
        host, port = address.rsplit(":", 1)
        self._target = (host, int(port))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._context.set_alpn_protocols(["h2"])
        self._context.load_cert_chain(certificates / "own.crt", certificates / "own.key")
        self._stack = contextlib.ExitStack()
        self.opened: list[tuple[str, socket.socket]] = []

    def come(self, count: int) -> None:
        """Open connections, the kinds in turn; each says what it has to say and stays."""
        for kind in islice(cycle(KINDS), count):
            line = self._stack.enter_context(socket.create_connection(self._target, timeout=PATIENCE))
            with contextlib.suppress(OSError):  # it may be shown the door at once
                if kind == "garbage":
                    line.sendall(GARBAGE)
                elif kind == "no TLS":
                    line.sendall(PLAIN)
                elif kind == "wrong certificate":
                    line = self._stack.enter_context(self._context.wrap_socket(line))
            self.opened.append((kind, line))

    def shown_out(self) -> Iterator[bool]:
        """Wait for each connection's end; yield whether the listener ended it."""
        for _, line in self.opened:
            try:
                while line.recv(4096):
                    continue  # TLS alerts
            except TimeoutError:
                yield False
            except OSError:
                yield True
            else:
                yield True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
