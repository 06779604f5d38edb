"""Writes in tables as people have them: marks, times, texts, constraints, triggers."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from syncd.core.model import Owner
from syncd.core.order_ranges import OrderRanges
from syncd.core.ports import Effect, TableValue, Write, WriteResult
from syncd.table.columns import LONGEST_CELL
from syncd.table.rows import RowReader
from syncd.table.snapshot import SnapshotBuilder
from syncd.table.sql import SqlTable
from syncd.table.statements import Statements
from tests.unit.table.conftest import DEAL_7, DEAL_8, DEAL_9, MAPPING, Lab, effects, snapshot

pytestmark = pytest.mark.anyio


async def only(table: SqlTable, write: Write) -> WriteResult:
    (result,) = await table.write([write])
    return result


# -------------------------------------------------------------- touched, deleted


CLOCK = {
    "sqlite": "SELECT CURRENT_TIMESTAMP, CAST(strftime('%s', 'now') AS INTEGER)",
    "postgresql": "SELECT LOCALTIMESTAMP(0), CAST(floor(extract(epoch FROM now())) AS BIGINT)",
    "mysql": "SELECT NOW(), UNIX_TIMESTAMP()",
}
"""The database's own time, in the zone of its sessions, and its seconds since 1970."""


def moment(value: Any) -> Any:
    """Given a time as a database returns it, return it without a zone, to the second; seconds stay as they are."""
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value)
    return value.replace(microsecond=0, tzinfo=None) if isinstance(value, dt.datetime) else value


def clock(lab: Lab, like: Any) -> Any:
    """Return the database's time in the form that `like` has."""
    local, seconds = lab.rows(CLOCK[lab.kind].replace("%", "%%") if lab.kind != "sqlite" else CLOCK[lab.kind])[0]
    return seconds if isinstance(like, int) else moment(local)


@pytest.mark.parametrize("kind", ["{time}", "TIMESTAMP", "BIGINT", "VARCHAR(30)", "TEXT"])
async def test_given_touched_when_written_then_it_gets_the_databases_own_time(lab: Lab, kind: str) -> None:
    null = "NULL" if "TIMESTAMP" in kind else ""  # an old MariaDB makes the first TIMESTAMP NOT NULL by itself
    lab.run(f"CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, touched {kind} {null})")
    lab.run("INSERT INTO m (order_id, deal_id) VALUES (1, 7)")
    table = lab.table(touched="touched")
    assert (await table.check()).problems == []
    like = 1 if kind == "BIGINT" else ""
    before = clock(lab, like)
    assert await effects(table, Write(1, DEAL_7, DEAL_8), Write(2, None, DEAL_9)) == [Effect.DONE] * 2
    after = clock(lab, like)
    marks = [moment(row[0]) for row in lab.rows("SELECT touched FROM m")]
    # PostgreSQL rounds a time without a fraction, by up to half a second.
    second = 1 if kind == "BIGINT" else dt.timedelta(seconds=1)
    assert all(before - second <= mark <= after + second for mark in marks)


ZONES = {
    "postgresql": ("ALTER DATABASE {database} SET timezone = 'Asia/Tokyo'", "options", "-c timezone=Asia/Tokyo"),
    "mysql": ("", "init_command", "SET time_zone = '+09:00'"),
}


@pytest.mark.parametrize("kind", ["{time}", "VARCHAR(30)"])
async def test_given_a_session_in_another_zone_when_written_then_its_own_clocks_and_syncds_agree(
    server: Lab, kind: str
) -> None:
    server.run(
        f"CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, touched {kind},"
        " made {time} NOT NULL DEFAULT CURRENT_TIMESTAMP)"
    )
    _, option, value = ZONES[server.kind]
    east = sa.make_url(server.url).update_query_dict({option: value}).render_as_string(hide_password=False)
    assert await effects(server.table(url=east, touched="touched"), Write(1, None, DEAL_7)) == [Effect.DONE]
    ((touched, made),) = server.rows("SELECT touched, made FROM m")
    assert abs(moment(touched) - moment(made)) <= dt.timedelta(seconds=1)
    assert moment(made) - clock(server, "") > dt.timedelta(hours=1)


