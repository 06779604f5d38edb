"""The rules of the table's writes can be missed: each is switched off in turn, and what passes with it fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import pytest

from syncd.core.model import Owner
from syncd.core.ports import Effect, Write
from tests.simulation.switch import Name
from tests.unit.table.conftest import Lab, snapshot

pytestmark = pytest.mark.anyio

WRITER, TRANSACTION = "syncd.table.row_writer:RowWriter", "syncd.table.transaction"


def deal(number: int) -> Owner:
    return Owner(2, number)


async def effects(lab: Lab, *writes: Write, **settings: Any) -> list[Effect]:
    return [result.effect for result in await lab.table(**settings).write(writes)]


def bindings(lab: Lab) -> dict[int, int]:
    return dict(lab.rows("SELECT order_id, deal_id FROM m"))


async def a_value_that_a_trigger_changes_is_refused(lab: Lab) -> None:
    lab.run(
        "CREATE TABLE m (order_id INTEGER PRIMARY KEY, deal_id INTEGER)",
        "INSERT INTO m VALUES (1, 7)",
        "CREATE TRIGGER t AFTER UPDATE ON m WHEN NEW.deal_id = 8 "
        "BEGIN UPDATE m SET deal_id = 9 WHERE order_id = NEW.order_id; END",
    )
    assert await effects(lab, Write(1, deal(7), deal(8))) == [Effect.REFUSED]
    assert bindings(lab) == {1: 7}


async def a_later_write_that_undoes_an_earlier_one_is_refused(lab: Lab) -> None:
    lab.run(
        "CREATE TABLE m (order_id INTEGER PRIMARY KEY, deal_id INTEGER)",
        "INSERT INTO m VALUES (1, 11), (2, 12), (3, 13)",
        "CREATE TRIGGER t AFTER UPDATE ON m WHEN NEW.order_id = 3 "
        "BEGIN UPDATE m SET deal_id = 11 WHERE order_id = 1; END",
    )
    writes = [Write(order, deal(10 + order), deal(20 + order)) for order in (1, 2, 3)]
    assert await effects(lab, *writes) == [Effect.DONE, Effect.DONE, Effect.REFUSED]
    assert bindings(lab) == {1: 21, 2: 22, 3: 13}


async def a_write_that_removes_another_row_is_refused(lab: Lab) -> None:
    lab.run(
        "CREATE TABLE m (order_id INTEGER PRIMARY KEY, deal_id INTEGER)",
        "INSERT INTO m VALUES (1, 7), (2, 7)",
        "CREATE TRIGGER t AFTER UPDATE ON m WHEN NEW.order_id = 1 BEGIN DELETE FROM m WHERE order_id = 2; END",
    )
    assert await effects(lab, Write(1, deal(7), deal(8))) == [Effect.REFUSED]
    assert bindings(lab) == {1: 7, 2: 7}


async def orders_that_swap_owners_are_written_under_a_unique_index(lab: Lab) -> None:
    lab.run(
        "CREATE TABLE m (order_id INTEGER PRIMARY KEY, deal_id INTEGER UNIQUE)",
        "INSERT INTO m VALUES (1, 7), (2, 8), (3, 9)",
    )
    ring = [Write(1, deal(7), deal(8)), Write(2, deal(8), deal(9)), Write(3, deal(9), deal(7))]
    assert await effects(lab, *ring) == [Effect.DONE] * 3
    assert bindings(lab) == {1: 8, 2: 9, 3: 7}


async def other_partitions_are_neither_read_nor_written(lab: Lab) -> None:
    lab.run(
        "CREATE TABLE m (order_id INTEGER, deal_id INTEGER, branch TEXT)",
        "INSERT INTO m VALUES (1, 7, 'north'), (1, 7, 'south'), (2, 8, 'south')",
    )
    assert await effects(lab, Write(1, deal(7), None), rows={"branch": "north"}) == [Effect.DONE]
    assert (await snapshot(lab.table(rows={"branch": "north"})))[0] == []
    assert lab.rows("SELECT * FROM m ORDER BY order_id") == [(1, 7, "south"), (2, 8, "south")]


async def an_expected_value_that_is_not_there_is_not_written_over(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id INTEGER PRIMARY KEY, deal_id INTEGER)", "INSERT INTO m VALUES (1, 9)")
    assert await effects(lab, Write(1, deal(7), deal(8))) == [Effect.MOVED]
    assert bindings(lab) == {1: 9}


def nothing(*_: object, **__: object) -> None:
    """Do nothing."""


def one_after_the_other(batch: Sequence[Write]) -> list[tuple[Write, ...]]:
    return [(write,) for write in batch]


class Rule(NamedTuple):
    """How a rule is switched off, and what fails then."""

    off: Name
    check: Callable[[Lab], Awaitable[None]]


RULES = {
    "what was written is read back": Rule(Name(f"{WRITER}.prove", nothing), a_value_that_a_trigger_changes_is_refused),
    "the whole batch is proved once more before the commit": Rule(
        Name(f"{TRANSACTION}:TransactionWriter._prove_batch", nothing),
        a_later_write_that_undoes_an_earlier_one_is_refused,
    ),
    "a write adds and removes no rows of others": Rule(
        Name("syncd.db.sqlite:SQLite.may_reach_other_rows", lambda *_: False),
        a_write_that_removes_another_row_is_refused,
    ),
    "owners are freed before they are taken": Rule(
        Name(f"{TRANSACTION}:in_sequence", one_after_the_other),
        orders_that_swap_owners_are_written_under_a_unique_index,
    ),
    "a partition is a wall": Rule(
        Name("syncd.table.statements:Statements._partition", property(lambda _: [])),
        other_partitions_are_neither_read_nor_written,
    ),
    "a write is conditional": Rule(
        Name(f"{TRANSACTION}:TransactionWriter._answer", nothing),
        an_expected_value_that_is_not_there_is_not_written_over,
    ),
}


@pytest.mark.parametrize("name", RULES)
async def test_given_a_rule_switched_off_then_what_passes_with_it_fails(
    name: str, sqlite: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = RULES[name]
    monkeypatch.setattr(f"{TRANSACTION}.CHUNK", 2)
    await rule.check(sqlite)
    sqlite.run("DROP TABLE m")
    rule.off.flip(monkeypatch)

    with pytest.raises(AssertionError):
        await rule.check(sqlite)


@pytest.mark.postgres
async def test_given_inserts_that_do_not_wait_for_each_other_then_an_order_gets_a_second_row(
    postgres: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    Name("syncd.db.postgresql:PostgreSQL.serialise_inserts", nothing).flip(monkeypatch)
    postgres.run("CREATE TABLE m (order_id BIGINT, deal_id BIGINT)")
    with postgres.engine.begin() as others:
        others.exec_driver_sql("INSERT INTO m VALUES (1, 8)")
        assert await effects(postgres, Write(1, None, deal(8))) == [Effect.DONE]
    assert postgres.rows("SELECT * FROM m") == [(1, 8), (1, 8)]


@pytest.mark.postgres
async def test_given_a_view_with_triggers_then_it_hides_what_a_write_does_to_others(postgres: Lab) -> None:
    postgres.run(
        "CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT)",
        "CREATE VIEW v AS SELECT * FROM m",
        "CREATE TABLE p (order_id BIGINT, deal_id BIGINT) PARTITION BY RANGE (order_id)",
    )
    hides = {}
    for name in ("m", "v", "p"):
        table = postgres.table(name)
        await snapshot(table)
        hides[name] = table.hides_effects
    assert hides == {"m": False, "v": True, "p": False}
    postgres.run(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER t AFTER UPDATE ON p FOR EACH ROW EXECUTE FUNCTION f()",
    )
    table = postgres.table("p")
    await snapshot(table)
    assert table.hides_effects


async def test_given_a_view_of_sqlite_then_it_hides_what_a_write_does_to_others(sqlite: Lab) -> None:
    sqlite.run("CREATE TABLE m (order_id INTEGER PRIMARY KEY, deal_id INTEGER)", "CREATE VIEW v AS SELECT * FROM m")
    plain, view = sqlite.table("m"), sqlite.table("v")
    await snapshot(plain)
    await snapshot(view)
    assert (plain.hides_effects, view.hides_effects) == (False, True)
