"""What every mapping table does, in memory or over SQL: the contract of `syncd.core.ports.Table`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from syncd.config.model import TableSettings
from syncd.core.model import HoldKind, Owner, Row, Scope
from syncd.core.order_ranges import OrderRanges
from syncd.core.ports import Effect, Progress, Snapshot, Table, TableValue, Write
from syncd.table.keyed import open_table
from tests.fakes.clock import SetClock
from tests.fakes.table import FakeTable

pytestmark = pytest.mark.anyio

DEAL_7, DEAL_8, DEAL_9 = Owner(2, 7), Owner(2, 8), Owner(2, 9)
ALL_ORDERS = Scope(frozenset({2}))
NOW = 1_777_863_721.0
"""2026-05-04 03:02:01 UTC."""


class TableSide(Protocol):
    """A mapping table, and the outside writers that know it."""

    def open(self, *, where: bool = False, soft: bool = False, extra: bool = True, scope: Scope = ALL_ORDERS) -> Table:
        """Return the table as syncd sees it."""
        ...

    def add(
        self,
        order_id: object,
        owner_type: object,
        owner_id: object,
        *,
        selected: bool = True,
        deleted: bool = False,
    ) -> None:
        """Insert a row as an outside writer."""
        ...

    def change(self, order_id: int, owner_id: object) -> None:
        """Let an outside writer set the owner id of an order's rows."""
        ...

    def drop(self, order_id: int) -> None:
        """Let an outside writer delete an order's rows."""
        ...

    def make_unique(self) -> None:
        """Let the database allow only one row for an order, live or not."""
        ...

    def rows(self) -> list[tuple[object, ...]]:
        """Return (order id, owner type, owner id, selected, deleted) of all rows, in order."""
        ...


class FakeTableSide:
    def __init__(self) -> None:
        self._table = FakeTable()

    def open(self, *, where: bool = False, soft: bool = False, extra: bool = True, scope: Scope = ALL_ORDERS) -> Table:
        self._table.soft, self._table.selects, self._table.scope = soft, extra or not where, scope
        return self._table

    def add(
        self, order_id: object, owner_type: object, owner_id: object, *, selected: bool = True, deleted: bool = False
    ) -> None:
        self._table.add(order_id, owner_type, owner_id, selected=selected, deleted=deleted)

    def change(self, order_id: int, owner_id: object) -> None:
        for row in self._table.stored:
            if row.order_id == order_id:
                row.owner_id = owner_id

    def drop(self, order_id: int) -> None:
        self._table.drop(order_id)

    def make_unique(self) -> None:
        self._table.unique = True

    def rows(self) -> list[tuple[object, ...]]:
        stored = [(row.order_id, row.owner_type, row.owner_id, row.selected, row.deleted) for row in self._table.stored]
        return sorted(stored, key=repr)


@dataclass
class SqlTableSide:
    """The table `bindings`, whose rows are syncd's where the channel is `web`."""

    url: str

    def __post_init__(self) -> None:
        self._engine = sa.create_engine(self.url)
        self._table = sa.Table(
            "bindings",
            sa.MetaData(),
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("order_id", sa.BigInteger, index=True),
            sa.Column("owner_type", sa.Integer),
            sa.Column("owner_id", sa.BigInteger),
            sa.Column("channel", sa.String(20), nullable=False, server_default="shop"),
            sa.Column("deleted", sa.Boolean),
        )
        self._table.create(self._engine)

    def open(self, *, where: bool = False, soft: bool = False, extra: bool = True, scope: Scope = ALL_ORDERS) -> Table:
        settings: dict[str, Any] = {"where": "channel = 'web'"} if where else {}
        settings |= {"deleted": "deleted"} if soft else {}
        settings |= {"extra": {"channel": "web"}} if extra else {}
        return open_table(
            TableSettings(
                url=SecretStr(self.url),
                name="bindings",
                columns={"order_id": "order_id", "owner_type_id": "owner_type", "owner_id": "owner_id"},
                **settings,
            ),
            scope=scope,
            clock=SetClock(NOW),
            link="shop",
        )

    def add(
        self, order_id: object, owner_type: object, owner_id: object, *, selected: bool = True, deleted: bool = False
    ) -> None:
        self._run(
            self._table.insert().values(
                order_id=order_id,
                owner_type=owner_type,
                owner_id=owner_id,
                channel="web" if selected else "pos",
                deleted=deleted or None,
            )
        )

    def change(self, order_id: int, owner_id: object) -> None:
        self._run(self._table.update().where(self._table.c.order_id == order_id).values(owner_id=owner_id))

    def drop(self, order_id: int) -> None:
        self._run(self._table.delete().where(self._table.c.order_id == order_id))

    def make_unique(self) -> None:
        self._run(sa.text("CREATE UNIQUE INDEX one_row ON bindings (order_id)"))

    def rows(self) -> list[tuple[object, ...]]:
        table = self._table.c
        with self._engine.connect() as connection:
            found = connection.execute(
                sa.select(table.order_id, table.owner_type, table.owner_id, table.channel, table.deleted)
            )
            return sorted(((*row[:3], row[3] == "web", bool(row[4])) for row in found), key=repr)

    def _run(self, statement: sa.Executable) -> None:
        with self._engine.begin() as connection:
            connection.execute(statement)

    def close(self) -> None:
        self._engine.dispose()


