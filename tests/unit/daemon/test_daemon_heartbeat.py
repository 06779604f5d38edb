"""A link's heartbeat, in the forms of healthchecks.io and of Uptime Kuma."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from syncd.config.model import LinkSettings
from syncd.core.records import RunRow
from syncd.daemon.alerts import Alerts
from syncd.daemon.channels import Beat, Heartbeats, Undelivered, ping
from syncd.daemon.meters import MetricsObserver
from syncd.engine.report import Report
from syncd.errors import LeaseHeld, UnavailableError
from syncd.obs.metrics import Metrics
from tests.fakes.settings import LINK
from tests.unit.daemon.virtual_daemon import Daemon, LoopClock, Outcome

pytestmark = pytest.mark.anyio


class Monitor:
    """Keeps each request: method, path with query, body."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, str]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, _ = head.split(" ", 2)
        length = next((int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:")), 0)
        self.got.append((method, path, (await reader.readexactly(length)).decode()))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK")
        await writer.drain()
        writer.close()


@asynccontextmanager
async def monitor() -> AsyncIterator[Monitor]:
    made = Monitor()
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made


class TestForms:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"  # sockets take real time

    async def test_given_healthchecks_then_start_success_and_failure_have_addresses_of_their_own(self) -> None:
        async with monitor() as there:
            for beat in Beat:
                await ping(f"{there.url}/ping/uuid/", beat, "Run 5.")
        assert there.got == [
            ("POST", "/ping/uuid/start", "Run 5."),
            ("POST", "/ping/uuid", "Run 5."),
            ("POST", "/ping/uuid/fail", "Run 5."),
        ]

    async def test_given_uptime_kuma_then_up_and_down_with_a_message_and_no_start(self) -> None:
        async with monitor() as there:
            for beat in Beat:
                await ping(f"{there.url}/api/push/token?status=up&msg=OK&ping=", beat, "Run 5.")
        assert [method for method, _, _ in there.got] == ["GET", "GET"]
        said = [parse_qs(urlsplit(path).query) for _, path, _ in there.got]
        assert [one["status"] for one in said] == [["up"], ["down"]]
        assert [one["msg"] for one in said] == [["Run 5."]] * 2

    async def test_given_nobody_there_then_it_is_undelivered(self) -> None:
        with pytest.raises(Undelivered):
            await ping("http://127.0.0.1:9/ping", Beat.SUCCESS)


def _links(url: str | None) -> Mapping[str, LinkSettings]:
    return {"shop": LinkSettings.model_validate(LINK | ({"ping": url} if url else {}))}


class KeptBeats(Heartbeats):
    """Heartbeats that keep what they would send."""

    def __init__(self) -> None:
        super().__init__(lambda: _links("https://hc.example/uuid"))
        self.beats: list[tuple[str, str]] = []

    def beat(self, link: str, beat: Beat, text: str = "") -> None:
        self.beats.append((link, beat.value))


class TestDaemon:
    @pytest.fixture
    def heartbeats(self, daemon: Daemon) -> KeptBeats:
        kept = KeptBeats()
        alerts = Alerts(daemon.clock, lambda _way, _outcome: None)
        meters = MetricsObserver(Metrics(process=False), alerts, daemon.store, daemon.clock, kept)
        daemon.watcher.begun = meters.begun  # type: ignore[method-assign]
        daemon.watcher.ended = meters.ended  # type: ignore[method-assign]
        return kept

    async def test_given_passes_then_each_start_and_end_is_a_beat(
        self, daemon: Daemon, heartbeats: KeptBeats, clock: LoopClock
    ) -> None:
        daemon.passes.outcomes["shop"] += [
            Outcome(),
            Outcome(holds=1),
            Outcome("refused", guards=("max_removes",)),
        ]
        daemon.add()
        await clock.sleep(800)
        assert [beat for _, beat in heartbeats.beats] == ["start", "success", "start", "success", "start", "failure"]

    async def test_given_a_pass_made_elsewhere_then_there_is_no_beat(
        self, daemon: Daemon, heartbeats: KeptBeats, clock: LoopClock
    ) -> None:
        await daemon.store.acquire(await daemon.store.link("shop", "ends"), "other:9", 200, clock.now())
        daemon.add()
        await clock.sleep(100)
        assert heartbeats.beats == []


class TestCommand:
    """A pass of `syncd reconcile`."""

    @staticmethod
    async def _made(outcome: Any) -> list[str]:
        class Opened:
            name = "shop"

            def __init__(self) -> None:
                self.progress: Any = lambda _stage, _done, _expected: None

        async def run(link: Any) -> Report:
            if isinstance(outcome, LeaseHeld):
                raise outcome
            link.progress("table", 0, None)
            link.progress("table", 1, None)
            if isinstance(outcome, Exception):
                raise outcome
            return Report(RunRow(5, "shop", 1, "pass", outcome))

        kept, opened = KeptBeats(), Opened()
        with suppress(UnavailableError, LeaseHeld), kept.during(opened) as ended:  # type: ignore[arg-type]
            ended(await run(opened))
        return [beat for _, beat in kept.beats]

    @pytest.mark.parametrize(
        ("outcome", "beats"),
        [
            ("applied", ["start", "success"]),
            ("refused", ["start", "failure"]),
            (UnavailableError("down"), ["start", "failure"]),
            (LeaseHeld("another process works on it"), []),
        ],
    )
    async def test_given_how_it_ends_then_the_beats_are(self, outcome: Any, beats: list[str]) -> None:
        assert await self._made(outcome) == beats
