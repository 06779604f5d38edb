"""Tables that allow an owner only once, tables whose triggers reach other rows, and views."""

from __future__ import annotations

import itertools
import random

import pytest

from syncd.core.model import Owner
from syncd.core.ports import Effect, Write
from syncd.table.row_writer import in_sequence
from tests.databases import POSTGRES, SQLITE
from tests.unit.table.conftest import Lab, effects, snapshot

pytestmark = pytest.mark.anyio

reached_by_triggers = pytest.mark.parametrize("database_url", [SQLITE, POSTGRES], indirect=True)
"""On the databases whose triggers may write the table they belong to: MariaDB and MySQL forbid it."""


def deal(number: int) -> Owner:
    return Owner(2, number)


def move(order_id: int, before: int, after: int) -> Write:
    return Write(order_id, deal(before), deal(after))


def rows(lab: Lab) -> list[tuple[int, int]]:
    return sorted(lab.rows("SELECT order_id, deal_id FROM m"))


OWNERS = {
    "plain": "deal_id BIGINT NOT NULL UNIQUE",
    "nullable": "deal_id BIGINT UNIQUE",
    "unsigned": "deal_id BIGINT NOT NULL UNIQUE CHECK (deal_id > 0)",
    "text": "deal_id VARCHAR(20) NOT NULL UNIQUE",
}


def make(lab: Lab, owner: str, count: int = 6) -> None:
    lab.run(f"CREATE TABLE m (order_id BIGINT PRIMARY KEY, {owner})")
    lab.run("INSERT INTO m VALUES " + ", ".join(f"({order}, {order + 10})" for order in range(1, count + 1)))


# ----------------------------------------------------------------------- sequence


def test_given_any_moves_then_each_comes_once_and_after_the_one_that_frees_its_owner() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        orders = list(range(1, rng.randint(2, 9)))
        wanted = [order + 10 for order in orders]
        rng.shuffle(wanted)
        writes = [move(order, order + 10, after) for order, after in zip(orders, wanted, strict=True)]
        some = [write for write in writes if write.before != write.after and rng.random() < 0.8]
        rng.shuffle(some)
        units = in_sequence(some)
        assert sorted(itertools.chain.from_iterable(units)) == sorted(some)
        place = {write.before: number for number, unit in enumerate(units) for write in unit}
        for number, unit in enumerate(units):
            for write in unit:
                assert place.get(write.after, -1) <= number
            ring = zip(unit, (*unit[-1:], *unit[:-1]), strict=True)
            assert len(unit) == 1 or all(write.after == freed.before for write, freed in ring)


def test_given_removes_and_inserts_then_those_come_first_and_last() -> None:
    add, remove, moved = Write(1, None, deal(1)), Write(2, deal(1), None), move(3, 5, 6)
    assert in_sequence([add, moved, remove]) == [(remove,), (moved,), (add,)]


# ------------------------------------------------------------------ unique owners


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
async def test_given_a_unique_owner_when_orders_swap_and_take_over_then_all_is_done(lab: Lab, owner: str) -> None:
    make(lab, owner)
    writes = [
        *(move(1, 11, 12), move(2, 12, 11)),  # a swap
        *(move(3, 13, 14), Write(4, deal(14), None)),  # a takeover from an order that is unbound
        *(Write(7, None, deal(15)), move(5, 15, 99)),  # and by an order that is new
        move(6, 16, 13),  # a chain behind the takeover
    ]
    assert await effects(lab.table(), *writes) == [Effect.DONE] * len(writes)
    assert [(order, int(owner)) for order, owner in rows(lab)] == [(1, 12), (2, 11), (3, 14), (5, 99), (6, 13), (7, 15)]


async def test_given_a_ring_of_three_and_one_more_that_fails_when_written_then_the_ring_is_done(lab: Lab) -> None:
    make(lab, OWNERS["plain"])
    writes = [move(1, 11, 12), move(2, 12, 13), move(3, 13, 11), move(4, 14, 15)]
    assert await effects(lab.table(), *writes) == [Effect.DONE] * 3 + [Effect.REFUSED]
    assert rows(lab) == [(1, 12), (2, 13), (3, 11), (4, 14), (5, 15), (6, 16)]


async def test_given_a_ring_of_which_one_has_moved_when_written_then_that_one_stays(lab: Lab) -> None:
    make(lab, OWNERS["plain"])
    lab.run("UPDATE m SET deal_id = 90 WHERE order_id = 3")
    writes = [move(1, 11, 12), move(2, 12, 13), move(3, 13, 11)]
    assert await effects(lab.table(), *writes) == [Effect.DONE, Effect.DONE, Effect.MOVED]
    assert rows(lab)[:3] == [(1, 12), (2, 13), (3, 90)]


