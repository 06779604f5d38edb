"""When the database fails: before, in the middle, at the commit; and when others hold locks or change the table."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event, exc

from syncd.core.model import Owner
from syncd.core.order_ranges import OrderRanges
from syncd.core.ports import Effect, Progress, Write
from syncd.db.backend import Limits
from syncd.db.postgresql import PostgreSQL
from syncd.db.registry import code_and_words
from syncd.errors import AuthError, ConfigError, SyncdError, UnavailableError
from syncd.table.database import TableFault, fault_of, translate
from syncd.table.spool import SpooledSnapshot
from syncd.table.sql import SqlTable
from tests.unit.table.conftest import DEAL_7, DEAL_8, DEAL_9, MAPPING, Lab, effects, snapshot

pytestmark = pytest.mark.anyio


def kill_sessions(lab: Lab) -> None:
    """End every other session on the database, as a restart of the server would."""
    if lab.kind == "postgresql":
        lab.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return
    database = sa.make_url(lab.url).database
    for (number,) in lab.rows(
        f"SELECT ID FROM information_schema.PROCESSLIST WHERE DB = '{database}' AND ID <> CONNECTION_ID()"
    ):
        lab.run(f"KILL {number}")


def once(table: SqlTable, name: str, work: Callable[[str], bool]) -> None:
    """Run `work` at an event of the table's engine, until it says that it has done its part."""
    done = threading.Event()

    def at(*given: Any) -> None:
        text = given[2] if name == "before_cursor_execute" else ""
        if not done.is_set() and work(text):
            done.set()

    event.listen(table._home.engine, name, at)


def at_statement(table: SqlTable, start: str, work: Callable[[], object]) -> None:
    """Run `work` right before the table's first statement that begins like this."""

    def look(text: str) -> bool:
        if not text.startswith(start):
            return False
        work()
        return True

    once(table, "before_cursor_execute", look)


def autocommit(connection: sa.Connection) -> None:
    """Leave transactions to the statements of the test (SQLite)."""
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.isolation_level = None


@contextmanager
def locked(lab: Lab, *statements: str) -> Iterator[None]:
    """An outside writer's transaction that goes on meanwhile, and is rolled back in the end."""
    engine = sa.create_engine(lab.url)
    with engine.connect() as connection:
        if lab.kind == "sqlite":
            autocommit(connection)
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        for statement in statements:
            connection.exec_driver_sql(statement)
        yield
        connection.rollback()
    engine.dispose()


# ---------------------------------------------------------------- lost connections


async def test_given_a_connection_lost_while_the_table_is_described_then_the_look_ends_with_that_fault(
    server: Lab,
) -> None:
    server.run("CREATE TABLE m (order_id BIGINT NOT NULL, deal_id BIGINT NOT NULL, UNIQUE (order_id))")
    asked: list[str] = []

    def count(text: str) -> bool:
        asked.append(text)
        return False

    watched = server.table()
    once(watched, "before_cursor_execute", count)
    await watched.read([1])
    for number in range(len(asked)):
        before = iter(range(number))

        def kill(_: str, before: Iterator[int] = before) -> bool:
            if next(before, None) is not None:
                return False
            kill_sessions(server)
            return True

        table = server.table()
        once(table, "before_cursor_execute", kill)
        with pytest.raises(UnavailableError, match="cannot be reached, or the connection was lost"):
            await table.read([1])


async def test_given_a_server_restarted_between_calls_when_called_again_then_it_reconnects(server: Lab) -> None:
    server.run(MAPPING, "INSERT INTO m VALUES (1, 7)")
    table = server.table()
    assert (await snapshot(table))[0] == [(1, 2, 7)]
    kill_sessions(server)
    assert await effects(table, Write(1, DEAL_7, DEAL_8)) == [Effect.DONE]
    kill_sessions(server)
    assert (await table.read([1]))[1].owner == DEAL_8
    kill_sessions(server)
    assert (await snapshot(table))[0] == [(1, 2, 8)]