@pytest.fixture(
    params=[
        pytest.param("memory", id="memory"),
        pytest.param("sqlite_url", id="sqlite"),
        pytest.param("postgres_url", id="postgres", marks=pytest.mark.postgres),
        pytest.param("mysql_url", id="mysql", marks=pytest.mark.mysql),
    ]
)
def world(request: pytest.FixtureRequest) -> Iterator[TableSide]:
    if request.param == "memory":
        yield FakeTableSide()
        return
    made = SqlTableSide(request.getfixturevalue(request.param))
    yield made
    made.close()


@pytest.fixture
async def closing() -> AsyncIterator[list[Table]]:
    """Tables to close in the end."""
    tables: list[Table] = []
    yield tables
    for table in tables:
        await table.aclose()


@pytest.fixture
def opened(world: TableSide, closing: list[Table]) -> Any:
    def open_it(**how: Any) -> Table:
        table = world.open(**how)
        closing.append(table)
        return table

    return open_it


def silent(stage: str, done: int, expected: int | None) -> None:
    """A `Progress` that reports to nobody."""


async def whole(table: Table, progress: Progress = silent) -> tuple[list[Row], Snapshot]:
    """Return all readable rows of a snapshot, and the snapshot."""
    async with table.snapshot(progress) as snapshot:
        return snapshot.take(None), snapshot


async def effects(table: Table, *writes: Write) -> list[Effect]:
    return [result.effect for result in await table.write(writes)]


# ---------------------------------------------------------------------- snapshot


async def test_given_rows_in_any_order_when_snapshot_then_they_come_by_order_id(world: TableSide, opened: Any) -> None:
    for order_id in (30, 10, 20):
        world.add(order_id, 2, order_id + 1)
    rows, snapshot = await whole(opened())
    assert rows == [(10, 2, 11), (20, 2, 21), (30, 2, 31)]
    assert isinstance(rows[0], Row)
    assert (snapshot.rows, dict(snapshot.unreadable), list(snapshot.orderless)) == (3, {}, [])


async def test_given_a_limit_when_rows_are_taken_then_no_more_come_at_a_time_and_none_twice(
    world: TableSide, opened: Any
) -> None:
    for order_id in range(1, 9):
        world.add(order_id, 2, 5)
    async with opened().snapshot(silent) as snapshot:
        taken = [snapshot.take(upto, limit) for upto, limit in ((5, 3), (5, 3), (5, 3), (None, 2), (None, None))]
    assert [[row.order_id for row in rows] for rows in taken] == [[1, 2, 3], [4, 5], [], [6, 7], [8]]


async def test_given_an_empty_table_when_snapshot_then_nothing_comes(opened: Any) -> None:
    rows, snapshot = await whole(opened())
    assert (rows, snapshot.rows, dict(snapshot.unreadable)) == ([], 0, {})


async def test_given_a_snapshot_when_taken_in_steps_then_each_row_comes_once(world: TableSide, opened: Any) -> None:
    for order_id in (1, 3, 5, 7):
        world.add(order_id, 2, 9)
    async with opened().snapshot(silent) as snapshot:
        steps = [[row.order_id for row in snapshot.take(upto)] for upto in (0, 3, 3, 6, None, None)]
    assert steps == [[], [1, 3], [], [5], [7], []]


async def test_given_rows_written_after_the_snapshot_when_taken_then_they_are_not_in_it(
    world: TableSide, opened: Any
) -> None:
    world.add(1, 2, 9)
    async with opened().snapshot(silent) as snapshot:
        world.add(2, 2, 9)
        world.change(1, 8)
        assert snapshot.take(None) == [(1, 2, 9)]


