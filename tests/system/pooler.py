"""A pooler by transaction, as PgBouncer is one: each transaction of a client gets the next of a few server sessions."""

from __future__ import annotations

import queue
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

import sqlalchemy as sa

from tests.system.fake_database import exactly, serving, startup

_SETTINGS = {
    "server_version": "15.0",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "integer_datetimes": "on",
    "DateStyle": "ISO, MDY",
    "TimeZone": "UTC",
}
PATIENCE = 60.0
"""Seconds in which a server answers."""
_numbers = count(1_000_000)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _read(server: socket.socket) -> bytes:
    head = exactly(server, 5)
    return head + exactly(server, struct.unpack("!i", head[1:])[0] - 4)


def _log_in(url: sa.URL) -> socket.socket:
    host = str(url.query.get("host") or url.host)
    if host.startswith("/"):
        server = socket.socket(socket.AF_UNIX)
        server.settimeout(PATIENCE)
        server.connect(f"{host}/.s.PGSQL.{url.port or 5432}")
    else:
        server = socket.create_connection((host, url.port or 5432), timeout=PATIENCE)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    names = {"user": url.username or "postgres", "database": url.database or "postgres"}
    body = struct.pack("!i", 196608) + b"".join(f"{key}\0{value}\0".encode() for key, value in names.items()) + b"\0"
    server.sendall(struct.pack("!i", len(body) + 4) + body)
    while not _read(server).startswith(b"Z"):
        pass
    return server


@contextmanager
def pooling(url: str, sessions: int = 2) -> Iterator[str]:
    """Stand before a PostgreSQL database for the time of the block; yields the URL to connect to instead."""
    parsed = sa.make_url(url)
    servers = [_log_in(parsed) for _ in range(sessions)]
    free: queue.Queue[socket.socket] = queue.Queue()
    for server in servers:
        free.put(server)
    stop = threading.Event()

    def answer(client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        startup(client)
        client.settimeout(None)
        settings = b"".join(_message(b"S", f"{key}\0{value}\0".encode()) for key, value in _SETTINGS.items())
        own = struct.pack("!ii", next(_numbers), 1)
        client.sendall(_message(b"R", struct.pack("!i", 0)) + settings + _message(b"K", own) + _message(b"Z", b"I"))
        while not stop.is_set():
            if not select.select([client], [], [], 0.2)[0]:
                continue
            data = client.recv(65536)
            if not data or data.startswith(b"X"):
                return
            server = free.get(timeout=30)
            try:
                _transaction(client, server, data)
            finally:
                free.put(server)

    with serving(answer) as port:
        try:
            yield parsed.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
        finally:
            stop.set()
            for server in servers:
                with suppress(OSError):
                    server.close()


def _transaction(client: socket.socket, server: socket.socket, data: bytes) -> None:
    """Carry messages both ways until the server says that no transaction is open."""
    server.sendall(data)
    while True:
        ready = select.select([client, server], [], [], PATIENCE)[0]
        if server in ready:
            message = _read(server)
            client.sendall(message)
            if message.startswith(b"Z") and message.endswith(b"I"):
                return
        if client in ready:
            data = client.recv(65536)
            if not data or data == b"X\0\0\0\4":
                server.sendall(_message(b"Q", b"ROLLBACK\0"))
                while not _read(server).startswith(b"Z"):
                    pass
                return
            server.sendall(data)
        if not ready:
            raise TimeoutError
