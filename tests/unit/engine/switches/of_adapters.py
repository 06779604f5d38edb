"""Rules of the engine that its ports keep: the portal's proofs, the table's conditions, the state database's fence."""

from __future__ import annotations

from functools import partial
from typing import Any

from syncd.core.records import Lease, LinkRow
from syncd.errors import SyncdError
from syncd.sandbox.faults import Fault
from syncd.state.store import SqlStore
from syncd.table.spool import Spool, SpooledSnapshot
from syncd.table.sql import SqlTable
from tests.simulation.switch import Line, Name, Together, rule
from tests.unit.engine.switches import lives
from tests.unit.engine.switches.of_decisions import nothing

LISTING, WINDOWS, WRITING = "syncd.portal.listing", "syncd.portal.window_reader", "syncd.portal.writing"
CLIENT, CONDITIONS = "syncd.portal.client", "syncd.portal.probes"

NO_ROWS = 'return CommandAnswer({"orderEntity": []})'

read_it = SqlTable._snapshot


def empty_if_it_cannot_be_read(table: SqlTable, *how: Any) -> SpooledSnapshot:
    try:
        return read_it(table, *how)
    except SyncdError:
        return SpooledSnapshot(Spool(), {}, [], {})


async def the_old_state_for_the_new_ends(store: SqlStore, lease: Lease, fingerprint: str, _now: float) -> LinkRow:
    return await store.keep_portal(lease, fingerprint, "", "")


SWITCHES = [
    rule(
        "A listing whose rows disagree with the portal's count is not complete.",
        Name(f"{LISTING}:Listing._prove", nothing),
        partial(lives.spoiled_pages_write_nothing, Fault.GAP),
        partial(lives.spoiled_pages_write_nothing, Fault.SHORT),
        partial(lives.spoiled_pages_write_nothing, Fault.EMPTY),
        partial(lives.spoiled_pages_write_nothing, Fault.TOTAL, skip=0),
    ),
    rule(
        "A page whose rows do not grow is not one.",
        Name(f"{WINDOWS}:ascending", lambda _ids: True),
        partial(lives.spoiled_pages_write_nothing, Fault.SHUFFLE),
    ),
    rule(
        "A page with rows that were not asked for is not one.",
        Line(f"{WINDOWS}:_page", "if ids[0] <= after or ids[-1] > upto:", "if False:"),
        partial(lives.spoiled_pages_write_nothing, Fault.REPEAT),
    ),
    rule(
        "Every command of a batch is accounted for (and what it left out would be missed by the count).",
        Together(
            Line(f"{WINDOWS}:_result", 'raise UnusablePage("no answer to the command")', NO_ROWS),
            Name(f"{LISTING}:Listing._prove", nothing),
        ),
        partial(lives.spoiled_pages_write_nothing, Fault.LOSE_KEY),
    ),
    rule(
        "After a full page it is read on.",
        Line(f"{WINDOWS}:WindowReader._is_last", "< PAGE or", "< PAGE or True or"),
        lives.a_window_that_fills_up_is_read_to_its_end,
    ),
    rule(
        "A write to the portal carries its condition.",
        Line(f"{WRITING}:compose", "elif order_id in bare:", "elif True:"),
        lives.an_edit_right_before_a_request_is_not_replaced,
    ),
    rule(
        "A portal on which conditions do not work is written to without them.",
        Line(
            f"{CONDITIONS}:_judge",
            "return all(found[key] == ([known.order_id] if finds else []) for key, finds in _FINDS.items())",
            "return True",
        ),
        lives.a_portal_without_conditions_is_kept_in_step,
    ),
    rule(
        "Where batches carry no conditions, orders are read right before they are written.",
        Line(f"{CLIENT}:_WriteBatch.make_commands", "if write.order_id in self.bare]", "if False]"),
        lives.an_edit_before_a_bare_write_is_not_replaced,
    ),
    rule(
        "A bare write comes with a list of its order.",
        Line(f"{WRITING}:result_of", "found=before, found_known=True) if known", "found=before) if known"),
        lives.a_race_within_a_request_is_held,
    ),
    rule(
        "A request whose connection broke may still be executed.",
        Line(
            f"{CLIENT}:BitrixPortal.write",
            "sending.set_all(Effect.UNKNOWN, str(lost))",
            "sending.set_all(Effect.NOT_SENT, '')",
        ),
        lives.a_lost_request_does_not_overtake_what_came_later,
    ),
    rule(
        "A row of the portal whose owner cannot be read is not absent (and whoever asks for it by id is told, too).",
        Together(
            Line("syncd.portal.pages:split", "{row[0]: NO_OWNER for row in rows if not row[2]}", "{}"),
            Line("syncd.engine.verify:_removals_from_table", "if isinstance(owner, Unreadable):", "if False:"),
        ),
        lives.a_row_of_the_portal_without_an_owner_is_held,
    ),
    rule(
        "A row is written only if it still says what was read.",
        Line("syncd.table.transaction:TransactionWriter._answer", "if found != write.before:", "if False:"),
        lives.a_row_that_moved_is_not_overwritten,
    ),
    rule(
        "Two rows of an order are none of both.",
        Line(
            "syncd.table.snapshot:SnapshotBuilder._one_by_one",
            "if len(same) == 1 and owner is not None:",
            "if owner is not None:",
        ),
        lives.two_rows_of_an_order_are_held,
    ),
    rule(
        "A table that is not there does not read as empty (nor would anything be removed without asking it).",
        Together(
            Name("syncd.table.sql:SqlTable._snapshot", empty_if_it_cannot_be_read),
            Name("syncd.engine.verify:_removals_from_crm", nothing),
        ),
        lives.a_dropped_table_is_not_an_empty_one,
    ),
    rule(
        "Every transaction proves the fence of its lease.",
        Name("syncd.state.leases:prove", lambda _connection, _lease: None),
        lives.whoever_lost_the_lease_writes_nothing_more,
    ),
    rule(
        "A lease is given to one process only.",
        Line(
            "syncd.state.leases:LeaseKeeper._take_row", 'if row["holder"] and not expired', "if False and not expired"
        ),
        lives.a_second_process_is_turned_away,
    ),
    rule(
        "A plan is spent once, whoever asks at the same moment.",
        Line("syncd.state.runs:spend", ", run_table.c.spent_by.is_(None)", ""),
        lives.a_plan_is_spent_once,
    ),
    rule(
        "A rebased link begins with nothing agreed, and so removes nothing.",
        Name("syncd.state.store:SqlStore.rebase", the_old_state_for_the_new_ends),
        lives.a_rebased_link_removes_nothing,
    ),
]
