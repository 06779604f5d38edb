"""Whether a pass runs now, and what it covers, as a function of triggers, settings and past runs."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.config.schedule import parse_schedule
from syncd.core.order_ranges import Coverage, OrderRanges
from syncd.core.records import LinkRow, Request, RunRow
from syncd.daemon.decide import RunFacts, should_run
from syncd.daemon.triggers import HINTED, Task, Trigger, task_for
from syncd.engine.covering import Portion
from syncd.status.fire_times import FireTimes
from tests.unit.daemon.virtual_daemon import NOON

SLOTS = FireTimes("shop", parse_schedule("5m"))
LINK = LinkRow(1, "shop", 1, "ends", paused=False, parked="", created_at=NOON)


def _run(*, ago: float, error: str = "", finished: bool = True) -> RunRow:
    at = NOON - ago
    state = "failed" if error else "applied"
    return RunRow(7, "shop", 1, "pass", state, started_at=at, finished_at=at + 1 if finished else None, error=error)


def _why(
    *triggers: Trigger, asked: float = 0.0, last: RunRow | None = None, slots: FireTimes | None = SLOTS, **more: Any
) -> str:
    row = LINK._replace(**{key: more.pop(key) for key in ("paused", "parked") if key in more})
    verdict = should_run(dict.fromkeys(triggers, NOON - asked), RunFacts(row, last, slots, NOON, **more))
    return ("run: " if verdict.run else "rest: ") + verdict.why


FRESH = _run(ago=1)
STALE = _run(ago=400)
FAILED = _run(ago=1, error="The portal is down.")


@pytest.mark.parametrize(
    ("triggers", "situation", "verdict"),
    [
        ([Trigger.START], {}, "run: first"),
        ([Trigger.SCHEDULE], {"last": STALE}, "run: due"),
        ([Trigger.START], {"last": STALE}, "run: due"),
        ([Trigger.SCHEDULE], {"last": FRESH}, "rest: done elsewhere"),
        ([Trigger.START], {"last": FRESH}, "rest: done elsewhere"),
        ([Trigger.START], {"last": FAILED}, "run: again"),
        ([Trigger.SCHEDULE], {"last": FAILED}, "rest: done elsewhere"),
        ([Trigger.SCHEDULE], {"last": _run(ago=1, finished=False)}, "run: interrupted"),
        ([Trigger.SCHEDULE], {"last": _run(ago=1, error="Stopped by SIGTERM; it is recorded.")}, "run: interrupted"),
        ([Trigger.SCHEDULE], {"last": _run(ago=1, error="interrupted")}, "run: interrupted"),
        ([Trigger.SCHEDULE], {"last": STALE, "resting": True}, "rest: pausing after a failure"),
        ([Trigger.AGAIN], {"last": FAILED, "resting": True}, "run: again"),
        ([Trigger.AGAIN], {"last": FRESH, "asked": 100}, "rest: done elsewhere"),
        ([Trigger.AGAIN], {"last": _run(ago=200), "asked": 100}, "run: again"),
        ([Trigger.SCHEDULE], {"last": STALE, "paused": True}, "rest: paused"),
        ([Trigger.RELOAD], {"last": FRESH, "paused": True}, "rest: paused"),
        ([Trigger.REQUEST], {"last": FRESH, "paused": True, "requested": True}, "run: asked"),
        ([Trigger.SIGNAL], {"last": FRESH, "parked": "refused: x"}, "run: asked"),
        ([Trigger.SIGNAL], {"last": FRESH, "asked": 5}, "rest: done elsewhere"),
        ([Trigger.SIGNAL], {"last": _run(ago=1, finished=False), "asked": 5}, "run: asked"),
        ([Trigger.REQUEST], {"last": FRESH}, "rest: done elsewhere"),
        ([Trigger.REQUEST], {"last": FRESH, "asked": 5, "requested": True}, "run: asked"),
        ([Trigger.REQUEST], {"slots": None, "requested": True}, "run: asked"),
        ([Trigger.REQUEST], {"slots": None}, "rest: unscheduled"),
        ([Trigger.START], {"slots": None}, "rest: unscheduled"),
        ([Trigger.RELOAD], {"slots": None}, "rest: unscheduled"),
        ([Trigger.RELOAD], {"last": FRESH}, "run: reconfigured"),
        ([Trigger.SCHEDULE], {"last": STALE, "parked": "auth: x", "look": NOON + 1}, "rest: parked"),
        ([Trigger.AGAIN], {"last": STALE, "parked": "auth: x", "look": NOON + 1}, "rest: parked"),
        ([Trigger.SCHEDULE], {"last": STALE, "parked": "auth: x", "look": NOON}, "run: look"),
        ([Trigger.AGAIN], {"last": STALE, "parked": "auth: x", "look": NOON}, "run: look"),
        ([Trigger.AGAIN], {"last": FAILED, "parked": "refused: x", "look": NOON + 1, "failing": True}, "run: again"),
        (
            [Trigger.SCHEDULE],
            {"last": STALE, "parked": "refused: x", "failing": True, "resting": True},
            "rest: pausing after a failure",
        ),
        ([Trigger.SCHEDULE], {"last": _run(ago=-7200), "parked": "refused: x", "look": NOON + 8000}, "run: look"),
        ([Trigger.SCHEDULE], {"last": STALE, "parked": "refused: x", "changed": True}, "run: facts changed"),
        ([Trigger.START], {"last": STALE, "parked": "refused: x"}, "run: facts changed"),
        ([Trigger.RELOAD], {"last": STALE, "parked": "refused: x"}, "run: reconfigured"),
        ([Trigger.SCHEDULE], {"last": _run(ago=-7200)}, "run: first"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_given_who_asks_and_what_is_known_then_the_verdict_is(
    triggers: list[Trigger], situation: dict[str, Any], verdict: str
) -> None:
    assert _why(*triggers, **situation) == verdict


def test_given_a_slot_served_a_moment_after_it_came_then_it_is_not_served_again() -> None:
    slot = SLOTS.after(NOON)
    assert slot is not None
    served = RunRow(1, "shop", 1, "pass", "applied", started_at=slot, finished_at=slot + 2)
    verdict = should_run({Trigger.SCHEDULE: slot}, RunFacts(LINK, served, SLOTS, slot + 3))
    assert not verdict.run


# ------------------------------------------------------------------ passes in between

EVERY_20S = FireTimes("shop", parse_schedule("20s"))


def _between(*triggers: Trigger, covered: float = 30, **situation: Any) -> str:
    known = Coverage(Coverage.whole(NOON - 100).slices, 50, NOON - covered)
    row = LINK._replace(coverage=situation.pop("coverage", known), **situation.pop("link", {}))
    at = RunFacts(row, situation.pop("last", FRESH), SLOTS, NOON, **({"between": EVERY_20S} | situation))
    decision = should_run(dict.fromkeys(triggers, NOON), at)
    assert decision.between is (decision.why in {"recent", "hint"})
    return ("run: " if decision.run else "rest: ") + decision.why


@pytest.mark.parametrize(
    ("triggers", "situation", "verdict"),
    [
        ([Trigger.RECENT], {}, "run: recent"),
        ([Trigger.RECENT], {"covered": 0}, "rest: done elsewhere"),
        ([Trigger.RECENT], {"covered": -60}, "rest: done elsewhere"),
        ([Trigger.RECENT], {"covered": -7200}, "run: recent"),
        ([Trigger.RECENT], {"coverage": None}, "rest: done elsewhere"),
        ([Trigger.RECENT], {"between": None}, "rest: done elsewhere"),
        ([Trigger.RECENT], {"link": {"paused": True}}, "rest: done elsewhere"),
        ([Trigger.RECENT], {"link": {"parked": "refused: x"}}, "rest: done elsewhere"),
        ([Trigger.RECENT], {"failing": True}, "rest: done elsewhere"),
        ([Trigger.RECENT], {"resting": True}, "rest: done elsewhere"),
        ([Trigger.RECENT], {"last": None}, "rest: done elsewhere"),
        ([Trigger.RECENT], {"last": _run(ago=1, finished=False)}, "rest: done elsewhere"),
        ([Trigger.RECENT, Trigger.SCHEDULE], {"last": STALE}, "run: due"),
        ([Trigger.RECENT, Trigger.SCHEDULE], {}, "run: recent"),
        ([Trigger.RECENT, Trigger.SCHEDULE], {"covered": 0}, "rest: done elsewhere"),
        ([Trigger.HINT], {"covered": 0}, "run: hint"),
        ([Trigger.HINT, Trigger.RECENT], {}, "run: hint"),
        ([Trigger.HINT, Trigger.SCHEDULE], {"last": STALE}, "run: due"),
        ([Trigger.HINT], {"link": {"parked": "refused: x"}}, "rest: done elsewhere"),
        ([Trigger.HINT], {"failing": True}, "rest: done elsewhere"),
    ],
)
def test_given_time_for_a_pass_in_between_then_it_is_made_only_where_all_is_well(
    triggers: list[Trigger], situation: dict[str, Any], verdict: str
) -> None:
    assert _between(*triggers, **situation) == verdict


@pytest.mark.parametrize(
    ("triggers", "texts", "task"),
    [
        ([Trigger.SCHEDULE], [], Task(Portion(slice=True), [])),
        ([Trigger.SCHEDULE, Trigger.RECENT], [], Task(Portion(slice=True, recent=True), [])),
        ([Trigger.SIGNAL], [], Task(None)),
        ([Trigger.REQUEST], ["5", None], Task(None)),
        ([Trigger.REQUEST], ["5", "7"], Task(Portion(orders=OrderRanges.parse("5,7")), [1, 2])),
        ([Trigger.REQUEST, Trigger.AGAIN], ["5"], Task(Portion(slice=True, orders=OrderRanges.parse("5")), [1])),
    ],
)
def test_given_who_asks_then_the_pass_covers(triggers: list[Trigger], texts: Any, task: Task) -> None:
    requests = [
        Request(number, "shop", "trigger", "erp", NOON, None if text is None else OrderRanges.parse(text))
        for number, text in enumerate(texts, 1)
    ]
    assert task_for(triggers, LINK, [FRESH], requests) == task


@pytest.mark.parametrize(
    ("triggers", "hinted", "portion"),
    [
        ([Trigger.RECENT, Trigger.SCHEDULE], "", Portion(recent=True, called=HINTED)),
        ([Trigger.HINT], "5", Portion(orders=OrderRanges.parse("5"), called=HINTED)),
        ([Trigger.HINT, Trigger.RECENT], "5", Portion(recent=True, orders=OrderRanges.parse("5"), called=HINTED)),
    ],
)
def test_given_a_pass_in_between_then_it_covers_the_newest_or_the_hinted_or_both(
    triggers: list[Trigger], hinted: str, portion: Portion
) -> None:
    orders = OrderRanges.parse(hinted) if hinted else OrderRanges()
    assert task_for(triggers, LINK, [FRESH], [], between=True, hinted=orders) == Task(portion)