@pytest.mark.postgres
async def test_given_a_time_with_a_zone_when_written_then_it_is_that_moment(postgres: Lab) -> None:
    postgres.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, touched TIMESTAMPTZ)")
    await postgres.table(touched="touched").write([Write(1, None, DEAL_7)])
    assert postgres.rows("SELECT now() - touched < interval '1 hour', touched <= now() FROM m") == [(True, True)]


async def test_given_a_day_when_written_then_it_is_that_of_the_database(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, touched DATE)")
    days = [str(lab.rows("SELECT CURRENT_DATE")[0][0])]
    await lab.table(touched="touched").write([Write(1, None, DEAL_7)])
    days.append(str(lab.rows("SELECT CURRENT_DATE")[0][0]))
    assert str(lab.rows("SELECT touched FROM m")[0][0]) in days


async def test_given_several_touched_columns_when_written_then_each_gets_the_time(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, changed {time}, synced_at BIGINT)")
    lab.run("INSERT INTO m VALUES (1, 7, NULL, NULL)")
    table = lab.table(touched=["changed", "synced_at"])
    assert (await table.check()).problems == []
    assert await effects(table, Write(1, DEAL_7, DEAL_8), Write(2, None, DEAL_9)) == [Effect.DONE] * 2
    assert lab.rows("SELECT count(*) FROM m WHERE changed IS NOT NULL AND synced_at > 1000000000") == [(2,)]


@pytest.mark.parametrize(
    "kind",
    [
        "{time}", "DATE", "BOOLEAN", "BOOLEAN NOT NULL DEFAULT false", "SMALLINT", "INTEGER NOT NULL DEFAULT 0",
        "VARCHAR(30)", "VARCHAR(30) NOT NULL DEFAULT ''",
    ],
)  # fmt: skip
async def test_given_a_soft_delete_mark_of_any_kind_then_a_life_of_an_order_is_told_by_it(lab: Lab, kind: str) -> None:
    lab.run(f"CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, gone {kind})")
    lab.run("INSERT INTO m (order_id, deal_id) VALUES (1, 7)")
    table = lab.table(deleted="gone")
    assert (await table.check()).problems == []
    assert (await snapshot(table))[0] == [(1, 2, 7)]
    assert await effects(table, Write(1, DEAL_7, None)) == [Effect.DONE]
    assert (await snapshot(table))[0] == []
    assert await table.read([1]) == {1: TableValue(None, deleted=True)}
    assert await effects(table, Write(1, DEAL_7, None)) == [Effect.ALREADY]
    assert await effects(table, Write(1, None, DEAL_8)) == [Effect.DONE]
    assert (await snapshot(table))[0] == [(1, 2, 8)]
    assert lab.rows("SELECT count(*) FROM m") == [(1,)]
    assert await effects(table, Write(2, None, DEAL_9)) == [Effect.DONE]
    assert (await snapshot(table))[0] == [(1, 2, 8), (2, 2, 9)]


async def test_given_a_number_that_names_a_time_when_deleted_then_it_gets_seconds(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, deleted_at BIGINT, flag INT)")
    lab.run("INSERT INTO m (order_id, deal_id) VALUES (1, 7), (2, 7)")
    await lab.table(deleted="deleted_at").write([Write(1, DEAL_7, None)])
    await lab.table(deleted="flag").write([Write(2, DEAL_7, None)])
    ((seconds, flag), (unset, set_flag)) = lab.rows("SELECT deleted_at, flag FROM m ORDER BY order_id")
    assert (flag, unset, set_flag) == (None, None, 1)
    assert 1_000_000_000 < seconds <= clock(lab, 1)


