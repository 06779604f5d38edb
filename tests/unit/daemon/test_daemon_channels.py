"""The ways a notification goes out: a webhook and a command, each with limits and without secrets."""

from __future__ import annotations

import asyncio
import json
import os
import select
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from syncd.config.service_settings import NotifySettings
from syncd.daemon.channels import AppriseChannel, CommandChannel, Undelivered, WebhookChannel, channels, problems

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
    made.thread.join(60)
    made.server.server_close()


async def test_given_a_webhook_then_the_notice_is_posted_as_json(listener: Listener) -> None:
    await WebhookChannel(listener.url).deliver(NOTICE)
    ((path, headers, body),) = listener.got
    assert (path, headers["Content-Type"], body) == ("/hooks/topsecretcode", "application/json", NOTICE)


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_given_a_webhook_that_refuses_then_it_is_undelivered_and_the_address_stays_secret(
    listener: Listener, status: int
) -> None:
    listener.status = status
    with pytest.raises(Undelivered, match=f"it answered {status}") as caught:
        await WebhookChannel(listener.url).deliver(NOTICE)
    assert "topsecretcode" not in str(caught.value)
    assert len(listener.got) == 1


async def test_given_nobody_listens_then_it_is_undelivered() -> None:
    with pytest.raises(Undelivered, match=r"it could not be reached \(ConnectError\)"):
        await WebhookChannel("http://127.0.0.1:9/hooks/topsecretcode").deliver(NOTICE)


async def test_given_a_command_then_the_notice_is_on_its_standard_input(tmp_path: Path) -> None:
    out = tmp_path / "notice.json"
    script = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"
    await CommandChannel([sys.executable, "-c", script, str(out)]).deliver(NOTICE)
    assert json.loads(out.read_text()) == NOTICE


async def test_given_secrets_in_the_environment_then_a_command_does_not_inherit_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNCD_LINKS__SHOP__PORTAL__WEBHOOK", "marked")
    out = tmp_path / "environment"
    script = "import os, sys; open(sys.argv[1], 'w').write(repr(dict(os.environ)))"
    await CommandChannel([sys.executable, "-c", script, str(out)]).deliver(NOTICE)
    assert "PATH" in out.read_text()
    assert "marked" not in out.read_text()


async def test_given_arguments_with_shell_signs_then_no_shell_reads_them(tmp_path: Path) -> None:
    out = tmp_path / "args"
    script = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
    await CommandChannel([sys.executable, "-c", script, str(out), "$(id); `id` > x"]).deliver(NOTICE)
    assert out.read_text() == "$(id); `id` > x"


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["/nowhere/tell-me"], r"it could not be started \(No such file or directory\)"),
        ([sys.executable, "-c", "raise SystemExit(3)"], "it ended with 3"),
    ],
)
async def test_given_a_command_that_fails_then_it_is_undelivered(argv: list[str], reason: str) -> None:
    with pytest.raises(Undelivered, match=reason):
        await CommandChannel(argv).deliver(NOTICE)


async def test_given_a_command_that_hangs_then_it_is_killed() -> None:
    with pytest.raises(Undelivered, match=r"it was killed after 0\.2 s"):
        await CommandChannel([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.2).deliver(NOTICE)


ANSWERS = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a number\r\n",
    "an endless header": b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n",
    "nothing": b"",
    "half a status line": b"HTTP/1.",
    "no HTTP version": b"hello\r\n\r\n",
}


