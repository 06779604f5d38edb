"""Just enough HTTP/1.1 to be a server on loopback: keep-alive, pipelining, Content-Length and chunked bodies."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from syncd.sandbox.answers import SandboxRequest, SandboxResponse

MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class BadRequest(Exception):  # it is the peer's error, answered with `status`
    """What arrived is no HTTP request this server takes."""

    def __init__(self, status: int) -> None:
        super().__init__(_REASONS[status])
        self.status = status


@dataclass(slots=True)
class Head:
    """A request's first lines."""

    method: str
    target: str
    headers: dict[str, str]
    keep_alive: bool

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a go-ahead before it sends the body."""
        return self.headers.get("expect", "").lower() == "100-continue"


class RequestReader:
    """Takes bytes as they arrive, gives whole requests."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: Head | None = None
        self._length: int | None = 0
        self._told_to_continue = False

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        self._buffer += data

    def wants_continue(self) -> bool:
        """Return, once for each request, whether the client must be told to go on."""
        if self._head is None or self._told_to_continue or not self._head.expects_continue:
            return False
        self._told_to_continue = True
        return True

    def next(self) -> tuple[Head, bytes] | None:
        """Return the next whole request, None while it is incomplete.

        Raises:
            BadRequest: It never will be one.
        """
        if self._head is None and not self._read_head():
            return None
        assert self._head is not None
        body = self._read_chunks() if self._length is None else self._read_length(self._length)
        if body is None:
            return None
        head, self._head, self._told_to_continue = self._head, None, False
        return head, body

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise BadRequest(431)
            return False
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise BadRequest(400)
        headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise BadRequest(400)
            headers[name.strip().lower()] = value.strip()
        connection = headers.get("connection", "").lower()
        keep_alive = connection != "close" if words[2] != "HTTP/1.0" else connection == "keep-alive"
        self._head = Head(words[0], words[1], headers, keep_alive)
        self._length = self._body_length(headers)
        return True

    @staticmethod
    def _body_length(headers: dict[str, str]) -> int | None:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return None
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise BadRequest(400)
        if int(length) > MAX_BODY:
            raise BadRequest(413)
        return int(length)

    def _read_length(self, length: int) -> bytes | None:
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    def _read_chunks(self) -> bytes | None:
        body, position = bytearray(), 0
        while True:
            line_end = self._buffer.find(b"\r\n", position)
            if line_end < 0:
                return None
            try:
                size = int(bytes(self._buffer[position:line_end]).partition(b";")[0], 16)
            except ValueError:
                raise BadRequest(400) from None
            start = line_end + 2
            if len(self._buffer) < start + size + 2:
                return None
            body += self._buffer[start : start + size]
            if len(body) > MAX_BODY:
                raise BadRequest(413)
            position = start + size + 2
            if size == 0:
                del self._buffer[:position]
                return bytes(body)


def to_request(head: Head, body: bytes, client: str, *, secure: bool) -> SandboxRequest:
    """Given a parsed request, return it as the portal sees it."""
    target = head.target
    if target.startswith(("http://", "https://")):
        target = "/" + target.split("/", 3)[3] if target.count("/") > 2 else "/"
    path, _, query = target.partition("?")
    return SandboxRequest(head.method, path, query, head.headers, body, client, secure)


def to_bytes(response: SandboxResponse, *, head_only: bool, keep_alive: bool) -> bytes:
    """Given a response, return what goes over the wire; a cut one still announces its full length."""
    lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    lines.append(f"Content-Length: {len(response.body)}")
    if not keep_alive:
        lines.append("Connection: close")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if head_only else head + response.body[: response.cut_at]