async def test_given_both_marks_when_deleted_and_revived_then_both_are_set_each_time(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, gone INT, touched_at BIGINT)")
    lab.run("INSERT INTO m VALUES (1, 7, 0, 5), (2, 7, 1, 5)")
    table = lab.table(deleted="gone", touched="touched_at")
    assert await effects(table, Write(1, DEAL_7, None), Write(2, None, DEAL_8)) == [Effect.DONE] * 2
    assert sorted(lab.rows("SELECT order_id, deal_id, gone FROM m WHERE touched_at > 5")) == [(1, 7, 1), (2, 8, 0)]


async def test_given_several_softly_deleted_rows_when_added_then_a_new_one_is_made(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT, deal_id BIGINT, gone {time})")
    lab.run("INSERT INTO m VALUES (1, 7, '2026-01-01 00:00:00'), (1, 7, '2026-01-02 00:00:00')")
    table = lab.table(deleted="gone", touched=None)
    assert await effects(table, Write(1, None, DEAL_7)) == [Effect.DONE]
    assert lab.rows("SELECT count(*), count(gone) FROM m") == [(3, 2)]


async def test_given_a_softly_deleted_row_where_would_not_select_when_added_then_a_new_one_is_made(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT, deal_id BIGINT, gone {time}, channel VARCHAR(9))")
    lab.run("INSERT INTO m VALUES (1, 7, '2026-01-01 00:00:00', 'pos')")
    table = lab.table(deleted="gone", where="channel = 'web'", extra={"channel": "web"})
    assert await effects(table, Write(1, None, DEAL_8)) == [Effect.DONE]
    assert sorted(lab.rows("SELECT deal_id, channel FROM m")) == [(7, "pos"), (8, "web")]


# ------------------------------------------------------------------ kinds of ids


@pytest.mark.parametrize("kind", ["VARCHAR(20)", "CHAR(12)", "TEXT"])
async def test_given_ids_as_text_when_read_and_written_then_their_writing_does_not_matter(lab: Lab, kind: str) -> None:
    lab.run(f"CREATE TABLE m (order_id {kind}, kind {kind}, deal_id {kind})")
    lab.run("INSERT INTO m VALUES ('10', '2', '7'), ('9', '2', '007'), (' 8', '2', '7.0'), ('0007', '2', ' 7')")
    columns = {"order_id": "order_id", "owner_type_id": "kind", "owner_id": "deal_id"}
    table = lab.table(columns=columns)
    assert (await snapshot(table))[0] == [(7, 2, 7), (8, 2, 7), (9, 2, 7), (10, 2, 7)]
    assert {order: value.owner for order, value in (await table.read([7, 8, 9, 10, 11])).items()} == dict.fromkeys(
        [7, 8, 9, 10], DEAL_7
    )
    writes = [Write(7, DEAL_7, DEAL_8), Write(8, DEAL_7, None), Write(9, DEAL_7, DEAL_8), Write(11, None, DEAL_9)]
    assert await effects(table, *writes) == [Effect.DONE] * 4
    assert await effects(table, *writes) == [Effect.ALREADY] * 4
    rows = sorted(tuple(str(cell).strip() for cell in row) for row in lab.rows("SELECT order_id, kind, deal_id FROM m"))
    assert rows == [("0007", "2", "8"), ("10", "2", "7"), ("11", "2", "9"), ("9", "2", "8")]


