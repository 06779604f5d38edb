"""A wait for the portal's operating budget is told once, with its end, and when it is over; what is logged names its run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
import structlog

from syncd.core.model import Action
from tests.unit.engine.given import in_step

pytestmark = pytest.mark.anyio


async def test_given_a_spent_budget_when_writing_then_the_log_and_the_progress_say_until_when() -> None:
    told: list[tuple[str, int, int | None]] = []
    world = await in_step({5: 10}, options={"progress": lambda *step: told.append(step)})
    world.edit_table(6, (2, 11))
    free_at = world.clock.monotonic() + 300
    began = world.clock.now()
    world.portal.wait_for = lambda action: (  # type: ignore[method-assign]
        max(0.0, free_at - world.clock.monotonic()) if action is Action.ADD else 0.0
    )

    structlog.reset_defaults()
    with structlog.testing.capture_logs() as logs:
        report = await world.reconcile()

    assert report.exit_code == 0
    (line,) = [one for one in logs if one["event"] == "waiting for the portal's operating budget"]
    assert datetime.fromisoformat(line["until"]).timestamp() == pytest.approx(began + 300, abs=1)
    waits = [step for step in told if step[0].startswith("waiting until ")]
    assert [step[1:] for step in waits] == [(0, 1), (1, 1)]


async def test_given_a_run_then_all_that_is_logged_meanwhile_names_its_link_and_its_number() -> None:
    named: list[dict[str, Any]] = []
    world = await in_step(
        {5: 10}, options={"progress": lambda *_: named.append(structlog.contextvars.get_contextvars())}
    )
    world.edit_table(6, (2, 11))
    named.clear()

    report = await world.reconcile()

    assert named
    assert [one for one in named if one != {"link": "shop", "run_id": report.row.id}] == []
    assert structlog.contextvars.get_contextvars() == {}