async def test_given_owners_that_exist_elsewhere_when_two_orders_swap_then_the_database_decides(lab: Lab) -> None:
    """With a foreign key nothing can stand aside, unless the column may be null."""
    lab.run("CREATE TABLE deals (id BIGINT PRIMARY KEY)", "INSERT INTO deals VALUES (11), (12)")
    for null, effect in (("NOT NULL", Effect.REFUSED), ("", Effect.DONE)):
        lab.run(
            f"CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT {null} UNIQUE,"
            " FOREIGN KEY (deal_id) REFERENCES deals (id))",
            "INSERT INTO m VALUES (1, 11), (2, 12)",
        )
        assert await effects(lab.table(), move(1, 11, 12), move(2, 12, 11)) == [effect] * 2
        assert rows(lab) == ([(1, 12), (2, 11)] if effect is Effect.DONE else [(1, 11), (2, 12)])
        lab.run("DROP TABLE m")


@pytest.mark.postgres
async def test_given_a_deferrable_constraint_when_orders_swap_then_it_is_deferred_and_still_checked(
    postgres: Lab,
) -> None:
    make(postgres, "deal_id BIGINT NOT NULL UNIQUE DEFERRABLE CHECK (deal_id BETWEEN 10 AND 20)")
    writes = [move(1, 11, 12), move(2, 12, 11), move(3, 13, 14)]
    assert await effects(postgres.table(), *writes) == [Effect.DONE, Effect.DONE, Effect.REFUSED]
    assert rows(postgres)[:4] == [(1, 12), (2, 11), (3, 13), (4, 14)]


# --------------------------------------------------------- writes that reach others

REACHING = {
    "sqlite": [("CREATE TRIGGER t AFTER INSERT ON m BEGIN DELETE FROM m WHERE deal_id = NEW.deal_id"
               " AND order_id <> NEW.order_id; END")],
    "postgresql": [
        ("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " DELETE FROM m WHERE deal_id = NEW.deal_id AND order_id <> NEW.order_id; RETURN NULL; END $$"),
        "CREATE TRIGGER t AFTER INSERT ON m FOR EACH ROW EXECUTE FUNCTION f()",
    ],
}  # fmt: skip


@reached_by_triggers
async def test_given_a_trigger_that_removes_other_orders_when_written_then_it_never_does(
    lab: Lab, small_chunks: None
) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT NOT NULL)", "INSERT INTO m VALUES (1, 11)")
    lab.run(*REACHING[lab.kind])
    writes = [Write(2, None, deal(12)), Write(3, None, deal(13)), Write(4, None, deal(12)), Write(5, None, deal(11))]
    results = await lab.table().write(writes)
    assert [each.effect for each in results] == [Effect.DONE, Effect.DONE, Effect.REFUSED, Effect.REFUSED]
    assert "rows of other orders" in results[3].text
    assert rows(lab) == [(1, 11), (2, 12), (3, 13)]


@pytest.mark.postgres
async def test_given_a_trigger_that_waits_for_the_commit_and_removes_another_order_then_it_never_does(
    postgres: Lab,
) -> None:
    make(postgres, "deal_id BIGINT NOT NULL")
    postgres.run(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM m WHERE order_id = 6; RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON m DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW WHEN (NEW.order_id = 5) EXECUTE FUNCTION f()",
    )
    assert await effects(postgres.table(), move(5, 15, 25), move(4, 14, 24)) == [Effect.REFUSED, Effect.DONE]
    assert rows(postgres)[3:] == [(4, 24), (5, 15), (6, 16)]


async def test_given_on_conflict_replace_when_an_owner_is_taken_then_the_other_order_keeps_its_row(
    sqlite: Lab, small_chunks: None
) -> None:
    sqlite.run(
        "CREATE TABLE m (id INTEGER PRIMARY KEY, order_id INT NOT NULL UNIQUE ON CONFLICT REPLACE,"
        " deal_id INT NOT NULL UNIQUE ON CONFLICT REPLACE)",
        "INSERT INTO m (order_id, deal_id) VALUES (1, 11), (2, 12)",
    )
    writes = [move(1, 11, 12), Write(3, None, deal(13)), Write(4, None, deal(13)), Write(5, None, deal(15))]
    assert await effects(sqlite.table(), *writes) == [Effect.REFUSED, Effect.DONE, Effect.REFUSED, Effect.DONE]
    assert rows(sqlite) == [(1, 11), (2, 12), (3, 13), (5, 15)]


UNDOING = {
    "sqlite": [("CREATE TRIGGER t AFTER UPDATE ON m WHEN NEW.order_id = 5 BEGIN"
               " UPDATE m SET deal_id = 99 WHERE order_id = 1; END")],
    "postgresql": [
        ("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE m SET deal_id = 99 WHERE order_id = 1; RETURN NULL; END $$"),
        "CREATE TRIGGER t AFTER UPDATE ON m FOR EACH ROW WHEN (NEW.order_id = 5) EXECUTE FUNCTION f()",
    ],
}  # fmt: skip