async def test_given_a_connection_lost_before_the_commit_when_written_then_nothing_was_sent(server: Lab) -> None:
    server.run(MAPPING, "INSERT INTO m VALUES (1, 7), (2, 7)")
    table = server.table()
    at_statement(table, "DELETE", lambda: kill_sessions(server))
    assert await effects(table, Write(1, DEAL_7, DEAL_8), Write(2, DEAL_7, None)) == [Effect.NOT_SENT] * 2
    assert sorted(server.rows("SELECT * FROM m")) == [(1, 7), (2, 7)]
    assert await effects(table, Write(1, DEAL_7, DEAL_8), Write(2, DEAL_7, None)) == [Effect.DONE] * 2


async def test_given_a_connection_lost_at_the_commit_when_written_then_all_is_unknown(server: Lab) -> None:
    server.run(MAPPING, "INSERT INTO m VALUES (1, 7)")
    table = server.table()

    def kill(_: str) -> bool:
        kill_sessions(server)
        return True

    await table.read([1])  # so that the first commit is that of the write
    once(table, "commit", kill)
    assert await effects(table, Write(1, DEAL_7, DEAL_8), Write(2, None, DEAL_9)) == [Effect.UNKNOWN] * 2


async def test_given_a_connection_lost_in_the_middle_of_a_snapshot_then_there_is_none(
    server: Lab, small_chunks: None
) -> None:
    server.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT NOT NULL, pad VARCHAR(1000))")
    numbers = ", ".join(f"({order}, 7, '{'x' * 900}')" for order in range(1, 2000))
    server.run(f"INSERT INTO m VALUES {numbers}")
    table = server.table(where="pad <> ''")
    seen = threading.Event()

    def progress(*_: object) -> None:
        """Runs on the event loop, beside the reading thread."""

    original = table._snapshot

    def killing(count: Callable[[int], None], orders: OrderRanges, part: bool) -> SpooledSnapshot:
        def tell_and_kill(done: int) -> None:
            if not seen.is_set():
                seen.set()
                kill_sessions(server)
            count(done)

        return original(tell_and_kill, orders, part)

    table._snapshot = killing  # type: ignore[method-assign]
    with pytest.raises(UnavailableError):
        async with table.snapshot(progress):
            pass
    assert seen.is_set()
    assert len((await snapshot(table))[0]) == 1999


# --------------------------------------------------------------------------- locks


