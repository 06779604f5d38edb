"""How people and monitoring services are reached: notifications, and the heartbeats of links.

A notification is delivered as a JSON POST, to a program's standard input, or by apprise. Each channel has a time limit,
and leaves no process running, even if the other end hangs.

A link's heartbeat calls a monitoring service for each pass; the service raises an alarm when the calls stop. Two forms
are known. healthchecks.io (and what imitates it) takes `URL/start`, `URL` and `URL/fail`, with a text as the body. A
push monitor of Uptime Kuma (`…/api/push/TOKEN`) takes `status=up` or `status=down` with a `msg`, and no start.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from importlib.util import find_spec
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, urlsplit

import httpx
import structlog

from syncd import __version__
from syncd.config.model import LinkSettings
from syncd.config.service_settings import NotifySettings
from syncd.core.records import RunRow
from syncd.daemon.runner_context import PassResult
from syncd.engine import formatting
from syncd.engine.link import Link
from syncd.engine.report import Report
from syncd.errors import LeaseHeld, Stopped, SyncdError
from syncd.obs.redact import redact
from syncd.status.health import Health

log = structlog.get_logger("syncd.daemon")

TIMEOUT: Final = 10.0
"""Seconds that a web address may take to answer, in all."""
COMMAND_TIMEOUT: Final = 30.0


class Undelivered(Exception):
    """A notification was not delivered; the text says why, and never names the address, which holds a secret."""


class Channel(Protocol):
    """One way to reach people."""

    way: str

    async def deliver(self, notice: Mapping[str, Any]) -> None:
        """Deliver a notification.

        Raises:
            Undelivered: It was not taken.
        """
        ...


def channels(settings: NotifySettings) -> list[Channel]:
    """Given `[notify]`, return the channels it names."""
    found: list[Channel] = []
    if settings.webhook is not None:
        found.append(WebhookChannel(settings.webhook.get_secret_value()))
    if settings.command is not None:
        found.append(CommandChannel(settings.command))
    if settings.apprise is not None:
        found.append(AppriseChannel(settings.apprise.get_secret_value().split()))
    return found


def problems(settings: NotifySettings) -> Iterator[str]:
    """Given `[notify]`, yield what is wrong with its channels, as far as that shows without using them."""
    if settings.command is not None and shutil.which(settings.command[0]) is None:
        there = os.path.exists(settings.command[0])  # noqa: PTH110 - only the last word on a path `which` did not take
        why = "is not executable" if there else "does not exist"
        yield f"notify.command: the program {settings.command[0]} {why}"
    if settings.apprise is not None and find_spec("apprise") is None:
        yield "notify.apprise: apprise is not installed; install syncd with the extra `notify`"


async def call_web(method: str, url: str, *, timeout: float = TIMEOUT, **more: Any) -> None:  # noqa: ASYNC109 - for all of it
    """Send one request, and check only that the answer is not an error. Redirects are refused.

    A POST that is redirected becomes a GET without the notification. The other end may answer with anything: another
    protocol, broken HTTP, one byte a second.

    Args:
        method: GET or POST.
        url: The address; a secret.
        timeout: Seconds for all of it.
        more: Further arguments of httpx: content, params, json.

    Raises:
        Undelivered: It could not be sent, or was refused.
    """
    headers = {"User-Agent": f"syncd/{__version__}"}
    try:
        # The body of the answer is left alone: it may be endless.
        async with (
            asyncio.timeout(timeout),
            httpx.AsyncClient(timeout=timeout, headers=headers) as client,
            client.stream(method, url, **more) as answer,
        ):
            code = answer.status_code
    except TimeoutError:
        raise Undelivered(f"it did not answer within {timeout:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise Undelivered(f"it could not be reached ({type(error).__name__})") from None
    if code >= 300:
        raise Undelivered(f"it answered {code}")


class WebhookChannel:
    """Posts notifications as JSON.

    Args:
        url: The address; a secret.
        timeout: Seconds to wait for it.
    """

    way = "webhook"

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        self._url = url
        self._timeout = timeout

    async def deliver(self, notice: Mapping[str, Any]) -> None:
        """See `Channel`."""
        await call_web("POST", self._url, timeout=self._timeout, json=dict(notice))


PASSED_ON = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ"})
"""What a notification command gets of the environment."""


class CommandChannel:
    """Runs a program, without a shell, with the notification on its standard input.

    Args:
        argv: The program and its arguments.
        timeout: Seconds after which it is killed, and all that it started with it.
    """

    way = "command"

    def __init__(self, argv: Sequence[str], *, timeout: float = COMMAND_TIMEOUT) -> None:
        self._argv = list(argv)
        self._timeout = timeout

    async def deliver(self, notice: Mapping[str, Any]) -> None:
        """See `Channel`."""
        await self._run(json.dumps(notice).encode())

    async def _run(self, text: bytes) -> None:
        try:
            child = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                # The rest of the environment may hold secrets of syncd's, which are none of this command's business.
                env={name: value for name, value in os.environ.items() if name in PASSED_ON},
            )
        except OSError as error:
            raise Undelivered(f"it could not be started ({error.strerror})") from None
        try:
            async with asyncio.timeout(self._timeout):
                await child.communicate(text)
        except TimeoutError:
            raise Undelivered(f"it was killed after {self._timeout:g} s") from None
        finally:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, 9)
                await child.wait()
        if child.returncode:
            raise Undelivered(f"it ended with {child.returncode}")


class AppriseChannel(CommandChannel):
    """Sends notifications through apprise, in a process of its own: its plugins are synchronous and know no limit.

    Args:
        urls: Apprise URLs; secrets, so the process reads them from its standard input.
        timeout: Seconds after which it is killed.
    """

    way = "apprise"

    def __init__(self, urls: Sequence[str], *, timeout: float = COMMAND_TIMEOUT) -> None:
        # -P: modules come from where Python is installed, and never from the folder that a command was typed in.
        super().__init__([sys.executable, "-P", "-c", _APPRISE], timeout=timeout)
        self._urls = list(urls)

    async def deliver(self, notice: Mapping[str, Any]) -> None:
        """See `Channel`."""
        if find_spec("apprise") is None:
            raise Undelivered("apprise is not installed")
        kind = _KINDS.get(str(notice.get("event")), _KINDS.get(str(notice.get("severity")), "info"))
        title = f"syncd: {notice.get('link') or 'test'}"
        text = {"urls": self._urls, "title": title, "body": notice["text"], "kind": kind}
        await self._run(json.dumps(text).encode())


_KINDS: Final[Mapping[str, str]] = {"recovered": "success", "error": "failure", "warning": "warning"}
_APPRISE: Final = """
import json, sys
import apprise
notice = json.load(sys.stdin)
ways = apprise.Apprise()
known = [ways.add(url) for url in notice["urls"]]
sent = ways.notify(title=notice["title"], body=notice["body"], notify_type=notice["kind"], body_format="text")
sys.exit(0 if sent and all(known) else 1)
"""
"""What the process does: 0 if every URL was known and took the notification.

