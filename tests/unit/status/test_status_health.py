"""The health of a link, derived from its past runs."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from typing import Any

import pytest

from syncd.cli.screen import STYLES
from syncd.core.model import Counts, Outcome
from syncd.core.order_ranges import OrderRanges
from syncd.core.records import SLICE, LinkRow, RunRow
from syncd.daemon.pages.badges import badge_of_health, badge_of_outcome
from syncd.errors import AuthError, PortalBlocked, UnavailableError
from syncd.status.health import (
    Health,
    LinkHealth,
    Parking,
    Tone,
    failures_in_a_row,
    health_from,
    last_scheduled,
    parking_of,
    tone_of_outcome,
    tone_of_run,
)

NOON = 1_800_000_000.0
LINK = LinkRow(1, "shop", 1, "ends", paused=False, parked="", created_at=NOON)


def _pass(number: int, state: str = "applied", *, error: str = "", holds: int = 0, kind: str = "pass") -> RunRow:
    at = NOON + 60 * number
    counts = Counts(holds=holds)
    return RunRow(number, "shop", 1, kind, state, started_at=at, finished_at=at + 1, error=error, counts=counts)


@pytest.mark.parametrize(
    ("run", "parked", "health"),
    [
        (_pass(1), "", Health.IN_STEP),
        (_pass(1, holds=2), "", Health.HELD),
        (_pass(1, "partial"), "", Health.HELD),
        (_pass(1, "refused", error="too much"), "refused: too much", Health.REFUSED),
        (_pass(1, "failed", error="down"), "", Health.FAILING),
        (_pass(1, "incomplete", error="short"), "", Health.FAILING),
        (_pass(1, "failed", error="no right"), "auth: no right", Health.PARKED),
        (_pass(1, "failed", error="call support"), "blocked: call support", Health.PARKED),
    ],
)
def test_given_the_last_pass_then_the_links_health_is(run: Any, parked: str, health: Health) -> None:
    assert health_from(LINK._replace(parked=parked), [run]).health is health


def test_given_no_pass_then_the_link_waits_for_its_first() -> None:
    assert health_from(LINK, [_pass(1, kind="plan")]) == LinkHealth(Health.NEW, NOON)


def test_given_passes_alike_then_the_health_is_since_the_first_of_them() -> None:
    runs = [_pass(4), _pass(3, kind="apply", state="failed", error="x"), _pass(2), _pass(1, "failed", error="down")]
    assert health_from(LINK, runs) == LinkHealth(Health.IN_STEP, NOON + 121, 4, "")


@pytest.mark.parametrize("error", ["Stopped by SIGTERM; what was in flight is recorded.", "interrupted"])
def test_given_a_pass_that_was_cut_off_then_it_says_nothing_of_the_link(error: str) -> None:
    runs = [_pass(2, "failed", error=error), _pass(1)]
    assert health_from(LINK, runs).run == 1


def test_given_an_unfinished_pass_then_the_one_before_it_counts() -> None:
    unfinished = _pass(2)
    unfinished.finished_at = None
    assert health_from(LINK, [unfinished, _pass(1, holds=1)]).health is Health.HELD


def test_given_runs_then_the_newest_failures_in_a_row_are_counted() -> None:
    down = [_pass(number, "failed", error="down") for number in (6, 5, 4)]
    assert failures_in_a_row([*down, _pass(3), _pass(2, "failed", error="down")]) == 3


@pytest.mark.parametrize(
    ("error", "state", "parking"),
    [
        (PortalBlocked("x"), "failed", Parking.BLOCKED),
        (AuthError("x"), "failed", Parking.AUTH),
        (None, "refused", Parking.REFUSED),
        (UnavailableError("x"), "failed", None),
        (None, "applied", None),
    ],
)
def test_given_how_a_pass_ended_then_the_link_is_parked_for(error: Any, state: str, parking: Parking | None) -> None:
    assert parking_of(error, state) is parking


@pytest.mark.parametrize("refused", [None, "1-30"])
@pytest.mark.parametrize("fine", [None, "1-40"])
def test_given_a_refused_plan_then_a_good_pass_over_its_orders_settles_it(
    refused: str | None, fine: str | None
) -> None:
    runs = [_pass(2), _pass(1, "refused", error="too much")]
    for run, covers in zip(runs, (fine, refused), strict=True):
        run.covers = None if covers is None else OrderRanges.parse(covers)
    settles = fine is None or refused is not None
    assert health_from(LINK, runs).health is (Health.IN_STEP if settles else Health.REFUSED)


def test_given_passes_in_between_then_the_schedule_was_served_by_the_slice_before_them() -> None:
    runs = [_pass(3), _pass(2), _pass(1)]
    for run, part in zip(runs, ("the newest 2,000", "named orders", f"{SLICE}1 of 4"), strict=True):
        run.covers, run.part = OrderRanges.parse("1-5"), part
    assert last_scheduled(LINK, runs) == runs[2].started_at


@pytest.mark.parametrize("state", [*Health, *Outcome])
def test_given_a_health_or_an_outcome_then_it_has_a_tone_with_a_look_on_the_page_and_on_the_terminal(
    state: Health | Outcome,
) -> None:
    tone = state.tone if isinstance(state, Health) else tone_of_outcome(state)
    shown = badge_of_health(state) if isinstance(state, Health) else badge_of_outcome(state)
    page = resources.files("syncd.daemon").joinpath("static/page.css").read_text()
    assert shown.tone is tone
    assert f".badge.{tone}" in page
    assert tone in STYLES


def test_given_runs_of_each_state_then_each_has_the_tone_of_what_it_asks_for() -> None:
    states = ("running", "planned", "applied", "partial", "refused", "failed", "incomplete")
    tones = [Tone.BUSY, Tone.CALM, Tone.GOOD, Tone.WARN, Tone.BAD, Tone.BAD, Tone.BAD]
    assert [tone_of_run(_pass(1, state)) for state in states] == tones
    assert tone_of_run(replace(_pass(1, "refused"), spent_by=2)) is Tone.GOOD
