"""All links on one screen, and the story of one order."""

from __future__ import annotations

import pytest

from syncd.cli.render.history import history
from syncd.cli.render.status import LinkStatus, due, health, status, status_json
from syncd.cli.screen import plain
from syncd.config.schedule import Schedule, parse_schedule
from syncd.core.model import Action, Change, Counts, Facts, Hold, HoldKind, Outcome, Owner, Reason, Side, SideCounts
from syncd.core.records import BindingRow, LeaseRow, LinkRow, RunRow, StoredChange, StoredHold
from syncd.engine.story import Story, why

NOW = 1_800_000_000.0
EVERY = parse_schedule("5m")


def link(
    name: str = "shop",
    state: str = "applied",
    *,
    parked: str = "",
    paused: bool = False,
    holds: int = 0,
    kind: str = "pass",
    adds: int = 0,
    lease: LeaseRow | None = None,
    schedule: Schedule | None = None,
    look_at: float | None = None,
    source: int | None = None,
) -> LinkStatus:
    row = LinkRow(1, name, 1, "f", paused, parked, 0.0)
    counts = Counts(crm=SideCounts(add=adds))
    run = RunRow(7, name, 1, kind, state, source=source, started_at=NOW - 60, finished_at=NOW - 59, counts=counts)
    return LinkStatus(name, row, 1234, holds, run, lease, schedule, look_at)


HELD = LeaseRow("shop", "host:1", 3, NOW - 5, NOW + 25)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (link(), "in step"),
        (link(holds=2), "held"),
        (link(state="partial", holds=2), "held"),
        (link(state="partial"), "leftovers"),
        (link(state="refused"), "refused"),
        (link(state="failed"), "failing"),
        (link(state="incomplete", holds=2), "failing"),
        (link(state="running", lease=HELD), "working"),
        (link(state="running"), "interrupted"),
        (link(state="planned", kind="plan", adds=3), "planned"),
        (link(state="planned", kind="plan"), "in step"),
        (link(paused=True), "paused"),
        (link(paused=True, parked="auth: no right"), "parked"),
        (link(state="refused", parked="refused: too much"), "refused"),
        (LinkStatus("shop", None, 0, 0, None, None, None), "never run"),
    ],
)
def test_given_a_link_then_one_word_says_how_it_is(given: LinkStatus, word: str) -> None:
    assert health(given, NOW) == word


@pytest.mark.parametrize(
    ("given", "when"),
    [
        (link(), "on command"),
        (link(schedule=parse_schedule("5m")), "in 4 min"),
        (link(schedule=parse_schedule("30s")), "now"),
        (link(schedule=parse_schedule("0 3 * * *")), "0 3 * * *"),
        (link(schedule=parse_schedule("5m"), paused=True), "not before resumed"),
        (link(schedule=parse_schedule("5m"), parked="…"), "parked"),
        (link(schedule=parse_schedule("5m"), parked="…", look_at=NOW + 750), "look in 12 min 30 s"),
        (link(schedule=parse_schedule("5m"), parked="…", look_at=NOW - 1), "look due"),
    ],
)
def test_given_a_schedule_then_the_next_pass_is_told_as_far_as_it_is_known(given: LinkStatus, when: str) -> None:
    assert due(given, NOW) == when


def test_given_twenty_links_then_they_fit_one_screen_of_24_lines_and_80_columns() -> None:
    links = [link(f"shop-{number:02}", schedule=parse_schedule("5m")) for number in range(20)]

    lines = list(plain(status(links, {}, NOW), width=80))

    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_given_links_that_need_somebody_then_each_is_named_with_the_command_to_begin_with() -> None:
    links = [link("a", state="refused"), link("b", holds=1), link("c", paused=True), link("d", parked="no right")]

    text = "\n".join(plain(status(links, {}, NOW)))

    for line in ("a  syncd show 7", "b  syncd holds b", "c  syncd resume c", "d  parked: no right", "syncd check d"):
        assert line in text