async def test_given_ids_as_text_when_looked_for_in_parts_then_no_row_looks_like_two(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.table.rows.CHUNK", 2)
    lab.run("CREATE TABLE m (order_id VARCHAR(9), deal_id BIGINT)")
    lab.run("INSERT INTO m VALUES " + ", ".join(f"('0{order}', 7)" for order in range(1, 6)))
    table = lab.table()
    cells = [f"0{order}" for order in range(1, 6)]
    with table._home.reading() as connection:
        columns = table._look(connection)
        reader = RowReader(columns, Statements(columns, table._home.backend), table._home.backend)
        found = reader.fetch(connection, range(1, 6), cells)
    assert {order: len(rows) for order, rows in found.items()} == dict.fromkeys(range(1, 6), 1)


async def test_given_an_order_asked_for_twice_when_read_then_its_row_does_not_look_like_two(
    lab: Lab, small_chunks: None
) -> None:
    lab.run(MAPPING, "INSERT INTO m VALUES (1, 7)")
    assert (await lab.table().read([1, 2, 3, 1]))[1].owner == DEAL_7


async def test_given_a_cell_of_another_type_than_its_column_when_read_then_it_is_found(sqlite: Lab) -> None:
    sqlite.run("CREATE TABLE m (order_id INTEGER, deal_id INTEGER)", "INSERT INTO m VALUES (X'35', 7)")
    assert (await snapshot(sqlite.table()))[0] == [(5, 2, 7)]
    assert sorted(await sqlite.table().read([5])) == [5]


async def test_given_one_order_in_two_writings_when_read_and_written_then_it_is_a_duplicate(lab: Lab) -> None:
    lab.run(
        "CREATE TABLE m (order_id VARCHAR(9) PRIMARY KEY, deal_id BIGINT)", "INSERT INTO m VALUES ('5', 7), ('05', 7)"
    )
    table = lab.table()
    _, unreadable, _ = await snapshot(table)
    assert (await table.read([5]))[5].unreadable == unreadable[5]
    assert await effects(table, Write(5, DEAL_7, None)) == [Effect.MOVED]
    assert lab.rows("SELECT count(*) FROM m") == [(2,)]


async def test_given_text_that_is_no_id_when_read_then_it_is_told_or_left_alone(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id VARCHAR(20), deal_id VARCHAR(20))")
    lab.run("INSERT INTO m VALUES ('5', 'x'), ('6abc', '7'), (NULL, '7'), ('', '7'), ('7.5', '7'), ('8', '')")
    table = lab.table()
    rows, unreadable, orderless = await snapshot(table)
    assert (rows, sorted(unreadable), len(orderless)) == ([], [5, 8], 4)
    assert sorted(await table.read([5, 6, 7, 8])) == [5, 8]


async def test_given_decimal_ids_when_read_and_written_then_they_are_whole_numbers(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id DECIMAL(12,2), deal_id DECIMAL(12,2))")
    lab.run("INSERT INTO m VALUES (1, 7), (2.00, 7.00), (3.5, 7), (4, 7.5)")
    table = lab.table()
    rows, unreadable, orderless = await snapshot(table)
    assert (rows, sorted(unreadable), len(orderless)) == ([(1, 2, 7), (2, 2, 7)], [4], 1)
    assert await effects(table, Write(2, DEAL_7, DEAL_8), Write(5, None, DEAL_9)) == [Effect.DONE] * 2
    assert lab.rows("SELECT deal_id FROM m WHERE order_id IN (2, 5) ORDER BY order_id") in (
        [(Decimal(8),), (Decimal(9),)], [(8,), (9,)],
    )  # fmt: skip


@pytest.mark.parametrize("wanted", ["1,4", "1-500,900-", "1-"])
async def test_given_cells_that_are_no_order_ids_when_some_orders_are_read_then_each_is_reported_once(
    lab: Lab, wanted: str
) -> None:
    lab.run("CREATE TABLE m (order_id DECIMAL(24,2), deal_id BIGINT)")
    lab.run(
        "INSERT INTO m VALUES (1, 7), (3.5, 7), (700.5, 7), (NULL, 7), (0.5, 7), (-2, 7), (10000000000000000000, 7)"
    )
    async with lab.table().snapshot(lambda *_: None, OrderRanges.parse(wanted)) as taken:
        assert taken.take(None) == [(1, 2, 7)]
        assert len(taken.orderless) == 6
        assert [sum(f"is {cell}" in row for row in taken.orderless) for cell in ("3.5", "700.5", "0.5")] == [1, 1, 1]


async def test_given_text_in_a_column_of_numbers_when_some_orders_are_read_then_it_is_reported_once(
    sqlite: Lab,
) -> None:
    sqlite.run("CREATE TABLE m (order_id INTEGER, deal_id INTEGER)")
    sqlite.run("INSERT INTO m VALUES (1, 7), ('x', 7), (X'ff', 7), (2.5, 7)")
    for wanted in ("1-", "1,3"):
        async with sqlite.table().snapshot(lambda *_: None, OrderRanges.parse(wanted)) as taken:
            assert (taken.take(None), len(taken.orderless)) == ([(1, 2, 7)], 3)


async def test_given_a_column_without_a_type_when_read_and_written_then_any_cell_is_understood(sqlite: Lab) -> None:
    sqlite.run("CREATE TABLE m (order_id, deal_id)")
    sqlite.run("INSERT INTO m VALUES (1, 7), ('2', '7'), (X'33', X'37'), (4.0, 7.0), (X'ff', 7), ('x', 7)")
    table = sqlite.table()
    rows, unreadable, orderless = await snapshot(table)
    assert ([row.order_id for row in rows], unreadable, len(orderless)) == ([1, 2, 3, 4], {}, 2)
    assert sorted(await table.read([1, 2, 3, 4])) == [1, 2, 3, 4]
    assert await effects(table, *(Write(order, DEAL_7, DEAL_8) for order in (1, 2, 3, 4))) == [Effect.DONE] * 4


async def test_given_a_text_that_is_no_unicode_when_read_then_it_spoils_its_own_row_only(sqlite: Lab) -> None:
    sqlite.run("CREATE TABLE m (order_id INTEGER, deal_id TEXT)")
    sqlite.run("INSERT INTO m VALUES (1, CAST(X'ff' AS TEXT)), (2, '7')")
    rows, unreadable, _ = await snapshot(sqlite.table())
    assert (rows, unreadable[1].detail) == ([(2, 2, 7)], r"the row cannot be read: deal_id is '\\xff'")


async def test_given_the_largest_ids_when_read_and_written_then_they_stay_exact(lab: Lab) -> None:
    largest = 2**63 - 1
    lab.run(MAPPING, f"INSERT INTO m VALUES ({largest}, {largest - 1})")
    table = lab.table()
    assert (await snapshot(table))[0] == [(largest, 2, largest - 1)]
    assert await effects(table, Write(largest, Owner(2, largest - 1), Owner(2, largest))) == [Effect.DONE]
    assert lab.rows("SELECT deal_id FROM m") == [(largest,)]


async def test_given_an_order_id_beyond_the_columns_range_when_asked_for_then_it_is_just_not_there(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id INTEGER PRIMARY KEY, deal_id INTEGER)", "INSERT INTO m VALUES (1, 7)")
    assert sorted(await lab.table().read([1, 2**40])) == [1]


async def test_given_a_constant_type_when_another_is_to_be_written_then_it_is_refused_with_the_key(lab: Lab) -> None:
    lab.run(MAPPING, "INSERT INTO m VALUES (1, 7)")
    result = await only(lab.table(), Write(1, DEAL_7, Owner(31, 8)))
    assert (result.effect, result.code, result.found) == (Effect.REFUSED, "", DEAL_7)
    assert "links.shop.table.columns.owner_type_id" in result.text
    assert lab.rows("SELECT deal_id FROM m") == [(7,)]


# ---------------------------------------------------- rows nobody wants, triggers


async def test_given_one_row_the_database_refuses_then_the_others_are_written(lab: Lab, small_chunks: None) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT NOT NULL CHECK (deal_id <> 13))")
    lab.run("INSERT INTO m VALUES (1, 7), (2, 7), (3, 7), (4, 7)")
    writes = [Write(1, DEAL_7, DEAL_8), Write(2, DEAL_7, Owner(2, 13)), Write(3, DEAL_7, None), Write(5, None, DEAL_9)]
    writes += [Write(6, None, Owner(2, 13)), Write(4, DEAL_7, DEAL_8)]
    results = await lab.table().write(writes)
    assert [each.effect for each in results] == [
        Effect.DONE, Effect.REFUSED, Effect.DONE, Effect.DONE, Effect.REFUSED, Effect.DONE,
    ]  # fmt: skip
    assert [each.order_id for each in results] == [1, 2, 3, 5, 6, 4]
    assert results[1].code
    assert "constraint" in results[1].text.lower()
    assert sorted(lab.rows("SELECT * FROM m")) == [(1, 8), (2, 7), (4, 8), (5, 9)]


