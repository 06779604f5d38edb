"""Rules of the engine that its ports keep: the portal's proofs, the table's conditions, the state database's fence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from syncd.core.ports import Effect, Write, WriteResult
from syncd.core.records import Lease, LinkRow
from syncd.errors import SyncdError
from syncd.portal import window_reader
from syncd.portal.client import _WriteBatch
from syncd.portal.commands import Witness
from syncd.portal.pages import split
from syncd.portal.responses import CommandAnswer
from syncd.portal.writing import Composed, compose
from syncd.sandbox.faults import Fault
from syncd.state.store import SqlStore
from syncd.table.rows import TableRow
from syncd.table.spool import Spool, SpooledSnapshot
from syncd.table.sql import SqlTable
from syncd.table.transaction import TransactionWriter
from tests.simulation.switch import Name, Silent, Together, rule
from tests.unit.engine.switches import lives
from tests.unit.engine.switches.of_decisions import nothing

LISTING, WINDOWS, WRITING = "syncd.portal.listing", "syncd.portal.window_reader", "syncd.portal.writing"
CLIENT, CONDITIONS = "syncd.portal.client", "syncd.portal.probes"

usable, answer_of = window_reader._result, TransactionWriter._answer
read_it = SqlTable._snapshot


def without_conditions(batch: Sequence[Write], _bare: Collection[int], witnesses: Mapping[int, Witness]) -> Composed:
    return compose(batch, {write.order_id for write in batch}, witnesses)


def note_as_not_sent(batch: _WriteBatch, _effect: Effect, text: str) -> None:
    batch.results |= {write.order_id: WriteResult(write.order_id, Effect.NOT_SENT, text=text) for write in batch.left}


def due_whatever_is_there(writer: TransactionWriter, write: Write, rows: Sequence[TableRow]) -> WriteResult | None:
    answer = answer_of(writer, write, rows)
    return None if answer is not None and answer.effect is Effect.MOVED else answer


def the_first_of_each(rows: Iterable[Any], key: Callable[[Any], Any]) -> Iterator[tuple[Any, Iterable[Any]]]:
    return ((order, [next(same)]) for order, same in groupby(rows, key))


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
        Name(f"{WINDOWS}:_are_within", lambda _ids, _after, _upto: True),
        partial(lives.spoiled_pages_write_nothing, Fault.REPEAT),
    ),
    rule(
        "Every command of a batch is accounted for (and what it left out would be missed by the count).",
        Together(
            Name(f"{WINDOWS}:_result", lambda answer: usable(answer or CommandAnswer({"orderEntity": []}))),
            Name(f"{LISTING}:Listing._prove", nothing),
        ),
        partial(lives.spoiled_pages_write_nothing, Fault.LOSE_KEY),
    ),
    rule(
        "After a full page it is read on.",
        Name(f"{WINDOWS}:WindowReader._is_last", staticmethod(lambda _call, _page, _total: True)),
        lives.a_window_that_fills_up_is_read_to_its_end,
    ),
    rule(
        "A write to the portal carries its condition.",
        Name(f"{CLIENT}:compose", without_conditions),
        lives.an_edit_right_before_a_request_is_not_replaced,
    ),
    rule(
        "A portal on which conditions do not work is written to without them.",
        Name(f"{CONDITIONS}:_judge", lambda _answers, _known: True),
        lives.a_portal_without_conditions_is_kept_in_step,
    ),
    rule(
        "Where batches carry no conditions, orders are read right before they are written.",
        Name(f"{CLIENT}:not_as_expected", lambda _write, _found: None),
        lives.an_edit_before_a_bare_write_is_not_replaced,
    ),
    rule(
        "A bare write comes with a list of its order.",
        Name(f"{WRITING}:_seen", lambda _write, _made, _answers: (False, None)),
        lives.a_race_within_a_request_is_held,
    ),
    rule(
        "A request whose connection broke may still be executed.",
        Name(f"{CLIENT}:_WriteBatch.set_all", note_as_not_sent),
        lives.a_lost_request_does_not_overtake_what_came_later,
    ),
    rule(
        "A row of the portal whose owner cannot be read is not absent (a reading of it by id shows it, too).",
        Together(
            Name(f"{CLIENT}:split", lambda rows: (split(rows)[0], {})),
            Name("syncd.engine.verify:_removals_from_table", nothing),
        ),
        lives.a_row_of_the_portal_without_an_owner_is_held,
    ),
    rule(
        "A row is written only if it still says what was read.",
        Name("syncd.table.transaction:TransactionWriter._answer", due_whatever_is_there),
        lives.a_row_that_moved_is_not_overwritten,
    ),
    rule(
        "Two rows of an order are none of both.",
        Name("syncd.table.snapshot:groupby", the_first_of_each),
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
        lives.a_process_that_lost_the_lease_writes_nothing_more,
    ),
    rule(
        "A lease is given to one process only.",
        Silent("syncd.state.leases:LeaseKeeper._take_row"),
        lives.a_second_process_is_turned_away,
    ),
    rule(
        "A rebased link begins with nothing agreed, and so removes nothing.",
        Name("syncd.state.store:SqlStore.rebase", the_old_state_for_the_new_ends),
        lives.a_rebased_link_removes_nothing,
    ),
]