@pytest.mark.parametrize("text", ["5", "3-5,9", "2,30-70,90", "60-", "100-200"])
async def test_given_some_orders_when_snapshot_then_these_come_and_no_other(
    world: TableSide, opened: Any, text: str
) -> None:
    for order_id in (90, *range(1, 80, 2)):
        world.add(order_id, 2, order_id + 1)
    world.add(9, 2, 1000)
    wanted = OrderRanges.parse(text)

    async with opened().snapshot(silent, wanted) as snapshot:
        rows = snapshot.take(None)

    there = [order_id for order_id in (*range(1, 80, 2), 90) if order_id in wanted]
    assert [row.order_id for row in rows] == [order_id for order_id in there if order_id != 9]
    assert list(snapshot.unreadable) == [9] * (9 in wanted)


async def test_given_an_owner_of_a_type_out_of_scope_when_snapshot_then_it_is_a_row(
    world: TableSide, opened: Any
) -> None:
    world.add(1, 31, 5)
    rows, _ = await whole(opened())
    assert rows == [(1, 31, 5)]


async def test_given_orders_out_of_the_range_when_snapshot_then_they_are_left_out(
    world: TableSide, opened: Any
) -> None:
    for order_id in (1, 5, 9):
        world.add(order_id, 2, 7)
    world.add(2, 2, None)
    rows, snapshot = await whole(opened(scope=Scope(frozenset({2}), 5, 8)))
    assert (rows, dict(snapshot.unreadable)) == ([(5, 2, 7)], {})


@pytest.mark.parametrize(("owner_type", "owner_id"), [(2, None), (2, 0), (2, -5), (None, 7), (0, 7)])
async def test_given_a_row_without_a_readable_owner_when_snapshot_then_the_order_is_unreadable(
    world: TableSide, opened: Any, owner_type: object, owner_id: object
) -> None:
    world.add(1, 2, 7)
    world.add(2, owner_type, owner_id)
    rows, snapshot = await whole(opened())
    assert rows == [(1, 2, 7)]
    assert {order: why.kind for order, why in snapshot.unreadable.items()} == {2: HoldKind.INVALID_ROW}


@pytest.mark.parametrize("second", [7, 8, None], ids=["alike", "another", "unreadable"])
async def test_given_two_rows_for_an_order_when_snapshot_then_it_is_unreadable(
    world: TableSide, opened: Any, second: object
) -> None:
    world.add(1, 2, 7)
    world.add(2, 2, 7)
    world.add(2, 2, second)
    rows, snapshot = await whole(opened())
    assert rows == [(1, 2, 7)]
    assert {order: why.kind for order, why in snapshot.unreadable.items()} == {2: HoldKind.DUPLICATE_ROWS}


@pytest.mark.parametrize("order_id", [None, 0, -1])
async def test_given_a_row_without_a_readable_order_when_snapshot_then_it_is_described(
    world: TableSide, opened: Any, order_id: object
) -> None:
    world.add(1, 2, 7)
    world.add(order_id, 2, 8)
    rows, snapshot = await whole(opened())
    assert (rows, dict(snapshot.unreadable)) == ([(1, 2, 7)], {})
    assert len(snapshot.orderless) == 1


async def test_given_rows_where_does_not_select_when_snapshot_then_they_are_not_syncds(
    world: TableSide, opened: Any
) -> None:
    world.add(1, 2, 7)
    world.add(2, 2, 8, selected=False)
    rows, _ = await whole(opened(where=True))
    assert rows == [(1, 2, 7)]


async def test_given_two_rows_of_which_where_selects_one_when_snapshot_then_that_one_counts(
    world: TableSide, opened: Any
) -> None:
    world.add(1, 2, 7)
    world.add(1, 2, 8, selected=False)
    rows, snapshot = await whole(opened(where=True))
    assert (rows, dict(snapshot.unreadable)) == ([(1, 2, 7)], {})


async def test_given_softly_deleted_rows_when_snapshot_then_they_are_absent(world: TableSide, opened: Any) -> None:
    world.add(1, 2, 7)
    world.add(1, 2, 8, deleted=True)
    world.add(2, 2, 9, deleted=True)
    rows, snapshot = await whole(opened(soft=True))
    assert (rows, dict(snapshot.unreadable)) == ([(1, 2, 7)], {})


async def test_given_rows_when_snapshot_then_progress_is_reported(world: TableSide, opened: Any) -> None:
    world.add(1, 2, 7)
    told: list[tuple[str, int, int | None]] = []
    await whole(opened(), lambda *what: told.append(what))
    assert told[-1] == ("table", 1, None)


# -------------------------------------------------------------------------- read


async def test_given_orders_when_read_then_those_with_a_row_are_returned(world: TableSide, opened: Any) -> None:
    world.add(1, 2, 7)
    world.add(2, 31, 8)
    assert await opened().read([1, 2, 3]) == {1: TableValue(DEAL_7), 2: TableValue(Owner(31, 8))}