@reached_by_triggers
async def test_given_a_trigger_that_undoes_an_earlier_order_of_the_batch_then_the_later_one_is_refused(
    lab: Lab, small_chunks: None
) -> None:
    make(lab, "deal_id BIGINT NOT NULL")
    lab.run(*UNDOING[lab.kind])
    writes = [move(order, order + 10, order + 20) for order in range(1, 7)]
    assert await effects(lab.table(), *writes) == [Effect.DONE] * 4 + [Effect.REFUSED, Effect.DONE]
    assert rows(lab) == [(1, 21), (2, 22), (3, 23), (4, 24), (5, 15), (6, 26)]


async def test_given_a_trigger_that_ends_the_transaction_when_written_then_only_its_order_is_refused(
    sqlite: Lab, small_chunks: None
) -> None:
    make(sqlite, "deal_id BIGINT NOT NULL", 2)
    sqlite.run(
        "CREATE TRIGGER t BEFORE INSERT ON m WHEN NEW.order_id = 7 BEGIN SELECT RAISE(ROLLBACK, 'not this one'); END"
    )
    writes = [move(1, 11, 21), *(Write(order, None, deal(order)) for order in range(5, 10))]
    results = await sqlite.table().write(writes)
    assert [each.order_id for each in results if each.effect is not Effect.DONE] == [7]
    assert "not this one" in results[3].text
    assert rows(sqlite) == [(1, 21), (2, 12), (5, 5), (6, 6), (8, 8), (9, 9)]


# -------------------------------------------------------------------------- views

VIEWS = {
    "sqlite": [
        "CREATE TRIGGER i INSTEAD OF INSERT ON m BEGIN INSERT INTO base (o, d) VALUES (NEW.order_id, NEW.deal_id); END",
        "CREATE TRIGGER u INSTEAD OF UPDATE ON m BEGIN UPDATE base SET d = NEW.deal_id WHERE o = OLD.order_id; END",
        "CREATE TRIGGER r INSTEAD OF DELETE ON m BEGIN DELETE FROM base WHERE o = OLD.order_id; END",
    ],
    "postgresql": [
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF TG_OP = 'INSERT' THEN INSERT INTO base (o, d) VALUES (NEW.order_id, NEW.deal_id);"
            " ELSIF TG_OP = 'UPDATE' THEN UPDATE base SET d = NEW.deal_id WHERE o = OLD.order_id;"
            " ELSE DELETE FROM base WHERE o = OLD.order_id; END IF; RETURN NULL; END $$"
        ),
        "CREATE TRIGGER t INSTEAD OF INSERT OR UPDATE OR DELETE ON m FOR EACH ROW EXECUTE FUNCTION f()",
    ],
}


async def test_given_a_view_with_instead_of_triggers_when_written_then_reading_back_proves_it(lab: Lab) -> None:
    lab.run(
        "CREATE TABLE base (id {serial}, o BIGINT UNIQUE, d BIGINT)", "INSERT INTO base (o, d) VALUES (1, 11), (2, 12)"
    )
    lab.run("CREATE VIEW m AS SELECT o AS order_id, d AS deal_id FROM base", *VIEWS.get(lab.kind, []))
    table = lab.table()
    assert (await table.check()).problems == []
    assert rows(lab) == [(1, 11), (2, 12)]
    writes = [move(1, 11, 21), Write(2, deal(12), None), Write(3, None, deal(13))]
    assert await effects(table, *writes) == [Effect.DONE] * 3
    assert (await snapshot(table))[0] == [(1, 2, 21), (3, 2, 13)]
    assert await effects(table, move(1, 11, 31)) == [Effect.MOVED]


async def test_given_a_view_whose_trigger_removes_other_orders_when_written_then_it_never_does(sqlite: Lab) -> None:
    sqlite.run("CREATE TABLE base (o BIGINT UNIQUE, d BIGINT UNIQUE)", "INSERT INTO base VALUES (1, 11)")
    sqlite.run(
        "CREATE VIEW m AS SELECT o AS order_id, d AS deal_id FROM base",
        "CREATE TRIGGER i INSTEAD OF INSERT ON m BEGIN"
        " INSERT OR REPLACE INTO base (o, d) VALUES (NEW.order_id, NEW.deal_id); END",
    )
    assert await effects(sqlite.table(), Write(2, None, deal(11)), Write(3, None, deal(13))) == [
        Effect.REFUSED, Effect.DONE,
    ]  # fmt: skip
    assert rows(sqlite) == [(1, 11), (3, 13)]


async def test_given_a_view_that_swallows_updates_when_written_then_it_is_refused(sqlite: Lab) -> None:
    sqlite.run("CREATE TABLE base (o BIGINT UNIQUE, d BIGINT)", "INSERT INTO base VALUES (1, 11)")
    sqlite.run("CREATE VIEW m AS SELECT o AS order_id, d AS deal_id FROM base", VIEWS["sqlite"][0])
    sqlite.run("CREATE TRIGGER u INSTEAD OF UPDATE ON m BEGIN SELECT 1; END")
    assert await effects(sqlite.table(), move(1, 11, 21)) == [Effect.REFUSED]
    assert rows(sqlite) == [(1, 11)]