async def test_given_a_value_too_large_for_its_column_when_written_then_it_is_refused_and_not_cut(lab: Lab) -> None:
    if lab.kind == "sqlite":
        lab.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id INTEGER CHECK (deal_id < 2147483648))")
    else:
        lab.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id INTEGER)")
    result = await only(lab.table(), Write(1, None, Owner(2, 2**40)))
    assert result.effect is Effect.REFUSED
    assert lab.rows("SELECT * FROM m") == []


async def test_given_a_constraint_checked_at_the_commit_then_only_its_row_is_refused(lab: Lab) -> None:
    deferred = "" if lab.kind == "mysql" else "DEFERRABLE INITIALLY DEFERRED"
    lab.run(
        "CREATE TABLE deals (id BIGINT PRIMARY KEY)",
        "CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT,"
        f" FOREIGN KEY (deal_id) REFERENCES deals (id) {deferred})",
        "INSERT INTO deals VALUES (7), (8)",
    )
    results = await lab.table().write([Write(1, None, DEAL_7), Write(2, None, DEAL_9), Write(3, None, DEAL_8)])
    assert [each.effect for each in results] == [Effect.DONE, Effect.REFUSED, Effect.DONE]
    assert sorted(lab.rows("SELECT * FROM m")) == [(1, 7), (3, 8)]