@asynccontextmanager
async def answering(answer: bytes, *, trickle: bool = False) -> AsyncIterator[str]:
    """A receiver that answers with these bytes, at once or one at a time, until the end of the block."""
    talking: list[asyncio.Task[Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.append(task)
        with suppress(OSError, asyncio.CancelledError):
            await reader.read(100)
            for part in [bytes([one]) for one in answer] if trickle else [answer]:
                writer.write(part)
                await writer.drain()
                if trickle:
                    await asyncio.sleep(0.05)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks/topsecretcode"
        finally:
            for task in talking:
                task.cancel()
            await asyncio.gather(*talking, return_exceptions=True)


@pytest.mark.parametrize("what", ANSWERS)
async def test_given_a_receiver_that_is_no_web_server_then_it_is_undelivered_or_taken_and_never_a_crash(
    what: str,
) -> None:
    async with answering(ANSWERS[what]) as url:
        if what == "a bad chunk":  # its head says that it was taken, and the body is nobody's business
            await WebhookChannel(url).deliver(NOTICE)
            return
        with pytest.raises(Undelivered, match="it could not be reached") as caught:
            await WebhookChannel(url).deliver(NOTICE)
    assert "topsecretcode" not in str(caught.value)


async def test_given_a_receiver_that_trickles_then_it_is_given_up_in_time() -> None:
    slow = b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000
    async with answering(slow, trickle=True) as url:
        with pytest.raises(Undelivered, match=r"it did not answer within 0\.3 s"):
            await WebhookChannel(url, timeout=0.3).deliver(NOTICE)


async def test_given_a_body_that_does_not_arrive_then_it_is_not_waited_for() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500) as url:
        await WebhookChannel(url, timeout=60).deliver(NOTICE)


@pytest.mark.parametrize(
    "url",
    ["http://bücher.invalid/hooks/ü", "http://127.0.0.1:9/hooks/\u2028ключ", "http://[::1/hooks", "http://\udcff/"],
)
async def test_given_an_address_that_is_not_plain_then_it_is_undelivered(url: str) -> None:
    with pytest.raises(Undelivered):
        await WebhookChannel(url, timeout=2).deliver(NOTICE)


async def test_given_a_command_that_leaves_a_child_behind_then_both_are_killed(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    reader = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    script = 'exec 3>"$0"; echo up >&3; sleep 60 & wait'  # both keep it open
    with pytest.raises(Undelivered, match="it was killed"):
        await CommandChannel(["sh", "-c", script, str(alive)], timeout=2).deliver(NOTICE)

    assert os.read(reader, 100) == b"up\n"
    assert select.select([reader], [], [], 20)[0], "one of them lives"
    assert os.read(reader, 100) == b""
    os.close(reader)


def _settings(**notify: Any) -> NotifySettings:
    return NotifySettings.model_validate(notify)


def test_given_every_way_then_there_is_a_courier_for_each() -> None:
    settings = _settings(webhook="https://x.example/hook", command=["/bin/true"], apprise="json://x.example\nsyslog://")
    assert [channel.way for channel in channels(settings)] == ["webhook", "command", "apprise"]


def test_given_a_command_that_does_not_exist_then_it_is_a_problem(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    assert list(problems(_settings(command=["/bin/true"]))) == []
    assert list(problems(_settings(command=["tell-me-nowhere"]))) == [
        "notify.command: the program tell-me-nowhere does not exist"
    ]
    assert list(problems(_settings(command=[str(plain)]))) == [f"notify.command: the program {plain} is not executable"]


async def test_given_apprise_then_urls_are_not_on_the_command_line_and_the_notice_arrives(listener: Listener) -> None:
    pytest.importorskip("apprise")
    channel = AppriseChannel([listener.url.replace("http://", "json://")])
    await channel.deliver(NOTICE | {"severity": "error"})
    ((_path, _headers, body),) = listener.got
    assert (body["message"], body["type"]) == (NOTICE["text"], "failure")
    assert not any("topsecretcode" in word for word in channel._argv)


async def test_given_apprise_then_the_notice_is_plain_text_to_it(listener: Listener) -> None:
    pytest.importorskip("apprise")
    await AppriseChannel([f"{listener.url.replace('http://', 'json://')}?format=html"]).deliver(
        NOTICE | {"text": "A <b> & C"}
    )
    ((_path, _headers, body),) = listener.got
    assert body["message"].replace("&nbsp;", " ") == "A &lt;b&gt; &amp; C"


async def test_given_a_module_in_the_folder_where_somebody_stands_then_apprise_does_not_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("apprise")
    for name in ("apprise", "json"):
        (tmp_path / f"{name}.py").write_text("open('obeyed', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Undelivered):
        await AppriseChannel(["nonsense://x"]).deliver(NOTICE)
    assert not (tmp_path / "obeyed").exists()


async def test_given_apprise_with_an_url_it_does_not_know_then_it_is_undelivered() -> None:
    pytest.importorskip("apprise")
    with pytest.raises(Undelivered, match="it ended with 1"):
        await AppriseChannel(["nonsense://x"]).deliver(NOTICE | {"severity": "error"})


async def test_given_no_apprise_then_it_is_undelivered_and_check_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.daemon.channels.find_spec", lambda _name: None)
    with pytest.raises(Undelivered, match="not installed"):
        await AppriseChannel(["json://x"]).deliver(NOTICE)
    assert "extra `notify`" in next(problems(_settings(apprise="json://x")))
