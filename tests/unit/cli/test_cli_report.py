"""A run as an operator reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from syncd.cli.render.runs import next_command, report, runs
from syncd.cli.screen import TextTable, plain
from syncd.core.model import Action, Change, Counts, Facts, Hold, HoldKind, Outcome, Owner, Reason, Side, SideCounts
from syncd.core.order_ranges import OrderRanges
from syncd.core.records import GuardHit, PortalNames, RunRow, StoredChange
from syncd.engine.formatting import moment
from syncd.engine.report import Report
from syncd.errors import UnavailableError

NOBODY = Facts(None, None, None)


def change(order: int, outcome: Outcome, *, side: Side = Side.CRM, error: str = "") -> StoredChange:
    planned = Change(order, side, Action.ADD, None, Owner(2, order), Reason.TABLE_CHANGED, NOBODY)
    return StoredChange(order, 1, planned, outcome, error)


def run(kind: str, state: str, **values: object) -> RunRow:
    return RunRow(12, "shop", 1, kind, state, **values)  # type: ignore[arg-type]


def text(told: Report) -> str:
    return "\n".join(plain(report(told)))


def test_given_a_plan_then_its_changes_are_grouped_and_the_next_command_ends_it() -> None:
    counts = Counts(in_step=7, crm=SideCounts(add=12))
    told = Report(run("plan", "planned", counts=counts), [change(order, Outcome.PLANNED) for order in range(1, 13)])

    lines = text(told).splitlines()

    assert lines[:4] == [
        "Plan: link shop, run 12",
        "7 orders in step; to write: 12 in the CRM.",
        "In the CRM:",
        "  add 12",
    ]
    assert lines[4] == "    order 1   unbound → deal 1   changed in the table"
    assert lines[-4:] == ["    … and 2 more", "", "Nothing was written. To carry it out:", "  syncd apply 12"]


def test_given_titles_then_a_change_ends_with_those_that_are_known_and_a_hold_shows_them() -> None:
    held = Hold(7, HoldKind.EDIT_EDIT, Facts(Owner(2, 1), Owner(2, 2), None), "Both changed it.")
    told = Report(run("plan", "planned"), [change(1, Outcome.PLANNED), change(3, Outcome.PLANNED)], [held])

    shown = "\n".join(plain(report(told, names=PortalNames({Owner(2, 1): "Desks"}))))

    assert "    order 1  unbound → deal 1  changed in the table; unbound → Desks" in shown
    assert "    order 3  unbound → deal 3  changed in the table\n" in shown
    assert "CRM deal 1 (Desks), table deal 2, nothing agreed" in shown


def test_given_an_empty_plan_then_there_is_nothing_to_do() -> None:
    assert text(Report(run("plan", "planned"))).endswith("Nothing to do.")


@pytest.mark.parametrize("kind", ["plan", "undo"])
def test_given_a_plan_without_a_change_then_its_holds_are_what_is_next_and_nothing_is_to_be_carried_out(
    kind: str,
) -> None:
    held = Hold(7, HoldKind.EDIT_EDIT, Facts(Owner(2, 1), Owner(2, 2), None), "Both changed it.")

    assert text(Report(run(kind, "planned"), holds=[held])).splitlines()[-2:] == [
        "Nothing to write; 1 order held; everything else is in step. To decide the held ones:",
        "  syncd holds shop",
    ]


HELD = Hold(7, HoldKind.EDIT_EDIT, Facts(Owner(2, 1), Owner(2, 2), None), "Both changed it.")
SKIPPED = change(1, Outcome.SKIPPED)
DONE = change(2, Outcome.APPLIED)


@pytest.mark.parametrize(
    ("of", "changes", "holds", "said"),
    [
        ({}, [], [], "Both sides are in step; nothing to write."),
        ({"kind": "apply"}, [DONE], [], "The plan is carried out; 1 change applied."),
        (
            {"kind": "apply"},
            [SKIPPED],
            [],
            "No change applied; 1 change not carried out. The next pass looks at it again.",
        ),
        ({"kind": "apply"}, [DONE], [HELD], "1 change applied; 1 order held. To decide the held ones:"),
        (
            {},
            [SKIPPED, change(3, Outcome.WAITING)],
            [],
            (
                "No change applied; 1 change not carried out and 1 remove waits; everything else is in step. "
                "The next pass looks at them again."
            ),
        ),
        ({"covers": OrderRanges.parse("5-9")}, [DONE], [], "These orders are in step; 1 change applied."),
        (
            {"covers": OrderRanges.parse("5-9")},
            [SKIPPED],
            [],
            (
                "No change applied; 1 change not carried out; the others of these orders are in step. "
                "The next pass looks at it again."
            ),
        ),
    ],
)
def test_given_a_run_that_looked_at_a_part_then_it_does_not_say_that_the_rest_is_in_step(
    of: dict[str, Any], changes: list[StoredChange], holds: list[Hold], said: str
) -> None:
    row = replace(run(of.get("kind", "pass"), "applied"), covers=of.get("covers"))

    assert said in text(Report(row, changes, holds)).splitlines()


def test_given_a_pass_with_failures_then_they_are_never_among_the_uncounted() -> None:
    changes = [change(order, Outcome.APPLIED) for order in range(1, 12)]
    told = Report(run("pass", "partial"), [*changes, change(99, Outcome.FAILED, error="500 broken")])

    shown = text(told)

    assert "add 12: 11 applied, 1 failed" in shown
    assert "order 99  unbound → deal 99  failed: 500 broken" in shown
    assert "1 change not carried out" in shown


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.SKIPPED])
def test_given_a_pass_whose_every_change_was_left_then_it_does_not_say_that_there_was_nothing_to_write(
    outcome: Outcome,
) -> None:
    told = Report(run("pass", "partial"), [change(1, outcome, error="500 broken"), change(2, outcome, error="500")])

    assert text(told).splitlines()[-1] == (
        "No change applied; 2 changes not carried out; everything else is in step. The next pass looks at them again."
    )


@pytest.mark.parametrize("outcome", [Outcome.UNCERTAIN, Outcome.INTENDED])
def test_given_a_change_whose_answer_was_lost_then_it_is_not_said_that_it_was_not_carried_out(outcome: Outcome) -> None:
    told = Report(run("pass", "partial"), [change(1, outcome), change(2, Outcome.FAILED, error="500 broken")])

    assert (
        text(told)
        .splitlines()[-1]
        .startswith("No change applied; 1 change not carried out and 1 change uncertain; everything else is in step.")
    )


def test_given_holds_then_each_says_why_and_the_next_command_is_holds() -> None:
    facts = Facts(Owner(2, 1), Owner(2, 2), Owner(2, 3))
    told = Report(run("pass", "applied"), holds=[Hold(7, HoldKind.EDIT_EDIT, facts, "Both sides changed.")])

    assert "order 7  edit-edit  CRM deal 1, table deal 2, agreed deal 3" in text(told)
    assert next_command(told) == "syncd holds shop"


def test_given_a_refusal_then_the_guards_are_sentences_and_apply_is_the_way_on() -> None:
    hit = GuardHit("max_removes", Side.TABLE, 100, 4000)
    told = Report(run("pass", "refused", guards=[hit], error="…"))

    assert "- 4,000 removes in the table; the limit is 100 a run" in text(told)
    assert "If that is a mistake, correct the CRM; the next pass compares anew." in text(told)
    assert text(told).endswith("syncd apply 12")


def test_given_a_look_at_a_refused_plan_then_the_run_that_holds_it_is_shown_and_applied() -> None:
    hit = GuardHit("max_removes", Side.TABLE, 100, 4000)
    told = Report(run("pass", "refused", guards=[hit], error="…", source=7))

    lines = text(told).splitlines()

    assert lines[0] == "Look at run 7: link shop, run 12"
    assert lines[-3:] == [
        "If that is a mistake, correct the CRM; the next pass compares anew.",
        "Look at the plan that waits (syncd show 7), and if it is what you want:",
        "  syncd apply 7",
    ]


def test_given_a_refusal_because_the_ends_changed_then_rebase_is_the_way_on() -> None:
    hit = GuardHit("fingerprint", None, 0, 1)
    told = Report(run("pass", "refused", guards=[hit], error="The configuration points elsewhere."))

    assert "The configuration points elsewhere." in text(told)
    assert "in step" not in text(told)  # nothing was read
    assert "If that is a mistake, correct the link's settings; what was agreed is kept." in text(told)
    assert next_command(told) == "syncd rebase shop"


def test_given_an_error_before_any_write_then_it_says_that_nothing_was_written() -> None:
    told = Report(run("pass", "failed", error="down"), error=UnavailableError("down"))

    assert text(told).endswith("Nothing was written.")
    assert next_command(told) == ""


def test_given_an_error_before_any_write_then_its_changes_are_still_to_be_written() -> None:
    failed = run("pass", "failed", error="down")
    failed.counts.in_step, failed.counts.crm.move = 7, 53
    planned, applied = change(1, Outcome.PLANNED), change(2, Outcome.APPLIED)

    assert "7 orders in step; to write: 53 in the CRM." in text(
        Report(failed, [planned], error=UnavailableError("down"))
    )
    assert "7 orders in step; changes: 53 in the CRM." in text(
        Report(failed, [applied], error=UnavailableError("down"))
    )


def test_given_an_error_after_writes_then_it_says_where_they_stand() -> None:
    told = Report(run("pass", "partial"), [change(1, Outcome.APPLIED)], error=UnavailableError("down"))

    assert text(told).endswith("The audit lists what was written.")


def test_given_a_spent_plan_then_it_offers_no_next_command() -> None:
    told = Report(run("plan", "planned", spent_by=13), [change(1, Outcome.PLANNED)])

    assert next_command(told) == ""
    assert text(told).endswith("Applied by run 13.")


def test_given_a_refused_plan_that_was_applied_then_the_list_of_runs_is_no_longer_red_for_it() -> None:
    (table,) = runs([run("pass", "refused", spent_by=13), run("pass", "refused")], 0.0)

    assert isinstance(table, TextTable)
    assert table.tones == ["good", "bad"]


def test_given_hostile_texts_then_nothing_reaches_the_terminal_as_a_control_sequence() -> None:
    told = Report(
        run("pass", "partial"), [change(1, Outcome.FAILED, error="\x1b]0;owned\x07 https://x/rest/1/abcdef/")]
    )

    assert "\x1b" not in text(told)
    assert "abcdef" not in text(told)


def test_given_removes_that_wait_then_the_report_says_so_and_until_when() -> None:
    waits = (
        "waits: absent from the table since 2026-01-01T00:00:00+00:00; a later pass removes it if it is still absent"
    )
    told = Report(run("pass", "applied"), [change(order, Outcome.WAITING, error=waits) for order in (1, 2, 3)])

    shown = text(told)

    assert "3 waiting" in shown
    assert f"absent from the table since {moment(1_767_225_600)}; a later pass" in shown, "not as stored, in UTC"
    assert shown.endswith("Nothing was written; 3 removes wait until a later pass finds the same orders absent.")
    assert told.exit_code == 0


def test_given_more_changes_than_a_report_holds_then_all_are_counted() -> None:
    told = Report(
        run("pass", "applied"),
        [change(1, Outcome.APPLIED), change(2, Outcome.APPLIED)],
        tally={(Side.CRM, Action.ADD, Outcome.APPLIED): 9000, (Side.TABLE, Action.ADD, Outcome.FAILED): 1},
    )

    shown = text(told)

    assert "9,000: 9,000 applied" in shown
    assert "8,998 more" in shown
    assert "1 change not carried out" in shown
    assert told.is_cut
