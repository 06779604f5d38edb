"""A connection to a database server that a test can cut at any moment, and restore."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from tests.system.shop import free_port

PORTS = {"postgresql": 5432, "mysql": 3306}


class Cable:
    """Carries bytes between a port of its own and a server.

    Args:
        url: The database, as a client beside the server would name it.
    """

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url)
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._words: bytes | None = None
        self._heard = False
        self._port = free_port()  # it is listened on again when the cable is mended
        self._listener: socket.socket | None = None
        self.mend()

    @property
    def url(self) -> str:
        """The database by way of this cable."""
        bare = self._url.set(host="127.0.0.1", port=self._port, query={})
        return bare.render_as_string(hide_password=False)

    def cut_at(self, words: bytes, *, heard: bool = False) -> None:
        """Cut when a client sends what this pattern finds.

        Args:
            words: The pattern.
            heard: Whether the server still gets it. The client gets no answer either way.
        """
        self._words, self._heard = words, heard

    def cut(self) -> None:
        """Break all connections, and refuse new ones; does nothing where that was done."""
        with self._lock:
            listener, self._listener = self._listener, None
            if listener is not None:
                listener.shutdown(socket.SHUT_RDWR)
                listener.close()
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._sockets.clear()

    def mend(self) -> None:
        """Let connections through again."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # cut
                return
            server = self._server()
            with self._lock:
                if listener is not self._listener:  # cut since the client came
                    client.close()
                    server.close()
                    return
                self._sockets += [client, server]
            threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self._words is not None and re.search(self._words, data):
                    self._words = None
                    if self._heard:
                        source.shutdown(socket.SHUT_RDWR)  # no answer finds its way back
                        sink.sendall(data)
                    self.cut()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def _server(self) -> socket.socket:
        port = self._url.port or PORTS[self._url.get_backend_name()]
        folder = self._url.host or self._url.query.get("host")
        if isinstance(folder, str) and folder.startswith("/"):
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            server.connect(str(Path(folder, f".s.PGSQL.{port}")))
            return server
        return socket.create_connection((self._url.host or "127.0.0.1", port))


@contextlib.contextmanager
def cable(url: str) -> Iterator[Cable]:
    """Lay a cable for the time of the block."""
    laid = Cable(url)
    try:
        yield laid
    finally:
        laid.cut()
