from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from syncd.daemon.couriers import Command, Undelivered, Webhook

pytestmark = pytest.mark.anyio

NOTICE = {"event": "health", "link": "shop", "text": "syncd: link shop is failing. Ümläut"}


class Listener:
    """A web server that keeps what is posted and answers as told."""

    def __init__(self) -> None:
        self.status = 204
        self.got: list[tuple[str, dict[str, str], Any]] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.got.append((self.path, dict(self.headers), json.loads(body)))
                self.send_response(listener.status)
                if listener.status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/topsecretcode"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # threads, sockets and processes take real time


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    made.thread.start()
    yield made
    made.server.shutdown()
    made.thread.join()
    made.server.server_close()


async def test_given_a_webhook_then_the_notice_is_posted_as_json(listener: Listener):
    await Webhook(listener.url).deliver(NOTICE)
    ((path, headers, body),) = listener.got
    assert (path, headers["Content-Type"], body) == ("/hooks/topsecretcode", "application/json", NOTICE)


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_given_a_webhook_that_refuses_then_it_is_undelivered_and_the_address_stays_secret(
    listener: Listener, status: int
):
    listener.status = status
    with pytest.raises(Undelivered, match=f"it answered {status}") as caught:
        await Webhook(listener.url).deliver(NOTICE)
    assert "topsecretcode" not in str(caught.value)
    assert len(listener.got) == 1


async def test_given_nobody_listens_then_it_is_undelivered():
    with pytest.raises(Undelivered, match=r"it could not be reached \(ConnectionRefusedError\)"):
        await Webhook("http://127.0.0.1:9/hooks/topsecretcode").deliver(NOTICE)


async def test_given_a_command_then_the_notice_is_on_its_standard_input(tmp_path: Path):
    out = tmp_path / "notice.json"
    script = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"
    await Command([sys.executable, "-c", script, str(out)]).deliver(NOTICE)
    assert json.loads(out.read_text()) == NOTICE


async def test_given_arguments_with_shell_signs_then_no_shell_reads_them(tmp_path: Path):
    out = tmp_path / "args"
    script = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
    await Command([sys.executable, "-c", script, str(out), "$(id); `id` > x"]).deliver(NOTICE)
    assert out.read_text() == "$(id); `id` > x"


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["/nowhere/tell-me"], r"it could not be started \(No such file or directory\)"),
        ([sys.executable, "-c", "raise SystemExit(3)"], "it ended with 3"),
    ],
)
async def test_given_a_command_that_fails_then_it_is_undelivered(argv: list[str], reason: str):
    with pytest.raises(Undelivered, match=reason):
        await Command(argv).deliver(NOTICE)


async def test_given_a_command_that_hangs_then_it_is_killed():
    with pytest.raises(Undelivered, match=r"it was killed after 0\.2 s"):
        await Command([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.2).deliver(NOTICE)