def test_given_parked_links_then_why_when_they_are_looked_at_next_and_what_to_begin_with() -> None:
    links = [
        link("a", state="refused", parked="refused: too much", look_at=NOW + 600, source=5, schedule=EVERY),
        link("b", state="failed", parked="auth: The portal refuses the webhook.", look_at=NOW + 60, schedule=EVERY),
    ]

    lines = list(plain(status(links, {}, NOW)))

    assert lines[-4:] == [
        "  a  refused: too much; next look in 10 min",
        "     syncd show 5",
        "  b  parked: The portal refuses the webhook; next look in 1 min",
        "     syncd check b",
    ]
    assert "look in 10 min" in lines[1]
    assert [status_json(one, NOW)["next_run_at"] for one in links] == [
        "2027-01-15T08:10:00+00:00",
        "2027-01-15T08:01:00+00:00",
    ]


def test_given_an_operating_budget_in_use_then_it_is_shown_and_one_that_is_over_is_not() -> None:
    spent = {"crm.orderentity.add": (240.0, NOW + 90, NOW), "crm.orderentity.list": (400.0, NOW - 1, NOW)}

    text = "\n".join(plain(status([link()], {"x.bitrix24.com": spent}, NOW)))

    assert "x.bitrix24.com  crm.orderentity.add  240 s of 480 s  resets in 1 min 30 s" in text
    assert "crm.orderentity.list" not in text


# ------------------------------------------------------------------------------------------- history


def change(
    outcome: Outcome, *, run: int = 3, at: float = NOW - 60, action: Action = Action.ADD, error: str = ""
) -> StoredChange:
    side = None if action is Action.AGREE else Side.CRM
    facts = Facts(None, Owner(2, 5), None)
    made = Change(9, side, action, None, Owner(2, 5), Reason.TABLE_CHANGED, facts)
    return StoredChange(run, run, made, outcome, error, at)


def story(
    *changes: StoredChange,
    holds: tuple[tuple[StoredHold, float | None], ...] = (),
    binding: BindingRow | None = None,
) -> Story:
    return Story("shop", 9, changes, holds, binding)


BOUND = BindingRow(9, 2, 5, 2, 5)


def test_given_a_write_then_it_says_since_when_and_why_it_is_so() -> None:
    told = story(change(Outcome.APPLIED), binding=BOUND)

    assert list(why(told, NOW)) == ["It is bound to deal 5 on both sides since run 3, 1 min ago: changed in the table."]


def test_given_a_failed_attempt_after_it_then_the_last_success_is_the_reason() -> None:
    told = story(change(Outcome.APPLIED), change(Outcome.FAILED, run=4, error="500"), binding=BOUND)

    assert "since run 3" in " ".join(why(told, NOW))
    assert "failed: 500" in "\n".join(plain(history(told, NOW)))


def test_given_an_agreement_then_both_sides_said_so_already() -> None:
    told = story(change(Outcome.APPLIED, action=Action.AGREE), binding=BOUND)

    assert "both sides said so already" in " ".join(why(told, NOW))


def test_given_a_crm_that_moved_on_then_it_says_that_the_next_pass_looks() -> None:
    told = story(change(Outcome.APPLIED), binding=BOUND._replace(crm_id=6))

    assert "The CRM has since been seen with deal 6" in " ".join(why(told, NOW))


def test_given_an_open_hold_then_it_is_the_reason() -> None:
    hold = Hold(9, HoldKind.EDIT_EDIT, Facts(Owner(2, 1), Owner(2, 2), None), "Both changed it.", since=NOW - 120)
    told = story(change(Outcome.APPLIED), holds=((StoredHold(hold, sticky=False, run=5), None),), binding=BOUND)

    assert list(why(told, NOW)) == [
        "It is held since 2 min ago (edit-edit): Both changed it.",
        "Now: CRM deal 1, table deal 2, nothing agreed.",
    ]


def test_given_a_released_hold_then_it_is_told_with_what_released_it() -> None:
    hold = Hold(9, HoldKind.EDIT_EDIT, Facts(None, None, None), "…", since=NOW - 120)
    decided = StoredHold(hold, sticky=False, decision="crm", run=5)

    text = "\n".join(plain(history(story(holds=((decided, NOW - 60),)), NOW)))

    assert "held: edit-edit" in text
    assert "decided: crm" in text


def test_given_nothing_then_it_says_that_nothing_is_known() -> None:
    assert "syncd does not know this order" in "\n".join(plain(history(story(), NOW)))
