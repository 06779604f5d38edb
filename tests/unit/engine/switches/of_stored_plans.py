"""Stored plans, and undo."""

from __future__ import annotations

from tests.simulation.switch import Line, Name, Together, rule, specification
from tests.unit.engine import test_engine_apply_run as on_apply
from tests.unit.engine import test_engine_rebase as on_rebase
from tests.unit.engine import test_engine_undo as on_undo

ENGINE, STORED, PLAN = "syncd.engine.reconcile", "syncd.engine.stored", "syncd.core.plan"

SWITCHES = [
    rule(
        "A stored plan is applied once.",
        Line(f"{STORED}:check_applicable", "if stored.spent_by is not None:", "if False:"),
        "stored-plan-is-applied-once",
    ),
    rule(
        "A stored plan is spent before it is written.",
        Line(
            f"{ENGINE}:apply", "if not await link.store.spend(await run.held.prove(), source, run.row.id):", "if False:"
        ),
        specification(on_apply.test_given_a_plan_that_is_spent_while_we_read_then_nothing_is_written),
        "stored-plan-is-applied-once",
    ),
    rule(
        "A stored plan is applied while it is fresh.",
        Line(f"{STORED}:check_applicable", "if age > link.plan_ttl:", "if False:"),
        "stored-plan-grows-stale",
    ),
    rule(
        "Only a plan is applied.",
        Line(
            f"{STORED}:check_applicable",
            'if stored.kind not in {"plan", "undo", "pass"} or stored.state not in {"planned", "refused"}:',
            "if False:",
        ),
        "a-finished-pass-is-no-plan",
    ),
    rule(
        "A plan made before a rebase is not applied.",
        Line(f"{ENGINE}:apply", "if stored.link_id != run.held.row.id:", "if False:"),
        "stored-plan-of-other-ends",
    ),
    rule(
        "A plan of another link is not applied.",
        Line(f"{STORED}:stored_run", "if row is None or row.link != link.name:", "if row is None:"),
        specification(on_apply.test_given_a_run_of_another_link_or_none_at_all_then_it_is_a_usage_error),
    ),
    rule(
        "A stored plan is not applied to other ends.",
        Line(f"{ENGINE}:apply", "if not await run.same_ends():", "if False:"),
        specification(on_rebase.test_given_other_ends_then_apply_and_undo_are_refused_likewise),
    ),
    rule(
        "An order that moved since it was planned is skipped.",
        Name(f"{ENGINE}:moved_since", lambda _change, _facts: ""),
        specification(on_apply.test_given_an_order_that_moved_on_either_side_then_it_is_skipped_and_says_so, "crm"),
        "undo-leaves-what-moved-since",
    ),
    rule(
        "An order that was held since it was planned is skipped (and, as every held order, not written).",
        Together(
            Line(f"{ENGINE}:apply", "elif held is not None and not moved[one.id]:", "elif False:"),
            Line("syncd.engine.verify:Draft.settle", "if change.order_id not in out", "if True"),
        ),
        "an-order-held-since-it-was-planned-is-skipped",
    ),
    rule(
        "Naming an undo decides the orders it puts back.",
        Line(f"{ENGINE}:apply", 'if held is not None and stored.kind == "undo":', "if False:"),
        "undo-puts-back-what-was-overwritten",
    ),
    rule(
        "Nothing but the stored plan is written.",
        Line(
            f"{ENGINE}:apply",
            "asked = replace(seen, changes=[one.change for one in wanted if not moved[one.id]])",
            "asked = seen",
        ),
        specification(on_apply.test_given_a_stored_plan_when_nothing_moved_then_it_is_done_and_nothing_else),
    ),
    rule(
        "A stored plan closes no hold of an order it leaves alone.",
        Line(f"{ENGINE}:apply", "seen.released = [order for order in seen.released if order not in proposed]", "pass"),
        "a-plan-closes-no-hold-of-an-order-it-leaves-alone",
    ),
    # ------------------------------------------------------------------------------ undo
    rule(
        "Undo puts back only what the run wrote.",
        Line(f"{PLAN}:_found", "if stored.outcome is Outcome.ALREADY:", "if False:"),
        "undo-leaves-what-others-wrote",
    ),
    rule(
        "Undo puts back what was really there.",
        Line(f"{PLAN}:_found", "return stored.before", "return stored.change.before"),
        "undo-puts-back-what-was-overwritten",
    ),
    rule(
        "Undo leaves what was not written.",
        Name(f"{PLAN}:_IN_PLACE", frozenset(on_apply.Outcome)),
        "what-was-refused-is-not-undone",
    ),
    rule(
        "An undone order whose sides differ is held.",
        Line(
            f"{PLAN}:_reverse_order",
            "hold = None if restored.crm == restored.table else conflict_kind(restored)",
            "hold = None",
        ),
        "undo-puts-back-and-holds",
        "undo-removes-what-was-copied",
    ),
    rule(
        "A run of another link cannot be undone.",
        Line(f"{STORED}:stored_run", "if row is None or row.link != link.name:", "if row is None:"),
        specification(on_undo.test_given_a_run_of_another_link_or_none_at_all_when_undone_then_it_is_a_usage_error),
    ),
    rule(
        "A run that wrote nothing cannot be undone.",
        Line(f"{ENGINE}:undo", "if not any(reverse(written)) and", "if False and"),
        specification(on_undo.test_given_a_run_that_wrote_nothing_when_undone_then_it_says_so),
    ),
]
