"""The service manager's notify socket, the liveness of the process, and the watchdog."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from syncd.daemon.runner_context import PassProgress
from syncd.daemon.schedule import LinkScheduler
from syncd.daemon.systemd import FROZEN, SILENT, Liveness, Notifier, keep_alive
from tests.unit.daemon.virtual_daemon import LoopClock

pytestmark = pytest.mark.anyio


class Manager:
    """Plays systemd's end of the notify socket."""

    def __init__(self, address: str | bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.socket.close()


@pytest.fixture
def notifier(tmp_path: Path) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "10000000"}, pid=7)


class TestNotifier:
    def test_given_a_socket_then_the_manager_hears_each_state(self, manager: Manager, notifier: Notifier) -> None:
        notifier.ready()
        notifier.status("running")
        notifier.status("running")
        notifier.stopping()
        notifier.keep_alive()
        notifier.extend(30)
        assert manager.heard() == [
            "READY=1",
            "STATUS=running",
            "STOPPING=1",
            "WATCHDOG=1",
            "EXTEND_TIMEOUT_USEC=30000000",
        ]

    def test_given_a_reload_then_the_monotonic_time_goes_along(self, manager: Manager, notifier: Notifier) -> None:
        notifier.reloading()
        assert manager.heard()[0].startswith("RELOADING=1\nMONOTONIC_USEC=")

    def test_given_a_status_of_several_lines_then_it_is_sent_as_one(self, manager: Manager, notifier: Notifier) -> None:
        notifier.status("one\nREADY=1")
        assert manager.heard() == ["STATUS=one READY=1"]

    def test_given_a_name_in_the_abstract_namespace_then_it_is_reached(self) -> None:
        name = f"syncd-test-{uuid.uuid4().hex}"
        manager = Manager(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}, 7).ready()
        assert manager.heard() == ["READY=1"]
        manager.socket.close()

    def test_given_no_socket_or_one_that_is_gone_then_nothing_happens(self, tmp_path: Path) -> None:
        Notifier({}, 7).ready()
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}, 7).ready()

    @pytest.mark.parametrize(
        ("environ", "seconds"),
        [
            ({"WATCHDOG_USEC": "60000000"}, 60.0),
            ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 60.0),
            ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, 0.0),
            ({"WATCHDOG_USEC": "soon"}, 0.0),
            ({}, 0.0),
        ],
    )
    def test_given_the_environment_then_the_watchdogs_interval_is(
        self, environ: dict[str, str], seconds: float
    ) -> None:
        assert Notifier(environ, 7).watchdog == seconds


class FakeScheduler(LinkScheduler):
    def __init__(self) -> None:
        self.late = 0.0
        self.woken = 0
        self.realigned = 0

    def overdue(self) -> float:
        return self.late

    def wake(self) -> None:
        self.woken += 1

    def realign(self) -> None:
        self.realigned += 1


