"""Guards: each refuses a whole plan, on each side."""

from __future__ import annotations

from syncd.core.model import Side
from tests.simulation.switch import Guard, Line, Name, rule, specification
from tests.unit.engine import test_engine_guards as on_guards

GUARDS, RUN, ENGINE = "syncd.core.guards", "syncd.engine.run", "syncd.engine.reconcile"

ON_EITHER_SIDE = {
    "max_removes": "many-removes-are-refused-on-either-side",
    "max_removes_percent": "removes-of-a-large-part-are-refused-on-either-side",
    "max_removes_small": "a-few-removes-of-a-small-link-are-free-and-more-are-refused",
    "max_removes_per_day": "removes-of-a-day-are-counted-on-either-side",
    "max_moves_percent": "moves-of-a-large-part-are-refused-on-either-side",
    "max_adds_percent": "adds-of-a-large-part-are-refused-on-either-side",
}

SWITCHES = [
    *(
        rule(f"{name} refuses what is too much for the {side.value} side.", Guard(name, side), caught_by)
        for name, caught_by in ON_EITHER_SIDE.items()
        for side in Side
    ),
    rule("A table that reads as empty is refused.", Guard("empty_side", Side.TABLE), "empty-table-is-refused"),
    rule("A portal that reads as empty is refused.", Guard("empty_side", Side.CRM), "empty-portal-is-refused"),
    rule(
        "A first sync that would write asks a person.",
        Line(f"{GUARDS}:first_sync", "if ask and writes", "if False"),
        "first-sync-asks",
    ),
    rule(
        "The adds of a first sync are not counted.",
        Line(f"{GUARDS}:evaluate", "first_sync and hit.name", "False and hit.name"),
        "a-first-sync-that-was-cut-off-goes-on-as-one",
    ),
    rule(
        "A first sync that was cut off goes on as one.",
        Line(f"{RUN}:Run.plan", " or not await self.link.store.completed(self.held.row.id)", ""),
        "a-first-sync-that-was-cut-off-goes-on-as-one",
    ),
    rule(
        "A link on which nothing is agreed is at its first sync.",
        Line(f"{RUN}:Run.plan", "seen.counts.agreed == 0 or", "False or"),
        "a-link-that-agreed-on-nothing-asks-still",
    ),
    rule(
        "Below twenty agreed bindings, adds and moves are free.",
        Name(f"{GUARDS}:SMALL", 1),
        "a-small-link-may-grow-and-move-as-it-likes",
    ),
    rule(
        "Below twenty agreed bindings, two removes are free.",
        Name(f"{GUARDS}:SMALL_REMOVES", 1),
        "a-few-removes-of-a-small-link-are-free-and-more-are-refused",
    ),
    rule(
        "Removes are counted for a day, not for ever.",
        Name(f"{RUN}:DAY", 10.0**9),
        "removes-of-a-day-are-counted-on-either-side",
    ),
    rule(
        "A link whose ends are others than those it agreed on is refused.",
        Line(f"{RUN}:Run.same_ends", "if self.held.row.fingerprint == self.link.fingerprint:", "if True:"),
        "other-ends-are-not-touched",
    ),
    rule(
        "A refused plan is not written.",
        Line(f"{ENGINE}:reconcile", "if plan.guards:", "if False:"),
        "guard-refuses-until-it-is-applied",
    ),
    rule(
        "A plan made by command is refused just as a pass is.",
        Line(f"{ENGINE}:plan", "if plan_.guards:", "if False:"),
        specification(on_guards.test_given_a_plan_command_then_it_is_refused_just_as_a_pass_is),
    ),
]
