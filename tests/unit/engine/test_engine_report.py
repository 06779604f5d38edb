"""The JSON of a run, letter-exact to json.md, for each state a run can end in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from syncd.core.model import (
    Action,
    Change,
    Counts,
    Facts,
    Hold,
    HoldKind,
    Outcome,
    Reason,
    Side,
    SideCounts,
    Unreadable,
)
from syncd.core.order_ranges import OrderRanges
from syncd.core.records import Decision, GuardHit, RunRow, StoredChange
from syncd.engine.report import Report, change_json, decision_json, guard_json, hold_json, run_json, to_json
from syncd.errors import AuthError, UnavailableError
from tests.fakes.link import FREE
from tests.fakes.portal import Surprise
from tests.simulation.world import World
from tests.unit.engine.given import apply, deal, in_step, plan

pytestmark = pytest.mark.anyio

SECONDS = 1_800_000_000.0
SINCE = "2027-01-15T08:00:00+00:00"
NONE = {"add": 0, "move": 0, "remove": 0}


async def edited() -> World:
    world = await in_step({5: 10, 6: 11, 7: 12})
    world.edit_table(5, (2, 20))
    world.edit_crm(6, (2, 21))
    world.edit_table(6, (2, 31))
    return world


def form(report: Report) -> dict[str, Any]:
    """The report as a reader of the JSON sees it."""
    read: dict[str, Any] = json.loads(json.dumps(to_json(report)))
    return read


HELD = {
    "order_id": 6,
    "kind": "edit-edit",
    "crm": {"owner_type_id": 2, "owner_id": 21},
    "table": {"owner_type_id": 2, "owner_id": 31},
    "agreed": {"owner_type_id": 2, "owner_id": 11},
    "since": SINCE,
    "detail": "Both sides changed the order since they last agreed, each to another owner.",
}


def moved(outcome: str, error: str | None = None) -> dict[str, Any]:
    return {
        "order_id": 5,
        "side": "crm",
        "action": "move",
        "before": {"owner_type_id": 2, "owner_id": 10},
        "after": {"owner_type_id": 2, "owner_id": 20},
        "reason": "table-changed",
        "outcome": outcome,
        "error": error,
    }


async def test_given_a_plan_then_every_key_is_as_the_contract_says() -> None:
    world = await edited()

    report = await plan(world)

    assert form(report) == {
        "run": 2,
        "link": "shop",
        "state": "planned",
        "digest": report.row.digest,
        "first_sync": False,
        "counts": {"in_step": 1, "crm": {**NONE, "move": 1}, "table": NONE, "holds": 1, "waiting": 0},
        "changes": [moved("planned")],
        "holds": [HELD],
        "guards": [],
        "error": None,
        "portal": {"requests": 1, "calls": 1, "seconds": 0.0},
        "covers": None,
        "part": None,
    }
    assert len(report.row.digest) == 64
    assert report.exit_code == 2


async def test_given_an_applied_pass_then_state_and_outcome_say_so() -> None:
    world = await edited()

    report = await world.reconcile()
    told = form(report)

    assert (told["state"], told["changes"], told["holds"]) == ("applied", [moved("applied")], [HELD])
    assert told["counts"] == {"in_step": 1, "crm": {**NONE, "move": 1}, "table": NONE, "holds": 1, "waiting": 0}
    assert told["portal"] == {"requests": 2, "calls": 2, "seconds": 0.0}
    assert report.exit_code == 3


async def test_given_a_hold_that_goes_on_when_planned_then_it_is_as_old_as_it_is_and_one_of_another_kind_is_new() -> (
    None
):
    world = await edited()
    began = world.clock.now()
    await world.reconcile()
    await world.clock.sleep(100)

    (same,) = (await plan(world)).holds
    world.edit_crm(6, None)
    (other,) = (await plan(world)).holds

    assert (same.kind, same.since) == (HoldKind.EDIT_EDIT, began)
    assert (other.kind, other.since) == (HoldKind.REMOVE_EDIT, began + 100)


async def test_given_a_plan_that_is_applied_after_an_order_moved_then_it_is_partial() -> None:
    world = await edited()
    run = (await plan(world)).row.id
    world.edit_table(5, (2, 22))

    report = await apply(world, run)
    told = form(report)

    assert (told["run"], told["state"]) == (3, "partial")
    assert told["changes"] == [moved("skipped", "moved since the plan: table was deal 20, is deal 22")]
    assert report.exit_code == 3


async def test_given_a_refused_pass_then_the_guards_carry_their_numbers_and_error_their_sentence() -> None:
    world = await in_step(30, limits=replace(FREE, max_removes=1, max_removes_percent=5))
    for order in (1, 2):
        world.edit_table(order, None)

    report = await world.reconcile()
    told = form(report)

    assert told["state"] == "refused"
    assert told["guards"] == [
        {"name": "max_removes", "side": "crm", "limit": 1, "actual": 2},
        {"name": "max_removes_percent", "side": "crm", "limit": 5, "actual": 6.7},
    ]
    assert {one["outcome"] for one in told["changes"]} == {"planned"}
    assert told["error"].startswith("2 removes in the CRM; the limit is 1 a run; ")
    assert report.exit_code == 4


async def test_given_a_run_that_failed_then_error_says_why() -> None:
    world = await edited()
    world.portal.read_right = False

    report = await world.reconcile()
    told = form(report)

    assert (told["state"], told["changes"], told["digest"]) == ("failed", [], "")
    assert told["error"] == "The portal fake refuses these credentials."
    assert report.exit_code == AuthError.exit_code == 77


async def test_given_a_client_that_earlier_runs_used_too_then_a_run_reports_what_it_used_itself() -> None:
    world = await edited()
    listing = world.portal.listing

    def counted(*args: Any) -> Any:
        world.portal._usage.listing_seconds += 2.5
        return listing(*args)

    world.portal.listing = counted  # type: ignore[method-assign]
    await world.reconcile()

    report = await world.reconcile()

    assert form(report)["portal"] == {"requests": 1, "calls": 1, "seconds": 2.5}
    assert report.row.conditional is True


async def test_given_more_changes_than_a_report_shows_then_it_shows_the_first_and_counts_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("syncd.engine.run.REPORTED", 3)
    world = await in_step(20)
    for order in range(1, 6):
        world.edit_table(order, (2, 500 + order))

    report = await world.reconcile()

    assert [one.change.order_id for one in report.changes] == [1, 2, 3]
    assert report.outcomes == {Outcome.APPLIED: 5}


async def test_given_an_incomplete_listing_then_the_state_is_incomplete() -> None:
    world = await edited()
    world.portal.listings.append(Surprise.INCOMPLETE)

    report = await world.reconcile()
    told = form(report)

    assert (told["state"], told["changes"]) == ("incomplete", [])
    assert told["counts"] == {"in_step": 0, "crm": NONE, "table": NONE, "holds": 0, "waiting": 0}
    assert "Nothing was written" in told["error"]
    assert report.exit_code == 69


async def test_given_a_first_sync_then_it_says_so() -> None:
    world = World()
    world.edit_crm(5, (2, 10))

    told = form(await world.reconcile())

    assert told["first_sync"] is True
    assert told["changes"][0] | {"after": None} == {
        "order_id": 5,
        "side": "table",
        "action": "add",
        "before": None,
        "after": None,
        "reason": "crm-changed",
        "outcome": "applied",
        "error": None,
    }


async def test_given_an_intent_without_an_outcome_then_it_is_reported_as_uncertain() -> None:
    world = await edited()
    world.portal.script.append(Surprise.LOST_AFTER)
    world.portal.reads.append(Surprise.UNAVAILABLE)

    report = await world.reconcile()

    why = "whether it was written is not known yet; the next run finds out"
    assert form(report)["changes"] == [moved("uncertain", why)]
    assert report.row.state == "failed"


async def test_given_history_then_before_names_what_was_really_there() -> None:
    world = await edited()
    world.portal.conditional = False
    world.portal.before_write = lambda _batch: world.edit_crm(5, (2, 77))
    await world.reconcile()

    (_agreed, stored) = await world.store.history("shop", 5)
    told = change_json(stored, audit=True)

    assert (told["run"], told["at"]) == (2, SINCE)
    assert told["before"] == {"owner_type_id": 2, "owner_id": 77}
    assert change_json(stored)["before"] == {"owner_type_id": 2, "owner_id": 10}, "a report says what was planned"
    assert told["outcome"] == "applied"


async def test_given_an_agreement_in_history_then_its_side_is_both() -> None:
    world = await edited()

    (agreed,) = await world.store.history("shop", 7)

    assert (change_json(agreed)["side"], change_json(agreed)["action"]) == ("both", "agree")


def test_given_rows_without_an_order_then_the_holds_order_is_null() -> None:
    facts = Facts(None, None, None, Unreadable(HoldKind.INVALID_ROW, "no id"))

    assert hold_json(Hold(0, HoldKind.INVALID_ROW, facts, "no id")) == {
        "order_id": None,
        "kind": "invalid-row",
        "crm": None,
        "table": None,
        "agreed": None,
        "since": None,
        "detail": "no id",
    }


def test_given_a_guard_of_no_side_then_its_side_is_null_and_whole_numbers_stay_whole() -> None:
    told = json.dumps(guard_json(GuardHit("fingerprint", None, 0, 1.0)))

    assert told == '{"name": "fingerprint", "side": null, "limit": 0, "actual": 1}'
    assert '"actual": 6.7}' in json.dumps(guard_json(GuardHit("max_moves_percent", Side.CRM, 5, 6.7)))


@pytest.mark.parametrize(
    "row",
    [
        RunRow(1, "shop", 1, "plan", "planned"),
        RunRow(1, "shop", 1, "pass", "applied"),
        RunRow(1, "shop", 1, "undo", "planned"),
    ],
)
def test_given_nothing_to_do_then_the_exit_is_0(row: RunRow) -> None:
    assert Report(row).exit_code == 0


def test_given_counts_then_a_side_keeps_its_three_numbers_apart() -> None:
    counts = Counts(in_step=940, crm=SideCounts(3, 1, 0), table=SideCounts(2, 0, 1), holds=1, agreed=7)

    assert to_json(Report(RunRow(12, "shop", 1, "pass", "applied", counts=counts)))["counts"] == {
        "in_step": 940,
        "crm": {"add": 3, "move": 1, "remove": 0},
        "table": {"add": 2, "move": 0, "remove": 1},
        "holds": 1,
        "waiting": 0,
    }


def test_given_the_keys_of_the_contract_then_they_come_in_its_order() -> None:
    assert list(to_json(Report(RunRow(1, "shop", 1, "pass", "applied")))) == [
        "run", "link", "state", "digest", "first_sync", "counts", "changes", "holds", "guards", "error", "portal",
        "covers", "part",
    ]  # fmt: skip


def test_given_a_run_of_the_history_then_every_key_is_as_the_contract_says() -> None:
    row = RunRow(
        12, "shop", 1, "pass", "refused", "schedule", 7, SECONDS, SECONDS + 60.4, "ab12", True,
        Counts(in_step=940, crm=SideCounts(3, 1, 0), holds=1), [GuardHit("max_moves", Side.CRM, 10, 12)], "12 moves",
        3, 51, 1.23456, 14, covers=OrderRanges.parse("5,30-60"), part="slice 1 of 4",
    )  # fmt: skip

    assert list(run_json(row).items()) == list({
        "run": 12,
        "link": "shop",
        "kind": "pass",
        "state": "refused",
        "origin": "schedule",
        "source": 7,
        "spent_by": 14,
        "started_at": SINCE,
        "finished_at": "2027-01-15T08:01:00+00:00",
        "digest": "ab12",
        "first_sync": True,
        "counts": {"in_step": 940, "crm": {"add": 3, "move": 1, "remove": 0}, "table": NONE, "holds": 1, "waiting": 0},
        "guards": [{"name": "max_moves", "side": "crm", "limit": 10, "actual": 12}],
        "error": "12 moves",
        "portal": {"requests": 3, "calls": 51, "seconds": 1.235},
        "covers": "5,30-60",
        "part": "slice 1 of 4",
    }.items())  # fmt: skip


def test_given_a_run_that_has_just_begun_then_what_is_not_known_yet_is_null() -> None:
    told = run_json(RunRow(12, "shop", 1, "pass", "running", started_at=SECONDS))

    assert {name for name, value in told.items() if value is None} == {
        "source", "spent_by", "finished_at", "error", "covers", "part",
    }  # fmt: skip


def test_given_a_report_over_some_orders_then_it_names_them_and_how_long_the_portal_took() -> None:
    row = RunRow(12, "shop", 1, "pass", "applied", seconds=1.23456, covers=OrderRanges.parse("5"), part="named orders")

    told = to_json(Report(row))

    assert (told["covers"], told["part"], told["portal"]["seconds"]) == ("5", "named orders", 1.235)


def test_given_what_people_decided_then_every_key_is_as_the_contract_says() -> None:
    decided = Decision("shop", "resolve", "crm", "ann@desk", SECONDS, "she called", 5, None)

    assert list(decision_json(decided).items()) == [
        ("kind", "resolve"),
        ("said", "crm"),
        ("by", "ann@desk"),
        ("at", SINCE),
        ("comment", "she called"),
        ("order_id", 5),
        ("run", None),
    ]
    assert decision_json(Decision("shop", "pause", "", "ann@desk", SECONDS)) == {
        "kind": "pause", "said": None, "by": "ann@desk", "at": SINCE, "comment": None, "order_id": None, "run": None,
    }  # fmt: skip


def test_given_a_table_of_keys_then_changes_and_holds_name_the_key_beside_the_order_where_it_is_known() -> None:
    change = Change(5, Side.CRM, Action.ADD, None, deal(10), Reason.TABLE_CHANGED, Facts(None, deal(10), None))
    row = RunRow(12, "shop", 1, "pass", "applied")
    held = [Hold(order, HoldKind.EDIT_EDIT, Facts(deal(1), deal(2), deal(3)), "", since=SECONDS) for order in (6, 7)]
    report = Report(row, [StoredChange(1, 12, change, Outcome.APPLIED)], held, keys={5: "WEB-5", 6: "WEB-6"})

    told = to_json(report)

    assert [list(one)[:2] for one in (*told["changes"], *told["holds"])] == [
        ["order_id", "key"], ["order_id", "key"], ["order_id", "kind"],
    ]  # fmt: skip
    assert [one.get("key") for one in (*told["changes"], *told["holds"])] == ["WEB-5", "WEB-6", None]
    assert told["holds"][0]["since"] == SINCE


def test_given_more_changes_than_a_report_holds_then_it_says_so_and_its_json_takes_them_from_elsewhere() -> None:
    change = Change(5, Side.CRM, Action.ADD, None, deal(10), Reason.TABLE_CHANGED, Facts(None, deal(10), None))
    stored = StoredChange(1, 12, change, Outcome.APPLIED)
    agreed = replace(stored, change=replace(change, side=None))
    row = RunRow(12, "shop", 1, "pass", "applied")

    whole = Report(row, [stored, agreed])
    cut = Report(
        row, [stored], tally={(Side.CRM, Action.ADD, Outcome.APPLIED): 2, (Side.TABLE, Action.ADD, Outcome.APPLIED): 3}
    )

    assert (Report(row, [stored]).is_cut, whole.is_cut, cut.is_cut) == (False, False, True)
    assert (whole.outcomes, cut.outcomes) == ({Outcome.APPLIED: 1}, {Outcome.APPLIED: 5})
    assert to_json(cut, ["all", "of", "them"])["changes"] == ["all", "of", "them"]


@pytest.mark.parametrize(
    ("kind", "state", "outcome", "held", "code"),
    [
        ("plan", "planned", Outcome.PLANNED, False, 2),
        ("plan", "planned", Outcome.WAITING, True, 2),
        ("plan", "planned", Outcome.SKIPPED, False, 3),
        ("plan", "refused", Outcome.PLANNED, False, 4),
        ("undo", "planned", Outcome.PLANNED, False, 0),
        ("pass", "applied", Outcome.APPLIED, False, 0),
        ("pass", "applied", Outcome.WAITING, False, 0),
        ("pass", "applied", Outcome.APPLIED, True, 3),
        ("pass", "partial", Outcome.FAILED, False, 3),
        ("pass", "partial", Outcome.UNCERTAIN, False, 3),
        ("pass", "partial", Outcome.INTENDED, False, 3),
        ("pass", "refused", Outcome.PLANNED, True, 4),
    ],
)
def test_given_what_a_run_came_to_then_its_exit_code_says_so(
    kind: str, state: str, outcome: Outcome, held: bool, code: int
) -> None:
    change = Change(5, Side.CRM, Action.ADD, None, deal(10), Reason.TABLE_CHANGED, Facts(None, deal(10), None))
    holds = [Hold(6, HoldKind.EDIT_EDIT, Facts(deal(1), deal(2), deal(3)), "")] if held else []
    row = RunRow(12, "shop", 1, kind, state)

    assert Report(row, [StoredChange(1, 12, change, outcome)], holds).exit_code == code
    assert Report(row, [StoredChange(1, 12, change, outcome)], holds, UnavailableError("away")).exit_code == 69
