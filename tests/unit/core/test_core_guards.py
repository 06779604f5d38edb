"""Each guard at, below and above its limit; the small-set rule; the sentences an operator reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from inline_snapshot import snapshot

from syncd.core.guards import SAME_MOMENT, GuardLimits, evaluate, first_sync, sentence, state_older
from syncd.core.model import Counts, Side, SideCounts
from syncd.core.records import GuardHit, KnownRun, LastDay, RunRow

LIMITS = GuardLimits()
FREE = GuardLimits(**dict.fromkeys(GuardLimits.__dataclass_fields__, 10**6))
"""Limits that refuse nothing a thousand bindings could come to."""


def counts(side: Side, *, agreed: int, add: int = 0, move: int = 0, remove: int = 0, rows: int = 500) -> Counts:
    made = Counts(agreed=agreed, crm_rows=rows, table_rows=rows)
    done = SideCounts(add, move, remove)
    return replace(made, crm=done) if side is Side.CRM else replace(made, table=done)


def names(hits: list[GuardHit]) -> list[tuple[str, Side | None]]:
    return [(hit.name, hit.side) for hit in hits]


@pytest.fixture(params=list(Side), ids=str)
def side(request: pytest.FixtureRequest) -> Side:
    return Side(request.param)


def test_the_defaults_are_those_of_the_contract() -> None:
    assert (
        LIMITS.max_removes,
        LIMITS.max_removes_percent,
        LIMITS.max_moves_percent,
        LIMITS.max_adds_percent,
        LIMITS.max_removes_per_day,
        LIMITS.max_moves,
        LIMITS.max_removes_percent_per_day,
        LIMITS.max_moves_percent_per_day,
        LIMITS.max_reverts,
        LIMITS.second_look_above,
    ) == (100, 10, 30, 50, 500, 1000, 15, 35, 5, 2)


@pytest.mark.parametrize("name", sorted(set(GuardLimits.__dataclass_fields__) - {"second_look_above"}))
def test_given_a_limit_alone_then_a_plan_beyond_it_is_refused_in_its_name(name: str, side: Side) -> None:
    done = SideCounts(add=50, move=50, remove=50, reverts=50)
    of_side: dict[str, Any] = {side.value: done}
    plan = replace(counts(side, agreed=1000), **of_side)

    assert evaluate(plan, FREE) == []
    assert names(evaluate(plan, replace(FREE, **{name: 1}))) == [(name, side)]


def test_given_a_plan_without_changes_then_nothing_refuses(side: Side) -> None:
    assert evaluate(counts(side, agreed=1000), LIMITS) == []


@pytest.mark.parametrize(("removes", "refused"), [(4, False), (5, False), (6, True)])
def test_max_removes_counts_the_removes_of_one_side(side: Side, removes: int, refused: bool) -> None:
    limits = replace(FREE, max_removes=5)

    hits = evaluate(counts(side, agreed=1000, remove=removes), limits)

    assert hits == ([GuardHit("max_removes", side, 5, removes)] if refused else [])


@pytest.mark.parametrize("action", ["add", "move", "remove"])
@pytest.mark.parametrize(("changes", "refused"), [(99, False), (100, False), (101, True)])
def test_percentages_are_of_the_agreed_bindings(side: Side, action: str, changes: int, refused: bool) -> None:
    guard = f"max_{action}s_percent"
    limits = replace(FREE, **{guard: 10})

    hits = evaluate(counts(side, agreed=1000, **{action: changes}), limits)

    assert hits == ([GuardHit(guard, side, 10, 10.1)] if refused else [])


def test_changes_of_each_action_are_measured_by_their_own_limit(side: Side) -> None:
    hits = evaluate(counts(side, agreed=100, remove=11, move=31, add=51), LIMITS)

    assert hits == [
        GuardHit("max_removes_percent", side, 10, 11.0),
        GuardHit("max_moves_percent", side, 30, 31.0),
        GuardHit("max_adds_percent", side, 50, 51.0),
    ]


def test_each_side_is_measured_on_its_own() -> None:
    both = replace(counts(Side.CRM, agreed=1000, remove=60), table=SideCounts(remove=60))

    assert evaluate(both, replace(FREE, max_removes=100)) == []
    assert names(evaluate(both, replace(FREE, max_removes=59))) == [
        ("max_removes", Side.CRM),
        ("max_removes", Side.TABLE),
    ]


def test_a_refused_percentage_is_shown_above_its_limit_however_close_it_is(side: Side) -> None:
    [hit] = evaluate(counts(side, agreed=10_000, remove=1001), replace(FREE, max_removes_percent=10))

    assert hit == GuardHit("max_removes_percent", side, 10, 10.1)


@pytest.mark.parametrize("agreed", [0, 1, 2, 19])
@pytest.mark.parametrize(("removes", "refused"), [(2, False), (3, True)])
def test_below_twenty_agreed_at_most_two_removes_are_free(side: Side, agreed: int, removes: int, refused: bool) -> None:
    hits = evaluate(counts(side, agreed=agreed, remove=removes), FREE)

    assert hits == ([GuardHit("max_removes_small", side, 2, removes)] if refused else [])


@pytest.mark.parametrize(
    ("action", "free"), [("add", 20), ("move", 2), ("remove", 2)], ids=["adds", "moves", "removes"]
)
def test_below_twenty_bindings_each_action_has_a_number_of_its_own(side: Side, action: str, free: int) -> None:
    nothing_allowed = replace(FREE, max_moves_percent=0, max_adds_percent=0, max_removes_percent=0)

    assert evaluate(counts(side, agreed=19, **{action: free}), nothing_allowed) == []
    assert evaluate(counts(side, agreed=19, **{action: free + 1}), nothing_allowed) == [
        GuardHit(f"max_{action}s_small", side, free, free + 1)
    ]


@pytest.mark.parametrize("action", ["move", "remove"])
def test_below_twenty_bindings_five_a_day_are_free(side: Side, action: str) -> None:
    def day(today: int) -> LastDay:
        done = {side: today, side.other: 10**6}
        return LastDay(None, done if action == "move" else {}, done if action == "remove" else {})

    two = counts(side, agreed=19, **{action: 2})

    assert evaluate(two, FREE, day(3)) == []
    assert evaluate(two, FREE, day(4)) == [GuardHit(f"max_{action}s_small_per_day", side, 5, 6)]
    assert evaluate(counts(side, agreed=19), FREE, day(9)) == []


@pytest.mark.parametrize("action", ["move", "remove"])
def test_percentages_of_a_day_count_what_was_written_with_the_plan(side: Side, action: str) -> None:
    guard = f"max_{action}s_percent_per_day"
    limits = replace(FREE, **{guard: 10})

    def day(today: int) -> LastDay:
        done = {side: today, side.other: 10**6}
        return LastDay(1000, done if action == "move" else {}, done if action == "remove" else {})

    plan = counts(side, agreed=500, **{action: 40})

    assert evaluate(plan, limits, day(60)) == []
    assert evaluate(plan, limits, day(61)) == [GuardHit(guard, side, 10, 10.1)]
    assert evaluate(counts(side, agreed=500), limits, day(900)) == []


def test_a_side_nothing_was_moved_on_today_counts_from_zero(side: Side) -> None:
    limits = replace(FREE, max_moves_percent_per_day=10)

    assert evaluate(counts(side, agreed=1000, move=100), limits) == []
    assert names(evaluate(counts(side, agreed=1000, move=101), limits)) == [("max_moves_percent_per_day", side)]


@pytest.mark.parametrize("action", ["add", "move", "remove"])
def test_what_was_written_in_parts_counts_with_a_plan_of_the_same_action_and_with_no_other(
    side: Side, action: str
) -> None:
    guard = f"max_{action}s_percent"
    limits = replace(FREE, **{guard: 10})

    def parts(number: int) -> LastDay:
        written: dict[str, int] = {action: number}
        return LastDay(None, {}, {}, in_parts={side: SideCounts(**written), side.other: SideCounts(900, 900, 900)})

    plan = counts(side, agreed=1000, **{action: 40})
    assert evaluate(plan, limits, parts(60)) == []
    assert evaluate(plan, limits, parts(61)) == [GuardHit(guard, side, 10, 10.1)]
    assert evaluate(counts(side, agreed=1000), limits, parts(900)) == []


def test_max_moves_counts_the_moves_of_one_side(side: Side) -> None:
    assert evaluate(counts(side, agreed=1000, move=5), replace(FREE, max_moves=5)) == []
    assert evaluate(counts(side, agreed=1000, move=6), replace(FREE, max_moves=5)) == [
        GuardHit("max_moves", side, 5, 6)
    ]


@pytest.mark.parametrize(("agreed", "limit"), [(40, 5), (599, 5), (600, 6), (2000, 20)])
def test_reverts_are_refused_above_a_number_and_above_one_percent(side: Side, agreed: int, limit: int) -> None:
    def plan(reverts: int) -> Counts:
        made = counts(side, agreed=agreed, move=reverts)
        made.of(side).reverts = reverts
        return made

    limits = replace(FREE, max_reverts=5)

    assert evaluate(plan(limit), limits) == []
    assert evaluate(plan(limit + 1), limits) == [GuardHit("max_reverts", side, limit, limit + 1)]


def test_reverts_of_the_last_day_count_with_those_of_a_plan_that_has_any(side: Side) -> None:
    day = LastDay(None, {}, {}, reverted={side: {1, 2, 3}, side.other: {4, 5, 6}})
    plan, limits = counts(side, agreed=100, move=3), replace(FREE, max_reverts=5)

    assert evaluate(plan, limits, day) == [], "none of its moves is a revert"
    plan.of(side).reverts = 2
    assert evaluate(plan, limits, day) == []
    plan.of(side).reverts = 3
    assert evaluate(plan, limits, day) == [GuardHit("max_reverts", side, 5, 6)]


def test_percentages_are_of_the_rows_of_the_side_where_they_are_more(side: Side) -> None:
    limits = replace(FREE, max_moves_percent=10)
    plan = counts(side, agreed=0, move=100)
    plan.crm_in_scope, plan.table_in_scope = (1000, 20) if side is Side.CRM else (20, 1000)

    assert evaluate(plan, limits) == []
    assert evaluate(plan, limits, LastDay(900, {}, {})) == []
    plan.of(side).move = 101
    assert evaluate(plan, limits) == [GuardHit("max_moves_percent", side, 10, 10.1)]


def test_from_twenty_agreed_on_the_percentages_hold_instead(side: Side) -> None:
    assert evaluate(counts(side, agreed=20, remove=3), FREE) == []
    assert names(evaluate(counts(side, agreed=20, remove=3), LIMITS)) == [("max_removes_percent", side)]
    assert evaluate(counts(side, agreed=20, remove=2), LIMITS) == []


def test_the_small_set_does_not_lift_the_number_of_removes_a_run(side: Side) -> None:
    assert names(evaluate(counts(side, agreed=19, remove=2), replace(FREE, max_removes=1))) == [("max_removes", side)]


@pytest.mark.parametrize(("today", "removes", "refused"), [(7, 3, False), (8, 3, True), (10, 1, True), (11, 0, False)])
def test_removes_of_a_day_count_with_those_of_the_plan(side: Side, today: int, removes: int, refused: bool) -> None:
    limits = replace(FREE, max_removes_per_day=10)

    day = LastDay(None, {}, {side: today, side.other: 10**9})
    hits = evaluate(counts(side, agreed=1000, remove=removes), limits, day)

    assert hits == ([GuardHit("max_removes_per_day", side, 10, today + removes)] if refused else [])


def test_a_side_nothing_was_removed_from_today_counts_from_zero(side: Side) -> None:
    limits = replace(FREE, max_removes_per_day=10)

    assert evaluate(counts(side, agreed=1000, remove=10), limits) == []
    assert names(evaluate(counts(side, agreed=1000, remove=11), limits)) == [("max_removes_per_day", side)]


@pytest.mark.parametrize("agreed", [1, 1000])
@pytest.mark.parametrize("action", ["move", "remove"])
def test_given_a_side_that_reads_as_empty_then_what_it_would_destroy_is_refused(
    side: Side, agreed: int, action: str
) -> None:
    read = Counts(agreed=agreed, crm_rows=0, table_rows=5)
    if side is Side.TABLE:
        read = Counts(agreed=agreed, crm_rows=5, table_rows=0)
    assert evaluate(read, FREE) == [], "nothing is planned for it"
    setattr(read.of(side.other), action, 1)

    assert evaluate(read, FREE) == [GuardHit("empty_side", side, 1, 0)]


def test_given_two_empty_sides_then_nothing_is_refused() -> None:
    assert evaluate(Counts(agreed=1000, crm_rows=0, table_rows=0), LIMITS) == []


def test_given_a_single_row_then_the_side_is_not_empty(side: Side) -> None:
    assert evaluate(counts(side, agreed=1000, rows=1), FREE) == []


def test_given_nothing_agreed_then_empty_sides_are_no_surprise() -> None:
    assert evaluate(Counts(), LIMITS) == []


def test_given_several_reasons_then_all_are_reported_crm_first() -> None:
    plan = Counts(
        agreed=1000, crm_rows=0, table_rows=0, crm=SideCounts(remove=200), table=SideCounts(add=501, remove=101)
    )

    assert names(evaluate(plan, LIMITS, LastDay(None, {}, {Side.TABLE: 400}))) == [
        ("empty_side", Side.CRM),
        ("max_removes", Side.CRM),
        ("max_removes_percent", Side.CRM),
        ("max_removes_percent_per_day", Side.CRM),
        ("empty_side", Side.TABLE),
        ("max_removes", Side.TABLE),
        ("max_removes_percent", Side.TABLE),
        ("max_adds_percent", Side.TABLE),
        ("max_removes_percent_per_day", Side.TABLE),
        ("max_removes_per_day", Side.TABLE),
    ]


def test_the_first_sync_asks_with_the_number_of_its_writes() -> None:
    plan = Counts(crm=SideCounts(1, 2, 4), table=SideCounts(8, 16, 32))

    assert first_sync(plan, ask=True) == [GuardHit("first_sync", None, 0, 63)]


def test_a_first_sync_that_was_cut_off_may_add_as_many_as_it_likes_and_destroy_as_little_as_any_pass(
    side: Side,
) -> None:
    adds = counts(side, agreed=100, add=90)
    assert names(evaluate(adds, LIMITS)) == [("max_adds_percent", side)]
    assert evaluate(adds, LIMITS, first_sync=True) == []
    assert evaluate(counts(side, agreed=5, add=90), LIMITS, first_sync=True) == []
    removes = counts(side, agreed=100, remove=11)
    assert names(evaluate(removes, LIMITS, first_sync=True)) == [("max_removes_percent", side)]


def test_the_first_sync_asks_nothing_when_it_may_write_or_has_nothing_to_write() -> None:
    assert first_sync(Counts(table=SideCounts(add=1)), ask=False) == []
    assert first_sync(Counts(in_step=5), ask=True) == []


def test_each_refusal_is_a_sentence_with_its_numbers() -> None:
    plan = Counts(agreed=9000, crm_rows=0, crm=SideCounts(add=4501, move=2701, remove=901), table_rows=9000)
    small = Counts(agreed=12, crm_rows=12, table_rows=3, table=SideCounts(remove=9))
    hits = [
        *((hit, plan) for hit in evaluate(plan, LIMITS, LastDay(None, {}, {Side.CRM: 77}))),
        *((hit, small) for hit in evaluate(small, LIMITS)),
        *((hit, plan) for hit in first_sync(plan, ask=True)),
        (GuardHit("max_moves_percent", Side.TABLE, 2.5, 12345.6), plan),
        (GuardHit("empty_side", Side.TABLE, 1, 0), plan),
        (GuardHit("max_removes", Side.TABLE, 1_000_000, 1_234_567), plan),
        (GuardHit("max_removes_per_day", Side.TABLE, 1_000_000, 1_234_567), plan),
        (GuardHit("first_sync", None, 0, 1_234_567), plan),
        (GuardHit("state_older", None, 0, 12_345), plan),
    ]

    assert [sentence(*pair) for pair in hits] == snapshot(
        [
            "901 removes in the CRM; the limit is 100 a run",
            "2,701 moves in the CRM; the limit is 1,000 a run",
            "10.1 % of the bindings would be removed in the CRM; the limit is 10 %",
            "30.1 % of the bindings would be moved in the CRM; the limit is 30 %",
            "50.1 % of the bindings would be added in the CRM; the limit is 50 %",
            "978 removes in the CRM within 24 hours, this plan included; the limit is 500",
            "9 removes in the table; with fewer than 20 bindings the limit is 2",
            "9 removes in the table within 24 hours, this plan included; with fewer than 20 bindings the limit is 5",
            "this is the first sync of the link, and it would write 8,103 changes",
            "12,345.6 % of the bindings would be moved in the table; the limit is 2.5 %",
            "the table reads as empty, while 9,000 bindings are agreed",
            "1,234,567 removes in the table; the limit is 1,000,000 a run",
            "1,234,567 removes in the table within 24 hours, this plan included; the limit is 1,000,000",
            "this is the first sync of the link, and it would write 1,234,567 changes",
            (
                "the state database does not know what run 12345 of this link changed: it is an older copy, such as a "
                "restored backup, or another database"
            ),
        ]
    )


def test_given_one_of_a_thing_then_the_sentence_says_it_in_the_singular() -> None:
    one = counts(Side.CRM, agreed=1, remove=1)
    hits = [
        GuardHit("empty_side", Side.CRM, 1, 0),
        GuardHit("max_removes", Side.CRM, 0, 1),
        GuardHit("max_removes_per_day", Side.CRM, 0, 1),
        GuardHit("first_sync", None, 0, 1),
    ]

    assert [sentence(hit, one) for hit in hits] == [
        "the CRM reads as empty, while 1 binding is agreed",
        "1 remove in the CRM; the limit is 0 a run",
        "1 remove in the CRM within 24 hours, this plan included; the limit is 0",
        "this is the first sync of the link, and it would write 1 change",
    ]


def test_given_a_restored_side_or_a_range_that_reads_as_empty_then_the_sentence_says_what_it_looks_like() -> None:
    part = Counts(agreed=40, whole=9000)

    assert sentence(GuardHit("empty_side", Side.TABLE, 1, 0), part) == (
        "the table reads as empty in a range of the orders that were read, while 40 bindings are agreed"
    )
    assert [sentence(GuardHit("max_reverts", Side.CRM, 5, number), part) for number in (1, 6)] == [
        f"{orders} in the CRM would get back within 24 hours what syncd replaced in the week before the last pass, as after "
        "a restored backup; the limit is 5"
        for orders in ("1 order", "6 orders")
    ]


NOTED = KnownRun("this database", 7, 1000.0, 1060.0)
"""The last run that changed the link's state, as noted outside."""