class TestVitals:
    @pytest.fixture
    def scheduler(self) -> FakeScheduler:
        return FakeScheduler()

    @pytest.fixture
    def passes(self) -> dict[str, PassProgress]:
        return {}

    @pytest.fixture
    async def liveness(
        self, clock: LoopClock, scheduler: FakeScheduler, passes: dict[str, PassProgress]
    ) -> AsyncIterator[Liveness]:
        made = Liveness(clock, scheduler, passes.items, lambda _lag: None)
        task = asyncio.create_task(made.run())
        yield made
        task.cancel()
        await asyncio.wait({task})

    async def test_given_nothing_at_work_then_the_process_is_sound(self, liveness: Liveness, clock: LoopClock) -> None:
        await clock.sleep(86400)
        assert liveness.faults() == []

    async def test_given_a_pass_of_hours_that_beats_then_the_process_is_sound(
        self, liveness: Liveness, clock: LoopClock, passes: dict[str, PassProgress]
    ) -> None:
        passes["shop"] = PassProgress(clock)
        for done in range(100):
            await clock.sleep(FROZEN / 2)
            passes["shop"].report("listing the portal", done, None)
        assert liveness.faults() == []

    async def test_given_a_pass_that_beats_no_more_then_it_is_frozen(
        self, liveness: Liveness, clock: LoopClock, passes: dict[str, PassProgress]
    ) -> None:
        passes["shop"] = PassProgress(clock)
        await clock.sleep(FROZEN + 1)
        assert liveness.faults() == ["the pass of shop has made no progress for 1801 s"]

    async def test_given_a_schedule_that_is_late_then_it_is_woken_and_then_called_silent(
        self, liveness: Liveness, clock: LoopClock, scheduler: FakeScheduler
    ) -> None:
        scheduler.late = SILENT / 2 + 1
        await clock.sleep(2.5)
        assert (scheduler.woken, liveness.faults()) == (2, [])
        scheduler.late = SILENT + 1
        assert liveness.faults() == ["the schedule is 61 s late"]

    async def test_given_the_system_clock_jumps_then_the_schedule_is_worked_out_anew_once(
        self, liveness: Liveness, clock: LoopClock, scheduler: FakeScheduler
    ) -> None:
        await clock.sleep(2)
        clock.jump = 3600
        await clock.sleep(10)
        assert scheduler.realigned == 1

    async def test_given_a_loop_that_hung_then_its_lag_is_told_and_too_much_is_a_fault(
        self, clock: LoopClock, scheduler: FakeScheduler
    ) -> None:
        lags: list[float] = []
        late = LateClock(clock)
        liveness = Liveness(late, scheduler, dict[str, PassProgress]().items, lags.append)
        task = asyncio.create_task(liveness.run())
        await clock.sleep(30)
        assert liveness.faults() == ["the event loop was 25 s late"]
        task.cancel()
        await asyncio.wait({task})
        assert lags[0] == 25


class LateClock(LoopClock):
    """Sleeps 25 s longer than asked, as a hanging loop would make it."""

    def __init__(self, clock: LoopClock) -> None:
        super().__init__()
        self._other = clock

    async def sleep(self, seconds: float) -> None:
        await self._other.sleep(seconds + 25)


class TestPetting:
    async def test_given_a_sound_process_then_it_pets_twice_in_each_interval(
        self, manager: Manager, notifier: Notifier, clock: LoopClock
    ) -> None:
        task = asyncio.create_task(keep_alive(notifier, Faulty([]), clock))
        await clock.sleep(21)
        task.cancel()
        await asyncio.wait({task})
        assert manager.heard() == ["WATCHDOG=1"] * 5

    async def test_given_a_fault_then_it_pets_no_more_and_says_why_once(
        self, manager: Manager, notifier: Notifier, clock: LoopClock, told: list[MutableMapping[str, Any]]
    ) -> None:
        task = asyncio.create_task(keep_alive(notifier, Faulty(["frozen"]), clock))
        await clock.sleep(60)
        task.cancel()
        await asyncio.wait({task})
        assert manager.heard() == []
        assert [(event["event"], event["faults"]) for event in told] == [("watchdog no longer petted", ["frozen"])]

    async def test_given_no_watchdog_then_no_pets_are_sent(
        self, manager: Manager, tmp_path: Path, clock: LoopClock
    ) -> None:
        await keep_alive(Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}, 7), Faulty([]), clock)
        assert manager.heard() == []


class Faulty(Liveness):
    def __init__(self, faults: list[str]) -> None:
        self._faults = faults

    def faults(self) -> list[str]:
        return self._faults


async def test_given_the_steps_of_a_pass_then_its_pulse_times_each_phase(clock: LoopClock) -> None:
    progress = PassProgress(clock)
    progress.enter("observe")
    await clock.sleep(5)
    progress.enter("apply")
    await clock.sleep(2)
    progress.enter("")
    assert progress.phases == {"observe": 5, "apply": 2}