async def test_given_a_locked_row_when_written_then_it_is_not_sent_and_the_others_are_done(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.table.database.LOCK_SECONDS", 1 if lab.kind == "mysql" else 0.05)
    lab.run(MAPPING, "INSERT INTO m VALUES (1, 7), (2, 7)")
    table = lab.table()
    with locked(lab, "UPDATE m SET deal_id = 9 WHERE order_id = 1"):
        results = await effects(table, Write(1, DEAL_7, DEAL_8), Write(2, DEAL_7, DEAL_8))
        # SQLite has one lock for the whole file.
        assert results == [Effect.NOT_SENT, Effect.NOT_SENT if lab.kind == "sqlite" else Effect.DONE]
    assert await effects(table, Write(1, DEAL_7, DEAL_8)) == [Effect.DONE]


async def test_given_a_reader_that_blocks_the_commit_when_written_then_nothing_was_sent(
    sqlite: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.table.database.LOCK_SECONDS", 0.05)
    sqlite.run(MAPPING, "INSERT INTO m VALUES (1, 7)")
    table = sqlite.table()
    with sqlite.engine.connect() as reader:
        autocommit(reader)
        reader.exec_driver_sql("BEGIN")
        reader.exec_driver_sql("SELECT * FROM m").all()
        assert await effects(table, Write(1, DEAL_7, DEAL_8)) == [Effect.NOT_SENT]
    assert await effects(table, Write(1, DEAL_7, DEAL_8)) == [Effect.DONE]


@pytest.mark.postgres
async def test_given_many_locked_rows_when_written_then_the_wait_ends_after_some(
    postgres: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.table.database.LOCK_SECONDS", 0.01)
    postgres.run(MAPPING, "INSERT INTO m SELECT i, 7 FROM generate_series(1, 20) i")
    table = postgres.table()
    with locked(postgres, "UPDATE m SET deal_id = 9"):
        results = await table.write([Write(order, DEAL_7, DEAL_8) for order in range(1, 21)])
    assert {each.effect for each in results} == {Effect.NOT_SENT}
    assert [each.text.startswith("not tried: ") for each in results].count(True) == 17


async def test_given_a_lock_when_the_batch_is_tried_in_parts_then_those_wait_for_less_time(
    server: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.table.database.LOCK_SECONDS", 2 if server.kind == "mysql" else 0.3)
    server.run(MAPPING, "INSERT INTO m VALUES (1, 7), (2, 7)")
    table = server.table()
    sent: list[str] = []
    event.listen(table._home.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    with locked(server, "UPDATE m SET deal_id = 9 WHERE order_id = 1"):
        await table.write([Write(1, DEAL_7, DEAL_8), Write(2, DEAL_7, DEAL_8)])
    waits = [re.search(r"lock_(?:wait_)?timeout = (\d+)", text) for text in sent]
    first, *then = [int(wait[1]) for wait in waits if wait is not None and "SELECT" not in wait.string][1:]
    assert (first, set(then)) == ((2, {1}) if server.kind == "mysql" else (300, {200}))


async def test_given_a_deadlock_when_written_then_nothing_was_sent(server: Lab) -> None:
    server.run(MAPPING, "INSERT INTO m VALUES (1, 7), (2, 7)")
    table = server.table()
    engine = sa.create_engine(server.url)
    other = engine.connect()
    # The other transaction has written much more, so that MySQL takes ours as the victim; PostgreSQL takes who waits
    # first for its patience to end, which is made ours.
    if server.kind == "mysql":
        server.run("CREATE TABLE bulk (a INT)")
        other.exec_driver_sql("INSERT INTO bulk VALUES " + ", ".join(f"({number})" for number in range(500)))
    else:
        other.exec_driver_sql("SET LOCAL deadlock_timeout = '60s'")
    other.exec_driver_sql("UPDATE m SET deal_id = 9 WHERE order_id = 2")
    waiting = threading.Thread(target=lambda: other.exec_driver_sql("UPDATE m SET deal_id = 9 WHERE order_id = 1"))

    def cross() -> None:
        waiting.start()
        wait_until_blocked(server)

    second = threading.Event()

    def look(text: str) -> bool:
        if not text.startswith("UPDATE"):
            return False
        if not second.is_set():
            second.set()
            return False
        cross()
        return True

    once(table, "before_cursor_execute", look)
    assert await effects(table, Write(1, DEAL_7, DEAL_8), Write(2, DEAL_7, DEAL_8)) == [Effect.NOT_SENT] * 2
    waiting.join(60)
    assert not waiting.is_alive(), "the lock it waits for was never let go"
    other.rollback()
    other.close()
    engine.dispose()
    assert sorted(server.rows("SELECT * FROM m")) == [(1, 7), (2, 7)]


def wait_until_blocked(lab: Lab) -> None:
    """Return when some session of the database waits for a lock.

    MariaDB shows its transactions as of the last look, unless that was 0.1 s ago or longer: looking without a pause shows
    the same ones for ever.
    """
    if lab.kind == "postgresql":
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    else:
        query = "SELECT count(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'"
    end = time.monotonic() + 60
    while lab.rows(query) == [(0,)]:
        assert time.monotonic() < end, "no session waits for a lock"
        time.sleep(0.25)


# --------------------------------------------------- others beside us, in the middle
# Not on SQLite: BEGIN IMMEDIATE locks the whole file, so nobody comes in between there.


async def test_given_a_writer_between_our_read_and_our_write_then_its_value_stays(server: Lab) -> None:
    server.run(MAPPING, "INSERT INTO m VALUES (1, 7), (2, 7), (3, 7)")
    table = server.table()
    at_statement(
        table,
        "UPDATE",
        lambda: server.run("UPDATE m SET deal_id = 9 WHERE order_id = 1", "DELETE FROM m WHERE order_id = 2"),
    )
    results = await table.write([Write(order, DEAL_7, DEAL_8) for order in (1, 2, 3)])
    assert [(each.effect, each.found) for each in results] == [
        (Effect.MOVED, DEAL_9), (Effect.MOVED, None), (Effect.DONE, DEAL_7),
    ]  # fmt: skip
    assert sorted(server.rows("SELECT * FROM m")) == [(1, 9), (3, 8)]


@pytest.mark.parametrize(
    ("theirs", "found"), [("UPDATE m SET deal_id = 9", DEAL_9), ("DELETE FROM m", None)], ids=["moved", "removed"]
)
@pytest.mark.parametrize("after", [DEAL_8, None], ids=["move", "remove"])
async def test_given_a_writer_in_between_when_one_order_is_written_then_its_value_is_told(
    server: Lab, theirs: str, found: Owner | None, after: Owner | None
) -> None:
    server.run(MAPPING, "INSERT INTO m VALUES (1, 7)")
    table = server.table()
    at_statement(table, "UPDATE" if after else "DELETE", lambda: server.run(theirs))
    (result,) = await table.write([Write(1, DEAL_7, after)])
    effect = Effect.ALREADY if found == after else Effect.MOVED
    assert (result.effect, result.found, result.found_known) == (effect, found, True)
    assert server.rows("SELECT * FROM m") == ([] if found is None else [(1, 9)])


async def test_given_a_row_revived_in_between_when_added_then_it_stays_as_it_is(server: Lab) -> None:
    server.run(
        "CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, gone INT)", "INSERT INTO m VALUES (1, 7, 1)"
    )
    table = server.table(deleted="gone")
    at_statement(table, "UPDATE", lambda: server.run("UPDATE m SET deal_id = 9, gone = 0"))
    assert await effects(table, Write(1, None, DEAL_8)) == [Effect.MOVED]
    assert server.rows("SELECT * FROM m") == [(1, 9, 0)]


@pytest.mark.parametrize(("theirs", "effect"), [(8, Effect.ALREADY), (9, Effect.MOVED)])
@pytest.mark.parametrize(
    ("database_url", "unique"),
    [
        # Without a unique index syncd locks the whole table of PostgreSQL against other writers.
        pytest.param("postgres_url", "PRIMARY KEY", marks=pytest.mark.postgres),
        pytest.param("mysql_url", "PRIMARY KEY", marks=pytest.mark.mysql),
        pytest.param("mysql_url", "", marks=pytest.mark.mysql),
    ],
    indirect=["database_url"],
)
async def test_given_an_insert_between_our_read_and_our_insert_then_there_is_one_row(
    lab: Lab, theirs: int, effect: Effect, unique: str
) -> None:
    lab.run(f"CREATE TABLE m (order_id BIGINT {unique}, deal_id BIGINT)")
    table = lab.table()
    at_statement(table, "INSERT", lambda: lab.run(f"INSERT INTO m VALUES (1, {theirs})"))
    assert await effects(table, Write(1, None, DEAL_8), Write(2, None, DEAL_8)) == [effect, Effect.DONE]
    assert sorted(lab.rows("SELECT * FROM m")) == [(1, theirs), (2, 8)]


async def test_given_no_unique_index_and_an_open_insert_of_others_when_added_then_syncd_makes_no_second_row(
    server: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.table.database.LOCK_SECONDS", 1)
    server.run("CREATE TABLE m (order_id BIGINT, deal_id BIGINT)", "CREATE INDEX i ON m (order_id)")
    server.run("INSERT INTO m VALUES (2, 7)")
    table = server.table()
    with locked(server, "INSERT INTO m VALUES (1, 8)"):
        first, second = await effects(table, Write(1, None, DEAL_8), Write(2, DEAL_7, DEAL_9))
        assert first is Effect.NOT_SENT
        # MySQL reads a table as small as this one as a whole, and waits for every row of it.
        assert second is Effect.DONE or server.kind == "mysql"
    server.run("INSERT INTO m VALUES (1, 8)")
    assert await effects(table, Write(1, None, DEAL_8)) == [Effect.ALREADY]
    assert server.rows("SELECT * FROM m WHERE order_id = 1") == [(1, 8)]


async def test_given_a_second_row_between_our_read_and_our_write_then_neither_is_touched(server: Lab) -> None:
    server.run("CREATE TABLE m (order_id BIGINT, deal_id BIGINT)", "INSERT INTO m VALUES (1, 7), (2, 7)")
    table = server.table()
    at_statement(table, "DELETE", lambda: server.run("INSERT INTO m VALUES (1, 7)"))
    assert await effects(table, Write(1, DEAL_7, None), Write(2, DEAL_7, None)) == [Effect.MOVED, Effect.DONE]
    assert server.rows("SELECT * FROM m") == [(1, 7), (1, 7)]


async def test_given_an_import_half_done_when_snapshot_then_none_of_it_is_seen(lab: Lab) -> None:
    lab.run(MAPPING, "INSERT INTO m VALUES (1, 7), (2, 7)")
    if lab.kind == "sqlite":
        lab.rows("PRAGMA journal_mode = WAL")
    with locked(lab, "DELETE FROM m", "INSERT INTO m VALUES (1, 7)"):
        rows, _, _ = await snapshot(lab.table())
    assert rows == [(1, 2, 7), (2, 2, 7)]


async def test_given_writes_while_reading_when_snapshot_then_it_shows_one_moment(lab: Lab, small_chunks: None) -> None:
    lab.run(MAPPING, "INSERT INTO m VALUES " + ", ".join(f"({order}, 7)" for order in range(1, 2001)))
    if lab.kind == "sqlite":
        lab.rows("PRAGMA journal_mode = WAL")
    table = lab.table()
    first = threading.Event()
    original = table._snapshot

    def writing(count: Callable[[int], None], orders: OrderRanges, part: bool) -> SpooledSnapshot:
        def tell_and_write(done: int) -> None:
            if not first.is_set():
                first.set()
                lab.run("UPDATE m SET deal_id = 8", "DELETE FROM m WHERE order_id > 1000")
            count(done)

        return original(tell_and_write, orders, part)

    table._snapshot = writing  # type: ignore[method-assign]
    rows, _, _ = await snapshot(table)
    assert rows == [(order, 2, 7) for order in range(1, 2001)]


async def test_given_a_server_when_the_table_is_read_then_its_rows_stay_there_until_fetched(server: Lab) -> None:
    home = server.table()._home
    with home.snapshot() as connection, closing(home.backend.stream(connection)) as cursor:
        assert type(cursor).__name__ == {"postgresql": "ServerCursor", "mysql": "SSCursor"}[server.kind]
        cursor.execute("SELECT 1")


async def test_given_ten_times_the_rows_when_read_then_memory_stays_as_it_was(
    sqlite: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.table.snapshot.CHUNK", 200)
    monkeypatch.setattr("syncd.table.spool.BLOCK", 200)
    sqlite.run(MAPPING)
    table = sqlite.table()

    async def peak(rows: int) -> int:
        sqlite.run("DELETE FROM m", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < "
                   f"{rows}) INSERT INTO m SELECT i, 7 FROM n")  # fmt: skip
        tracemalloc.start()
        try:
            async with table.snapshot(lambda *_: None) as taken:
                for upto in range(100, rows + 100, 100):
                    assert len(taken.take(upto)) == 100
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    await peak(100)  # what is made once
    assert await peak(20_000) < 1.5 * await peak(2_000)


# ------------------------------------------------------------ the table is changed


async def test_given_a_dropped_table_then_nothing_is_told_of_its_rows(lab: Lab) -> None:
    lab.run(MAPPING, "INSERT INTO m VALUES (1, 7)")
    table = lab.table()
    await snapshot(table)
    lab.run("DROP TABLE m")
    for asked in (snapshot(table), table.read([1]), table.write([Write(1, DEAL_7, None)])):
        with pytest.raises(ConfigError):
            await asked


async def test_given_a_column_of_another_type_then_the_snapshot_says_so(lab: Lab) -> None:
    lab.run(MAPPING, "INSERT INTO m VALUES (1, 7)")
    table = lab.table()
    await snapshot(table)
    lab.run("DROP TABLE m", "CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id DATE)")
    lab.run("INSERT INTO m VALUES (1, '2026-01-01')")
    with pytest.raises(ConfigError) as raised:
        await snapshot(table)
    assert "links.shop.table.columns.owner_id" in raised.value.problems[0]


async def test_given_a_column_that_became_text_then_its_ids_are_read_as_before(lab: Lab) -> None:
    lab.run(MAPPING, "INSERT INTO m VALUES (1, 7), (10, 7), (9, 7)")
    table = lab.table()
    before = await snapshot(table)
    lab.run("DROP TABLE m", "CREATE TABLE m (order_id VARCHAR(20) PRIMARY KEY, deal_id VARCHAR(20))")
    lab.run("INSERT INTO m VALUES ('1', '7'), ('10', '7'), ('9', '7')")
    assert await snapshot(table) == before
    assert await effects(table, Write(10, DEAL_7, None)) == [Effect.DONE]


async def test_given_no_room_for_the_spool_when_snapshot_then_that_is_said(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run(MAPPING, "INSERT INTO m VALUES (1, 7)")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(UnavailableError, match="temporary file"):
        await snapshot(lab.table())


# ------------------------------------------------------------------ cancelled callers


async def test_given_a_cancelled_snapshot_then_the_reading_ends_before_the_caller_goes(
    sqlite: Lab, small_chunks: None
) -> None:
    sqlite.run(MAPPING, "INSERT INTO m VALUES " + ", ".join(f"({order}, 7)" for order in range(1, 100)))
    table = sqlite.table()
    go_on, loop = threading.Event(), asyncio.get_running_loop()
    read: list[int] = []
    original = table._snapshot

    def waiting(count: Callable[[int], None], orders: OrderRanges, part: bool) -> SpooledSnapshot:
        def tell_and_wait(done: int) -> None:
            read.append(done)
            count(done)
            go_on.wait(60)

        return original(tell_and_wait, orders, part)

    def progress(*_: object) -> None:
        if not go_on.is_set():
            task.cancel()
            loop.call_soon(go_on.set)

    table._snapshot = waiting  # type: ignore[method-assign]
    task = asyncio.ensure_future(whole(table, progress))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert read == [3, 6]  # told to stop while the second chunk was read


async def whole(table: SqlTable, progress: Progress) -> None:
    async with table.snapshot(progress):
        pytest.fail("the snapshot was cancelled")


async def test_given_a_cancelled_write_then_it_ends_before_the_caller_goes(sqlite: Lab) -> None:
    sqlite.run(MAPPING)
    table = sqlite.table()
    entered, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(entered.set)
        go_on.wait(60)

    at_statement(table, "INSERT", hold)
    task = asyncio.ensure_future(table.write([Write(1, None, DEAL_7)]))
    await entered.wait()
    task.cancel()
    loop.call_soon(go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sqlite.rows("SELECT * FROM m") == [(1, 7)]


# ------------------------------------------------------------------ kinds of trouble


def postgres_error(state: str | None, text: str = "words") -> BaseException:
    import psycopg

    error = psycopg.errors.lookup(state)(text) if state else psycopg.OperationalError(text)
    return exc.DBAPIError("SELECT 1", {}, error)


def mysql_error(number: int, text: str = "words") -> BaseException:
    import pymysql

    return exc.DBAPIError("SELECT 1", {}, pymysql.err.OperationalError(number, text))


@pytest.mark.parametrize(
    ("error", "fault", "kind"),
    [
        (postgres_error("08006"), TableFault.GONE, UnavailableError),
        (postgres_error("57P01"), TableFault.GONE, UnavailableError),
        (postgres_error("57014"), TableFault.LOCKED, UnavailableError),
        (postgres_error("40001"), TableFault.AGAIN, UnavailableError),
        (postgres_error("53300"), TableFault.UNUSABLE, UnavailableError),
        (postgres_error("53100"), TableFault.UNUSABLE, UnavailableError),
        (postgres_error("25006"), TableFault.UNUSABLE, UnavailableError),
        (postgres_error("42501"), TableFault.DENIED, AuthError),
        (postgres_error("28P01"), TableFault.DENIED, AuthError),
        (postgres_error(None, 'FATAL: password authentication failed for user "x"'), TableFault.DENIED, AuthError),
        (postgres_error(None, 'FATAL: database "x" does not exist'), TableFault.NO_TABLE, ConfigError),
        (postgres_error(None, "connection refused"), TableFault.GONE, UnavailableError),
        (postgres_error("42P01"), TableFault.NO_TABLE, ConfigError),
        (postgres_error("23505"), TableFault.ROW, UnavailableError),
        (mysql_error(1045), TableFault.DENIED, AuthError),
        (mysql_error(1040), TableFault.UNUSABLE, UnavailableError),
        (mysql_error(1146), TableFault.NO_TABLE, ConfigError),
        (mysql_error(1205), TableFault.LOCKED, UnavailableError),
        (mysql_error(1213), TableFault.AGAIN, UnavailableError),
        (mysql_error(1062), TableFault.ROW, UnavailableError),
        (mysql_error(2003), TableFault.GONE, UnavailableError),
        (mysql_error(0), TableFault.GONE, UnavailableError),
    ],
    ids=lambda value: str(getattr(value, "orig", "")) if isinstance(value, exc.DBAPIError) else str(value),
)
def test_given_an_error_then_its_kind_decides_what_the_operator_is_told(
    error: BaseException, fault: TableFault, kind: type[SyncdError]
) -> None:
    assert fault_of(error) is fault
    assert isinstance(translate(error, "postgresql://h/db", "links.shop.table"), kind)


def test_given_words_with_a_secret_then_they_are_masked_and_on_one_line() -> None:
    code, text = code_and_words(mysql_error(1045, "cannot use\n mysql://u:hunter22@h/db"))
    assert (code, text) == ("1045", "cannot use mysql://u:***@h/db")


async def test_given_words_with_the_databases_password_then_it_is_masked(sqlite: Lab) -> None:
    sqlite.table(url="mysql://u:sesame-open-99@127.0.0.1:1/db")
    assert code_and_words(mysql_error(1045, "cannot use sesame-open-99")) == ("1045", "cannot use ***")


def test_given_no_server_then_libpq_s_questions_to_the_reader_are_left_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    engine = PostgreSQL().table_engine(sa.make_url(f"postgresql://u@127.0.0.1:{port}/d"), "table", Limits(1, 1))
    with pytest.raises(sa.exc.OperationalError) as told:
        engine.connect()
    assert code_and_words(told.value)[1].endswith("Connection refused")
