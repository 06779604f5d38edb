"""Servers that turn every client away: as PostgreSQL in any language, as a pooler, or as MySQL would."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SSL_REQUEST = 80877103

Answer = Callable[[socket.socket], None]


@contextmanager
def serving(answer: Answer) -> Iterator[int]:
    """Answer every client in a thread of its own for the time of the block; yields the port."""
    server = socket.create_server(("127.0.0.1", 0))

    def one(client: socket.socket) -> None:
        with client, suppress(OSError, EOFError):
            client.settimeout(20)
            answer(client)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


def exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = client.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def startup(client: socket.socket) -> bytes:
    """Read a client's startup message; TLS is declined."""
    return started(client, None)[1]


def started(client: socket.socket, tls: ssl.SSLContext | None) -> tuple[socket.socket, bytes]:
    """Read a client's startup message, over TLS where it asks for that and there is a context for it."""
    while True:
        (size,) = struct.unpack("!i", exactly(client, 4))
        body = exactly(client, size - 4)
        if struct.unpack("!i", body[:4])[0] != SSL_REQUEST:
            return client, body
        client.sendall(b"N" if tls is None else b"S")
        client = client if tls is None else tls.wrap_socket(client, server_side=True)


def postgres_refusing(state: str, words: str, severity: str = "FATAL") -> Answer:
    """A PostgreSQL, or a pooler, that answers every client with this error."""

    def answer(client: socket.socket) -> None:
        startup(client)
        fields = {"S": severity, "V": "FATAL", "C": state, "M": words}
        body = b"".join(name.encode() + value.encode() + b"\0" for name, value in fields.items()) + b"\0"
        client.sendall(b"E" + struct.pack("!i", len(body) + 4) + body)

    return answer


def mysql_packet(number: int, body: bytes) -> bytes:
    return struct.pack("<I", len(body))[:3] + bytes([number]) + body


def mysql_greeting(plugin: bytes) -> bytes:
    """Return the greeting of a MySQL without TLS that checks passwords with this plug-in."""
    flags = (0x000FFFFF | 1 << 19 | 1 << 15) & ~(1 << 11)
    low, high = struct.pack("<H", flags & 0xFFFF), struct.pack("<HH", 2, flags >> 16)
    first = b"\x0a8.0.36\0" + struct.pack("<I", 7) + b"12345678\0" + low + b"\x21"
    return first + high + bytes([21]) + b"\0" * 10 + b"901234567890\0" + plugin + b"\0"


def mysql_refusing(number: int, words: str) -> Answer:
    """A MySQL that answers every client with this error instead of a greeting."""

    def answer(client: socket.socket) -> None:
        client.sendall(mysql_packet(0, b"\xff" + struct.pack("<H", number) + b"#HY000" + words.encode()))

    return answer


def silent(client: socket.socket) -> None:
    """A server that hangs up at the client's first word, without an answer."""
    client.recv(1)


def mysql_with_sha2(client: socket.socket) -> None:
    """A MySQL 8 over plain TCP, up to the moment when the client has to encrypt the password with the server's key."""
    key = (
        b"-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALRiMLAHudeSA/x3hB2f+2NRkJLA9yMZ\n"
        b"-----END PUBLIC KEY-----\n"
    )
    number = -1
    for body in (mysql_greeting(b"caching_sha2_password"), b"\x01\x04", b"\x01" + key):
        client.sendall(mysql_packet(number + 1, body))
        answer = client.recv(4096)
        if not answer:
            return
        number = answer[3]


def postgres_asking_for_a_password(heard: list[bytes], tls: ssl.SSLContext | None = None) -> Answer:
    """A false PostgreSQL that asks for the password in the clear; what the client sends goes to `heard`."""

    def answer(client: socket.socket) -> None:
        with started(client, tls)[0] as asked:
            asked.sendall(b"R" + struct.pack("!ii", 8, 3))
            heard.append(asked.recv(4096))

    return answer


def mysql_asking_for_a_password(heard: list[bytes], plugin: bytes) -> Answer:
    """A false MySQL that asks for the password by a plug-in that sends it in the clear; see above."""

    def answer(client: socket.socket) -> None:
        client.sendall(mysql_packet(0, mysql_greeting(b"mysql_native_password")))
        number = client.recv(4096)[3]
        client.sendall(mysql_packet(number + 1, b"\xfe" + plugin + b"\0\x02Password: "))
        heard.append(client.recv(4096))

    return answer


def in_front_of_postgres(path: str, tls: ssl.SSLContext | None) -> Answer:
    """A way to a PostgreSQL that listens on a socket file, with TLS or without."""

    def answer(client: socket.socket) -> None:
        plain, body = started(client, tls)
        with plain, socket.socket(socket.AF_UNIX) as server:
            server.connect(path)
            server.sendall(struct.pack("!i", len(body) + 4) + body)
            relay(plain, server)

    return answer


def in_front_of_mysql(address: tuple[str, int], tls: ssl.SSLContext) -> Answer:
    """A way to a MySQL without TLS that offers TLS; the user has no password."""

    def read(side: socket.socket) -> tuple[int, bytearray]:
        head = exactly(side, 4)
        return head[3], bytearray(exactly(side, int.from_bytes(head[:3], "little")))

    def answer(client: socket.socket) -> None:
        with socket.create_connection(address) as server:
            _, greeting = read(server)
            capabilities = greeting.index(0, 1) + 14
            greeting[capabilities + 1] |= 0x08
            client.sendall(mysql_packet(0, bytes(greeting)))
            read(client)
            with tls.wrap_socket(client, server_side=True) as plain:
                number, login = read(plain)
                login[1] &= ~0x08
                server.sendall(mysql_packet(number - 1, bytes(login)))
                number, done = read(server)
                plain.sendall(mysql_packet(number + 1, bytes(done)))
                relay(plain, server)

    return answer


def relay(one: socket.socket, other: socket.socket) -> None:
    """Pass on what either side says until one of them hangs up."""

    # One thread: two of them may not read and write one TLS connection at the same moment.
    peers = {one: other, other: one}
    with suppress(OSError):
        while True:
            buffered = [side for side in peers if isinstance(side, ssl.SSLSocket) and side.pending()]
            for source in buffered or select.select([one, other], [], [])[0]:
                data = source.recv(65536)
                if not data:
                    return
                peers[source].sendall(data)
