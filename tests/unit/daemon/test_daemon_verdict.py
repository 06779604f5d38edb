from __future__ import annotations

import pytest
from daemon_world import NOON

from syncd.config.schedule import parse_schedule
from syncd.core.records import LinkRow, RunRow
from syncd.daemon.slots import Slots
from syncd.daemon.verdict import Ask, Situation, judge

SLOTS = Slots("shop", parse_schedule("5m"))
LINK = LinkRow(1, "shop", 1, "ends", paused=False, parked="", created_at=NOON)


def _run(*, ago: float, error: str = "", finished: bool = True) -> RunRow:
    at = NOON - ago
    state = "failed" if error else "applied"
    return RunRow(7, "shop", 1, "pass", state, started_at=at, finished_at=at + 1 if finished else None, error=error)


def _why(*asks: Ask, asked: float = 0.0, last: RunRow | None = None, slots: Slots | None = SLOTS, **more) -> str:
    row = LINK._replace(**{key: more.pop(key) for key in ("paused", "parked") if key in more})
    verdict = judge(dict.fromkeys(asks, NOON - asked), Situation(row, last, slots, NOON, **more))
    return ("run: " if verdict.run else "rest: ") + verdict.why


FRESH = _run(ago=1)
STALE = _run(ago=400)
FAILED = _run(ago=1, error="The portal is down.")


@pytest.mark.parametrize(
    ("asks", "situation", "verdict"),
    [
        ([Ask.START], {}, "run: first"),
        ([Ask.SCHEDULE], {"last": STALE}, "run: due"),
        ([Ask.START], {"last": STALE}, "run: due"),
        ([Ask.SCHEDULE], {"last": FRESH}, "rest: done elsewhere"),
        ([Ask.START], {"last": FRESH}, "rest: done elsewhere"),
        ([Ask.START], {"last": FAILED}, "run: again"),
        ([Ask.SCHEDULE], {"last": FAILED}, "rest: done elsewhere"),
        ([Ask.SCHEDULE], {"last": _run(ago=1, finished=False)}, "run: interrupted"),
        ([Ask.SCHEDULE], {"last": _run(ago=1, error="Stopped by SIGTERM; it is recorded.")}, "run: interrupted"),
        ([Ask.SCHEDULE], {"last": _run(ago=1, error="interrupted")}, "run: interrupted"),
        ([Ask.SCHEDULE], {"last": STALE, "resting": True}, "rest: pausing after a failure"),
        ([Ask.AGAIN], {"last": FAILED, "resting": True}, "run: again"),
        ([Ask.AGAIN], {"last": FRESH, "asked": 100}, "rest: done elsewhere"),
        ([Ask.AGAIN], {"last": _run(ago=200), "asked": 100}, "run: again"),
        ([Ask.SCHEDULE], {"last": STALE, "paused": True}, "rest: paused"),
        ([Ask.RELOAD], {"last": FRESH, "paused": True}, "rest: paused"),
        ([Ask.TRIGGER], {"last": FRESH, "paused": True, "requested": True}, "run: asked"),
        ([Ask.SIGNAL], {"last": FRESH, "parked": "refused: x"}, "run: asked"),
        ([Ask.SIGNAL], {"last": FRESH, "asked": 5}, "rest: done elsewhere"),
        ([Ask.SIGNAL], {"last": _run(ago=1, finished=False), "asked": 5}, "run: asked"),
        ([Ask.TRIGGER], {"last": FRESH}, "rest: done elsewhere"),
        ([Ask.TRIGGER], {"last": FRESH, "asked": 5, "requested": True}, "run: asked"),
        ([Ask.TRIGGER], {"slots": None, "requested": True}, "run: asked"),
        ([Ask.TRIGGER], {"slots": None}, "rest: unscheduled"),
        ([Ask.START], {"slots": None}, "rest: unscheduled"),
        ([Ask.RELOAD], {"slots": None}, "rest: unscheduled"),
        ([Ask.RELOAD], {"last": FRESH}, "run: reconfigured"),
        ([Ask.SCHEDULE], {"last": STALE, "parked": "auth: x", "look": NOON + 1}, "rest: parked"),
        ([Ask.AGAIN], {"last": STALE, "parked": "auth: x", "look": NOON + 1}, "rest: parked"),
        ([Ask.SCHEDULE], {"last": STALE, "parked": "auth: x", "look": NOON}, "run: look"),
        ([Ask.AGAIN], {"last": STALE, "parked": "auth: x", "look": NOON}, "run: look"),
        ([Ask.AGAIN], {"last": FAILED, "parked": "refused: x", "look": NOON + 1, "failing": True}, "run: again"),
        (
            [Ask.SCHEDULE],
            {"last": STALE, "parked": "refused: x", "failing": True, "resting": True},
            "rest: pausing after a failure",
        ),
        ([Ask.SCHEDULE], {"last": _run(ago=-7200), "parked": "refused: x", "look": NOON + 8000}, "run: look"),
        ([Ask.SCHEDULE], {"last": STALE, "parked": "refused: x", "changed": True}, "run: facts changed"),
        ([Ask.START], {"last": STALE, "parked": "refused: x"}, "run: facts changed"),
        ([Ask.RELOAD], {"last": STALE, "parked": "refused: x"}, "run: reconfigured"),
        ([Ask.SCHEDULE], {"last": _run(ago=-7200)}, "run: first"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_given_who_asks_and_what_is_known_then_the_verdict_is(asks, situation, verdict):
    assert _why(*asks, **situation) == verdict


def test_given_a_slot_served_a_moment_after_it_came_then_it_is_not_served_again():
    slot = SLOTS.after(NOON)
    assert slot is not None
    served = RunRow(1, "shop", 1, "pass", "applied", started_at=slot, finished_at=slot + 2)
    verdict = judge({Ask.SCHEDULE: slot}, Situation(LINK, served, SLOTS, slot + 3))
    assert not verdict.run
