"""The status line that systemd shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from syncd.daemon.lifecycle import Process
from syncd.daemon.runner import RunnerState
from syncd.daemon.runner_context import PassProgress
from syncd.daemon.systemd import status_line
from syncd.status.health import Health, LinkHealth
from tests.unit.daemon.virtual_daemon import NOON, Daemon, LoopClock, Outcome

pytestmark = pytest.mark.anyio

PROCESS = Process("host:1", "running", NOON, "/etc/syncd/syncd.toml", NOON)


async def test_given_a_daemon_then_its_line_names_phase_last_run_next_run_and_holds_in_the_machines_own_time(
    daemon: Daemon, clock: LoopClock, time_zone: Callable[[str], None]
) -> None:
    time_zone("Asia/Kolkata")
    daemon.passes.always["shop"] = Outcome(holds=1)
    runner = daemon.add()
    await clock.sleep(10)
    states = {"shop": RunnerState(runner.condition, next_run=NOON + 300, last=runner.last)}
    assert status_line(PROCESS, states) == (
        "running: 1 link, 1 held; last run 1 of shop at 13:30:01 IST applied; next run at 13:35:00 IST; 1 order held"
    )


async def test_given_a_pass_at_work_and_a_bad_reload_then_the_line_says_both(clock: LoopClock) -> None:
    progress = PassProgress(clock)
    progress.report("listing the portal", 4500, 10000)
    states = {
        "shop": RunnerState(LinkHealth(Health.IN_STEP), working=progress),
        "other": RunnerState(LinkHealth(Health.FAILING), standby=True),
    }
    process = PROCESS.but(config_error="links.shop.schedule: must be an interval")
    assert status_line(process, states) == (
        "running: 2 links, 1 in step, 1 working; at work on shop: listing the portal 4500 of 10000; 0 orders held; "
        "reload failed, old configuration kept: links.shop.schedule: must be an interval"
    )


async def test_given_keys_that_need_a_restart_then_the_line_names_them() -> None:
    line = status_line(PROCESS.but(restart=("web.listen",)), {})
    assert line == "running: no links; 0 orders held; restart needed for web.listen"