async def test_given_no_orders_when_read_then_nothing_is_returned(opened: Any) -> None:
    assert await opened().read([]) == {}


async def test_given_a_row_where_does_not_select_when_read_then_the_value_says_so(
    world: TableSide, opened: Any
) -> None:
    world.add(1, 2, 7, selected=False)
    assert await opened(where=True).read([1]) == {1: TableValue(DEAL_7, selected=False)}


async def test_given_rows_of_which_where_selects_one_when_read_then_that_one_counts(
    world: TableSide, opened: Any
) -> None:
    world.add(1, 2, 7)
    world.add(1, 2, 8, selected=False)
    assert await opened(where=True).read([1]) == {1: TableValue(DEAL_7)}


async def test_given_a_softly_deleted_row_when_read_then_it_differs_from_an_absent_one(
    world: TableSide, opened: Any
) -> None:
    world.add(1, 2, 7, deleted=True)
    world.add(2, 2, 8)
    world.add(2, 2, 7, deleted=True)
    world.add(3, 2, 7, deleted=True, selected=False)
    assert await opened(soft=True, where=True).read([1, 2, 3, 4]) == {
        1: TableValue(None, deleted=True), 2: TableValue(DEAL_8),
    }  # fmt: skip


async def test_given_trouble_with_rows_when_read_then_it_has_the_words_of_the_snapshot(
    world: TableSide, opened: Any
) -> None:
    world.add(1, 2, None)
    world.add(2, 2, 8)
    world.add(2, 2, 7)
    table = opened()
    _, snapshot = await whole(table)
    values = await table.read([1, 2])
    assert {order: value.unreadable for order, value in values.items()} == dict(snapshot.unreadable)
    assert {value.owner for value in values.values()} == {None}


# ------------------------------------------------------------------------- write


async def test_given_the_expected_owners_when_written_then_all_is_done(world: TableSide, opened: Any) -> None:
    world.add(1, 2, 7)
    world.add(2, 2, 7)
    results = await opened().write([Write(3, None, DEAL_9), Write(1, DEAL_7, None), Write(2, DEAL_7, Owner(31, 8))])
    assert [(each.order_id, each.effect) for each in results] == [(3, Effect.DONE), (1, Effect.DONE), (2, Effect.DONE)]
    assert [(each.found, each.found_known) for each in results] == [(None, True), (DEAL_7, True), (DEAL_7, True)]
    assert world.rows() == [(2, 31, 8, True, False), (3, 2, 9, True, False)]


async def test_given_nothing_when_written_then_nothing_is_returned(opened: Any) -> None:
    assert await opened().write([]) == []


@pytest.mark.parametrize(
    "write", [Write(1, DEAL_8, DEAL_7), Write(1, None, DEAL_7), Write(2, DEAL_7, None)], ids=["move", "add", "remove"]
)
async def test_given_the_wanted_value_when_written_then_it_is_already_there(
    world: TableSide, opened: Any, write: Write
) -> None:
    world.add(1, 2, 7)
    before = world.rows()
    (result,) = await opened().write([write])
    assert (result.effect, result.found, result.found_known) == (Effect.ALREADY, write.after, True)
    assert world.rows() == before


@pytest.mark.parametrize(
    "write", [Write(1, DEAL_7, DEAL_8), Write(1, DEAL_7, None), Write(1, None, DEAL_8)], ids=["move", "remove", "add"]
)
async def test_given_another_owner_since_the_snapshot_when_written_then_it_is_left_and_named(
    world: TableSide, opened: Any, write: Write
) -> None:
    world.add(1, 2, 7)
    table = opened()
    await whole(table)
    world.change(1, 9)
    (result,) = await table.write([write])
    assert (result.effect, result.found, result.found_known) == (Effect.MOVED, DEAL_9, True)
    assert world.rows() == [(1, 2, 9, True, False)]


async def test_given_a_row_deleted_since_the_snapshot_when_moved_then_none_is_made(
    world: TableSide, opened: Any
) -> None:
    world.add(1, 2, 7)
    table = opened()
    await whole(table)
    world.drop(1)
    (result,) = await table.write([Write(1, DEAL_7, DEAL_8)])
    assert (result.effect, result.found, result.found_known) == (Effect.MOVED, None, True)
    assert world.rows() == []