TRIGGERS = {
    "sqlite": {
        "swallow": ["CREATE TRIGGER t BEFORE UPDATE ON m BEGIN SELECT RAISE(IGNORE); END"],
        "change": ["CREATE TRIGGER t AFTER UPDATE ON m BEGIN UPDATE m SET deal_id = 99 WHERE order_id = 1; END"],
        "complain": ["CREATE TRIGGER t BEFORE UPDATE ON m BEGIN SELECT RAISE(ABORT, 'closed for today'); END"],
    },
    "postgresql": {
        "swallow": ["RETURN NULL"],
        "change": ["NEW.deal_id := 99; RETURN NEW"],
        "complain": ["RAISE EXCEPTION 'closed for today'"],
    },
    "mysql": {
        "swallow": ["CREATE TRIGGER t BEFORE UPDATE ON m FOR EACH ROW SET NEW.deal_id = OLD.deal_id"],
        "change": ["CREATE TRIGGER t BEFORE UPDATE ON m FOR EACH ROW SET NEW.deal_id = 99"],
        "complain": [
            "CREATE TRIGGER t BEFORE UPDATE ON m FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'closed for today'"
        ],
    },
}


def set_trigger(lab: Lab, what: str) -> None:
    statements = TRIGGERS[lab.kind][what]
    if lab.kind == "postgresql":
        statements = [
            f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {statements[0]}; END $$",
            "CREATE TRIGGER t BEFORE UPDATE ON m FOR EACH ROW EXECUTE FUNCTION f()",
        ]
    lab.run(*statements)