A notice is plain text. Unsaid, Telegram would take a title such as `A <b` for markup and refuse the whole message.
"""


PING_TRIES: Final = 2
WELL: Final = frozenset({Health.IN_STEP, Health.HELD})
"""The healths after which a pass counts as a success: held orders wait for a person, and are reported elsewhere."""


class Beat(StrEnum):
    """What a call says."""

    START = "start"
    SUCCESS = "success"
    FAILURE = "failure"


async def ping(url: str, beat: Beat, text: str = "") -> None:
    """Send a beat to an address.

    Args:
        url: The address, as configured; a secret.
        beat: What has happened.
        text: A sentence for people.

    Raises:
        Undelivered: It was not taken.
    """
    parts = urlsplit(url)
    if "/api/push/" in parts.path:
        if beat is Beat.START:
            return
        said = {"status": "up" if beat is Beat.SUCCESS else "down", "msg": text or "OK"}
        bare = parts._replace(query="").geturl()
        await call_web("GET", bare, params=dict(parse_qsl(parts.query)) | said)
        return
    result = {Beat.START: "/start", Beat.SUCCESS: "", Beat.FAILURE: "/fail"}[beat]
    address = parts._replace(path=parts.path.rstrip("/") + result).geturl()
    await call_web("POST", address, content=text.encode())


class Heartbeats:
    """Sends the beats of all links in order, beside the passes: none waits for the other end.

    Args:
        links: Returns the links of the configuration in force, by name.
    """

    def __init__(self, links: Callable[[], Mapping[str, LinkSettings]]) -> None:
        self._links = links
        self._last: dict[str, asyncio.Task[None]] = {}

    def beat(self, link: str, beat: Beat, text: str = "") -> None:
        """Send a beat to a link's address, if it has one, after the beats before it."""
        settings = self._links().get(link)
        if settings is not None and settings.ping is not None:
            url = settings.ping.get_secret_value()
            self._last[link] = asyncio.create_task(self._send(self._last.get(link), link, url, beat, redact(text)))

    def ended(self, result: PassResult) -> None:
        """Send the result of a pass of the daemon to the link's address."""
        beat = Beat.SUCCESS if result.after.health in WELL else Beat.FAILURE
        self.beat(result.link, beat, _run_line(result.report.row) if result.report is not None else result.after.detail)

    @contextmanager
    def during(self, link: Link) -> Iterator[Callable[[Report], None]]:
        """Send the beats for the start and the end of a pass that a command makes in the block.

        There is none for a pass that is turned away because another process works on the link, and no end for one that
        a signal cut off. The block calls the value with the report of a pass that ended.
        """
        show, begun = link.progress, False

        def progress(stage: str, done: int, expected: int | None) -> None:
            nonlocal begun
            if not begun:
                begun = True
                self.beat(link.name, Beat.START)
            show(stage, done, expected)

        def ended(report: Report) -> None:
            if not isinstance(report.error, Stopped):
                well = report.exit_code in {0, 3}
                self.beat(link.name, Beat.SUCCESS if well else Beat.FAILURE, _run_line(report.row))

        link.progress = progress
        try:
            yield ended
        except LeaseHeld:
            raise
        except SyncdError as error:
            self.beat(link.name, Beat.FAILURE, error.message)
            raise

    async def drain(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._last.values(), return_exceptions=True)

    async def _send(self, before: asyncio.Task[None] | None, link: str, url: str, beat: Beat, text: str) -> None:
        if before is not None:
            await asyncio.wait({before})
        for attempt in range(1, PING_TRIES + 1):
            try:
                await ping(url, beat, text)
            except Undelivered as error:
                log.warning("ping not delivered", link=link, beat=beat.value, attempt=attempt, reason=str(error))
            else:
                return


def _run_line(row: RunRow) -> str:
    """Return what became of a run, in one line."""
    written = row.counts.crm.total + row.counts.table.total
    held = f", {formatting.count(row.counts.holds, 'order')} held" if row.counts.holds else ""
    return f"Run {row.id} of {row.link}: {row.state}, {formatting.count(written, 'change')}{held}. {row.error}".rstrip()