async def test_given_one_moved_order_when_a_batch_is_written_then_the_others_are_done(
    world: TableSide, opened: Any
) -> None:
    for order_id in (1, 2, 3):
        world.add(order_id, 2, 7)
    table = opened()
    world.change(2, 9)
    assert await effects(table, *(Write(order, DEAL_7, DEAL_8) for order in (1, 2, 3))) == [
        Effect.DONE, Effect.MOVED, Effect.DONE,
    ]  # fmt: skip
    assert [row[2] for row in world.rows()] == [8, 9, 8]


@pytest.mark.parametrize("after", [DEAL_8, None, DEAL_7], ids=["move", "remove", "alike"])
async def test_given_two_rows_for_an_order_when_written_then_neither_is_touched(
    world: TableSide, opened: Any, after: Owner | None
) -> None:
    world.add(1, 2, 7)
    world.add(1, 2, 7)
    before = world.rows()
    (result,) = await opened().write([Write(1, DEAL_9 if after == DEAL_7 else DEAL_7, after)])
    assert (result.effect, result.found_known) == (Effect.MOVED, False)
    assert world.rows() == before


async def test_given_an_unreadable_row_when_written_then_it_is_left(world: TableSide, opened: Any) -> None:
    world.add(1, 2, None)
    assert await effects(opened(), Write(1, None, DEAL_7)) == [Effect.MOVED]
    assert world.rows() == [(1, 2, None, True, False)]


async def test_given_a_row_where_does_not_select_when_written_then_it_is_left_and_none_is_made(
    world: TableSide, opened: Any
) -> None:
    world.add(1, 2, 7, selected=False)
    before = world.rows()
    assert await effects(opened(where=True), Write(1, DEAL_7, None)) == [Effect.MOVED]
    assert await effects(opened(where=True), Write(1, None, DEAL_8)) == [Effect.MOVED]
    assert await effects(opened(where=True), Write(1, DEAL_8, DEAL_7)) == [Effect.MOVED]
    assert world.rows() == before


async def test_given_a_row_beside_one_that_is_not_syncds_when_written_then_only_syncds_is(
    world: TableSide, opened: Any
) -> None:
    world.add(1, 2, 7)
    world.add(1, 2, 7, selected=False)
    assert await effects(opened(where=True), Write(1, DEAL_7, DEAL_8)) == [Effect.DONE]
    assert world.rows() == [(1, 2, 7, False, False), (1, 2, 8, True, False)]


async def test_given_inserts_where_would_not_select_when_written_then_they_are_refused(
    world: TableSide, opened: Any
) -> None:
    world.add(1, 2, 7)
    results = await opened(where=True, extra=False).write([Write(1, DEAL_7, DEAL_8), Write(2, None, DEAL_8)])
    assert [each.effect for each in results] == [Effect.DONE, Effect.REFUSED]
    assert "extra" in results[1].text
    assert world.rows() == [(1, 2, 8, True, False)]


async def test_given_soft_delete_when_removed_then_the_row_is_marked(world: TableSide, opened: Any) -> None:
    world.add(1, 2, 7)
    assert await effects(opened(soft=True), Write(1, DEAL_7, None)) == [Effect.DONE]
    assert world.rows() == [(1, 2, 7, True, True)]


async def test_given_a_softly_deleted_row_and_room_beside_it_when_added_then_it_stays_as_history(
    world: TableSide, opened: Any
) -> None:
    world.add(1, 2, 7, deleted=True)
    table = opened(soft=True)
    assert await effects(table, Write(1, None, DEAL_8)) == [Effect.DONE]
    assert world.rows() == [(1, 2, 7, True, True), (1, 2, 8, True, False)]
    assert await effects(table, Write(1, DEAL_8, DEAL_9)) == [Effect.DONE]
    assert world.rows() == [(1, 2, 7, True, True), (1, 2, 9, True, False)]


async def test_given_a_softly_deleted_row_and_no_room_beside_it_when_added_then_it_is_revived(
    world: TableSide, opened: Any
) -> None:
    world.make_unique()
    world.add(1, 2, 7, deleted=True)
    assert await effects(opened(soft=True), Write(1, None, DEAL_8)) == [Effect.DONE]
    assert world.rows() == [(1, 2, 8, True, False)]


async def test_given_writes_when_repeated_then_they_are_already_done(world: TableSide, opened: Any) -> None:
    world.add(1, 2, 7)
    world.add(2, 2, 7)
    writes = [Write(1, DEAL_7, DEAL_8), Write(2, DEAL_7, None), Write(3, None, DEAL_9)]
    table = opened()
    assert await effects(table, *writes) == [Effect.DONE] * 3
    assert await effects(table, *writes) == [Effect.ALREADY] * 3


async def test_given_a_sound_table_when_checked_then_no_problem_is_found(opened: Any) -> None:
    assert (await opened(where=True, soft=True).check()).problems == []