@pytest.mark.parametrize("what", ["swallow", "change", "complain"])
async def test_given_a_trigger_that_does_otherwise_when_moved_then_it_is_refused_and_undone(
    lab: Lab, what: str
) -> None:
    lab.run(MAPPING, "INSERT INTO m VALUES (1, 7)")
    set_trigger(lab, what)
    results = await lab.table().write([Write(1, DEAL_7, DEAL_8), Write(2, None, DEAL_9)])
    assert [each.effect for each in results] == [Effect.REFUSED, Effect.DONE]
    assert ("closed for today" in results[0].text) is (what == "complain")
    assert sorted(lab.rows("SELECT * FROM m")) == [(1, 7), (2, 9)]


async def test_given_a_unique_owner_when_two_orders_ask_for_it_then_the_first_gets_it(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT UNIQUE)")
    results = await lab.table().write([Write(1, None, DEAL_7), Write(2, None, DEAL_7)])
    assert [each.effect for each in results] == [Effect.DONE, Effect.REFUSED]


async def test_given_an_update_that_changes_nothing_then_the_row_counts_as_met(lab: Lab) -> None:
    """FOUND_ROWS: MySQL would count changed rows otherwise, and a conditional write could not tell met from missed."""
    lab.run(MAPPING, "INSERT INTO m VALUES (1, 7)")
    with lab.table()._home.writing() as connection:
        assert connection.exec_driver_sql("UPDATE m SET deal_id = 7 WHERE order_id = 1").rowcount == 1


async def test_given_a_batch_of_many_chunks_when_written_then_each_order_has_its_result(
    lab: Lab, small_chunks: None
) -> None:
    lab.run(MAPPING, "INSERT INTO m VALUES " + ", ".join(f"({order}, 7)" for order in range(1, 10)))
    table = lab.table()
    rows, _, _ = await snapshot(table)
    assert [row.order_id for row in rows] == list(range(1, 10))
    writes = [Write(order, DEAL_7, (DEAL_8, None)[order % 2]) for order in range(1, 10)]
    assert await effects(table, *writes) == [Effect.DONE] * 9
    assert sorted(lab.rows("SELECT * FROM m")) == [(order, 8) for order in (2, 4, 6, 8)]
    assert sorted(await table.read(range(1, 10))) == [2, 4, 6, 8]


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        ("VARCHAR(20)", "it's 100% :x", "it's 100% :x"),
        ("INTEGER", 5, 5),
        ("BOOLEAN", True, 1),
        ("DOUBLE PRECISION", 1.5, 1.5),
        ("DATE", dt.date(2026, 1, 2), "2026-01-02"),
        ("{time}", dt.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02 03:04:05"),  # noqa: DTZ001 - TOML's local time
    ],
)
async def test_given_extra_values_when_inserted_then_the_row_has_them(
    lab: Lab, kind: str, value: object, stored: object
) -> None:
    lab.run(f"CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, other {kind} NOT NULL)")
    table = lab.table(extra={"other": value})
    assert (await table.check()).problems == []
    assert await effects(table, Write(1, None, DEAL_7), Write(2, None, DEAL_7)) == [Effect.DONE] * 2
    for (found,) in lab.rows("SELECT other FROM m"):
        assert (str(found) if isinstance(stored, str) else found) == stored


async def test_given_rows_of_others_when_moved_then_extra_is_not_set_on_them(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, source VARCHAR(9))")
    lab.run("INSERT INTO m VALUES (1, 7, 'shop')")
    await lab.table(extra={"source": "bitrix24"}).write([Write(1, DEAL_7, DEAL_8)])
    assert lab.rows("SELECT source FROM m") == [("shop",)]


@pytest.mark.mysql
async def test_given_a_server_that_cuts_values_when_written_then_ours_are_refused_instead(mysql: Lab) -> None:
    mysql.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id INT)")
    lax = sa.make_url(mysql.url).update_query_dict({"init_command": "SET sql_mode = ''"})
    result = await only(mysql.table(url=lax.render_as_string(hide_password=False)), Write(1, None, Owner(2, 2**40)))
    assert (result.effect, result.code) == (Effect.REFUSED, "1264")


