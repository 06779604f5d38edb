"""Short lives of a link over the real parts (portal client, sandbox, SQL table, SQL state) that say what must hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from syncd.core.model import Owner
from syncd.core.ports import Write, WriteResult
from syncd.core.records import Lease
from syncd.engine import reconcile as engine
from syncd.engine.link import Link
from syncd.engine.report import Report
from syncd.sandbox.faults import Fault, FaultRule
from syncd.sandbox.requests import References
from tests.property.engine_script import Pass
from tests.property.engine_world import EngineWorld
from tests.simulation.crash import Steps

ADD, DELETE, LIST = "crm.orderentity.add", "crm.orderentity.deletebyfilter", "crm.orderentity.list"
MANY = range(10, 1210, 10)


@contextmanager
def world() -> Iterator[EngineWorld]:
    made = EngineWorld()
    try:
        yield made
    finally:
        made.close()


def many(made: EngineWorld) -> None:
    """More bindings than fit a page, on the portal only."""
    for order in MANY:
        made.crm.bind(order, 2, 1000 + order)


def agreed(made: EngineWorld, *orders: int) -> None:
    """These orders are bound, on both sides alike."""
    for order in orders:
        made.edit("crm-bind", order)
    done(made)


def once(made: EngineWorld) -> Report:
    """One pass by a new process."""
    return made.run(made.process(Steps(), engine.reconcile))


def done(made: EngineWorld) -> Report:
    report = once(made)
    assert report.row.state == "applied", report.row.error
    return report


def rows(made: EngineWorld) -> int:
    return int(made.sql.execute("SELECT count(*) FROM bindings").fetchone()[0])


# -------------------------------------------------------------------------- completeness


def a_window_that_fills_up_is_read_to_its_end() -> None:
    with world() as made:
        many(made)
        done(made)
        new = range(11, 80, 2)
        for order in new:
            made.crm.bind(order, 2, 1000 + order)
        done(made)
        assert rows(made) == len(MANY) + len(new)


def spoiled_pages_write_nothing(fault: Fault, skip: int = 2) -> None:
    """From the third list call on, every page is spoiled: what lies between the two ends cannot be proved."""
    with world() as made:
        many(made)
        made.fault(FaultRule(fault, LIST, times=None, skip=skip))
        report = once(made)
        assert (report.row.state, report.exit_code) == ("incomplete", 69), report.row.error
        assert rows(made) == 0


# -------------------------------------------------------------------------------- writes


def raced(made: EngineWorld, *, after: int) -> None:
    """A pass whose first batch of writes is raced: its order is bound elsewhere after so many of its requests."""

    async def racing(link: Link) -> Report:
        write = link.portal.write

        async def write_raced(batch: Sequence[Write]) -> list[WriteResult]:
            latest, edits = made.crm.stats.requests + after, iter([1])

            def race(_method: str, _params: object, request: int) -> None:
                if request > latest:
                    for order in edits:
                        made.edit("crm-bind", order)

            made.crm.before_call(race)
            return await write(batch)

        link.portal.write = write_raced  # type: ignore[method-assign]
        return await engine.reconcile(link)

    made.run(made.process(Steps(), racing))


def an_edit_right_before_a_request_is_not_replaced() -> None:
    with world() as made:
        agreed(made, 1)
        made.edit("table-bind", 1)
        raced(made, after=1)  # the first request of a session that writes is the probe's
        assert [write.method for write in made.crm.stats.writes if write.order_id == 1][-1] == "ui"


def a_portal_without_conditions_is_kept_in_step() -> None:
    with world() as made:
        made.crm.references = References.WHOLE_VALUES
        agreed(made, 1)
        made.edit("table-bind", 1)
        once(made)
        assert made.crm_now()[1] == made.table_now()[1]


def an_edit_before_a_bare_write_is_not_replaced() -> None:
    with world() as made:
        made.crm.references = References.WHOLE_VALUES
        agreed(made, 1)
        made.edit("table-bind", 1)
        made.syncd(Pass("pass", race_at=1))
        assert [write.method for write in made.crm.stats.writes if write.order_id == 1][-1] == "ui"


def a_race_within_a_request_is_held() -> None:
    with world() as made:
        made.crm.references = References.WHOLE_VALUES
        agreed(made, 1)
        made.edit("table-bind", 1)
        raced(made, after=2)  # the probe, and the reading right before
        assert made.holds() == {1: "edit-edit"}


def a_row_of_the_portal_without_an_owner_is_held() -> None:
    with world() as made:
        agreed(made, 1, 2)
        made.crm.bind(1, 2, 0)
        once(made)
        assert made.holds() == {1: "invalid-row"}


def a_lost_request_does_not_overtake_what_came_later() -> None:
    with world() as made:
        made.crm.references = References.WHOLE_VALUES
        agreed(made, 1)
        made.edit("table-bind", 1)
        made.fault(FaultRule(Fault.ZOMBIE, ADD, times=1, seconds=50))
        once(made)
        made.edit("crm-bind", 1)
        newest = made.crm_now()[1]
        made.clock.advance(100)
        assert made.crm_now()[1] == newest


def a_row_that_moved_is_not_overwritten() -> None:
    with world() as made:
        agreed(made, 1)
        made.edit("crm-bind", 1)
        newest: list[Owner] = []

        def somebody(name: str) -> None:
            if name == "table.write before":
                made.edit("table-bind", 1)
                newest.append(made.table_now()[1])

        made.run(made.process(Steps(meanwhile=somebody), engine.reconcile))
        assert [made.table_now()[1]] == newest


def two_rows_of_an_order_are_held() -> None:
    with world() as made:
        agreed(made, 1, 2)
        made.edit("table-double", 1)
        once(made)
        assert made.holds() == {1: "duplicate-rows"}


def a_dropped_table_is_not_an_empty_one() -> None:
    with world() as made:
        agreed(made, 1)
        made.edit("table-gone", 0)
        report = once(made)
        assert (report.row.state, report.exit_code) == ("failed", 78), report.row.error


# --------------------------------------------------------------------------------- lease


def a_second_process_is_turned_away() -> None:
    with world() as made:
        agreed(made, 1)
        made.edit("table-bind", 1)
        made.syncd(Pass("pass", visitor_at=1))


def a_process_that_lost_the_lease_writes_nothing_more() -> None:
    """Its process sleeps right before it writes; another one does the work, and somebody goes on from there."""
    with world() as made:
        agreed(made, 1)
        made.edit("table-bind", 1)
        newest: list[Owner] = []

        async def overslept(link: Link) -> Report:
            intend = link.store.intend

            async def sleep_and_intend(lease: Lease, changes: Sequence[int], now: float, batch: int) -> None:
                if not newest:
                    newest.append(Owner(2, 1))
                    made.clock.advance(1000)
                    await made.process(Steps(), engine.reconcile)
                    made.edit("crm-bind", 1)
                    newest[:] = [made.crm_now()[1]]
                await intend(lease, changes, now, batch)

            link.store.intend = sleep_and_intend  # type: ignore[method-assign]
            return await engine.reconcile(link)

        report = made.run(made.process(Steps(), overslept))
        assert report.exit_code == 75, report.row.error
        assert [made.crm_now()[1]] == newest


def a_rebased_link_removes_nothing() -> None:
    with world() as made:
        agreed(made, 1, 2)
        made.point_elsewhere()
        made.syncd(Pass("rebase"))
        made.edit("table-unbind", 1)
        done(made)
        assert 1 in made.crm_now()