def stored(started_at: float = 1000.0, finished_at: float | None = 1060.0) -> RunRow:
    return RunRow(7, "shop", 1, "pass", "applied", "command", started_at=started_at, finished_at=finished_at)


@pytest.mark.parametrize(
    ("known", "state", "row"),
    [
        (None, "this database", None),
        (NOTED, "this database", stored()),
        (NOTED, "this database", stored(1000.0 + SAME_MOMENT / 2, 1060.0 - SAME_MOMENT / 2)),
        (NOTED._replace(finished_at=None), "this database", stored()),
        (NOTED._replace(finished_at=None), "this database", stored(finished_at=None)),
    ],
    ids=["nothing is noted", "the run", "rounded otherwise", "noted before its end", "still under way"],
)
def test_given_a_state_that_knows_the_noted_run_then_nothing_is_refused(
    known: KnownRun | None, state: str, row: RunRow | None
) -> None:
    assert state_older(known, state, row) == []


@pytest.mark.parametrize(
    ("state", "row"),
    [
        ("another database", stored()),
        ("this database", None),
        ("this database", stored(started_at=1000.0 + 2 * SAME_MOMENT)),
        ("this database", stored(finished_at=None)),
        ("this database", stored(finished_at=1060.0 + 2 * SAME_MOMENT)),
    ],
    ids=["another database", "no such run", "begun at another time", "not ended here", "ended at another time"],
)
def test_given_a_state_that_does_not_know_the_noted_run_then_it_is_refused_as_older(
    state: str, row: RunRow | None
) -> None:
    hits = state_older(NOTED, state, row)

    assert hits == [GuardHit("state_older", None, 0, 7)]
    assert sentence(hits[0], Counts()).startswith("the state database does not know what run 7 of this link changed")