TEXTS = "CREATE TABLE m (order_id VARCHAR(9) PRIMARY KEY, deal_id BIGINT)"


@pytest.mark.parametrize(
    ("rows", "asked", "scans"),
    [
        ("('5', 7), ('6', 7)", [5, 6], 0),  # an index on the column does it
        ("('5', 7), ('6', 7)", [5, 9], 1),  # 9 may have been added in any writing
        ("('5', 7), ('06', 7)", [5], 1),  # '05' may be there, too
    ],
)
async def test_given_ids_kept_as_text_when_orders_are_read_then_the_whole_column_only_where_it_must_be(
    lab: Lab, rows: str, asked: list[int], scans: int
) -> None:
    lab.run(TEXTS, f"INSERT INTO m VALUES {rows}")
    table = lab.table()
    await snapshot(table)
    lab.run("INSERT INTO m VALUES (' 9', 8)")
    sent: list[str] = []
    sa.event.listen(table._home.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))

    read = await table.read(asked)

    assert {order: value.owner.owner_id for order, value in read.items() if value.owner} == {
        order: 8 if order == 9 else 7 for order in asked
    }
    assert sum("CAST" in statement.upper() for statement in sent) == scans


async def test_given_ids_kept_as_text_when_written_then_no_statement_reads_the_whole_column(lab: Lab) -> None:
    lab.run(TEXTS, "INSERT INTO m VALUES ('5', 7), ('6', 7)")
    table = lab.table()
    await snapshot(table)
    sent: list[str] = []

    await table.write([Write(8, None, DEAL_8)])  # before its first insert it looks once whether ids are padded
    sa.event.listen(table._home.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))

    results = await table.write([Write(5, DEAL_7, DEAL_8), Write(6, DEAL_7, None), Write(7, None, DEAL_8)])

    assert [each.effect for each in results] == [Effect.DONE] * 3
    assert sorted(lab.rows("SELECT order_id, deal_id FROM m")) == [("5", 8), ("7", 8), ("8", 8)]
    assert not any("CAST" in statement.upper() for statement in sent)


@pytest.mark.parametrize("where", ["order_id", "deal_id"])
async def test_given_an_enormous_cell_when_read_then_only_its_beginning_is_and_the_row_is_reported(
    lab: Lab, where: str
) -> None:
    kind = {"sqlite": "BLOB", "postgresql": "TEXT", "mysql": "MEDIUMTEXT"}[lab.kind]
    lab.run(f"CREATE TABLE m (order_id {kind}, deal_id {kind})", "INSERT INTO m VALUES ('5', '7'), ('6', '8')")
    filled = "printf('%.*c', 300000, ' ')" if lab.kind == "sqlite" else "repeat(' ', 300000)"
    # Its beginning is an id, the whole is none.
    text = f"'6' || {filled} || 'x'" if lab.kind != "mysql" else f"concat('6', {filled}, 'x')"
    lab.run(f"UPDATE m SET {where} = {text} WHERE order_id = '6'")
    table = lab.table()
    fetched: list[Any] = []
    builder_feed = SnapshotBuilder.feed

    def feed(builder: SnapshotBuilder, rows: Any) -> None:
        fetched.extend(cell for row in rows for cell in row)
        builder_feed(builder, rows)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SnapshotBuilder, "feed", feed)
        rows, unreadable, orderless = await snapshot(table)

    assert rows == [(5, 2, 7)]
    assert max(map(len, fetched)) == LONGEST_CELL + 1
    told = [*orderless, *(each.detail for each in unreadable.values())]
    assert ["longer than 255 characters" in one for one in told] == [True]
    read = await table.read([5, 6])
    assert read[5].owner == DEAL_7
    assert 6 not in read or read[6].unreadable == unreadable[6]
