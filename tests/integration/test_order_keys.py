"""Tables that hold the shop's own keys of orders: on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from syncd.core.model import HoldKind
from tests.integration.keyed_shop import KeyedShop, held

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[KeyedShop]:
    async with KeyedShop(database_url).running() as made:
        yield made


async def test_given_order_numbers_then_both_sides_come_into_step_and_stay_so(world: KeyedShop) -> None:
    world.bind(5, 50)
    world.put("WEB-7", 70)
    assert (await world.reconcile()).exit_code == 0
    assert (world.rows, world.bound) == ([("WEB-5", 50), ("WEB-7", 70)], {5: 50, 7: 70})

    world.bind(5, 51)
    world.put("WEB-7", 71)
    assert (await world.reconcile()).exit_code == 0
    assert (world.rows, world.bound) == ([("WEB-5", 51), ("WEB-7", 71)], {5: 51, 7: 71})

    world.crm.unbind(5)
    world.drop("WEB-7")
    assert (await world.reconcile()).exit_code == 0
    assert (world.rows, world.bound) == ([], {})


@pytest.mark.parametrize("other", ["A-1", "a-1 "])
async def test_given_keys_that_the_database_takes_for_equal_then_each_row_is_its_own_orders(
    world: KeyedShop, other: str
) -> None:
    world.give_key(5, "a-1")
    world.give_key(6, other)
    world.put("a-1", 50)
    world.execute("INSERT INTO bindings (number, deal_id) VALUES (:a, :b)", other, 50)
    await world.reconcile()
    assert world.bound == {5: 50, 6: 50}

    world.bind(6, 61)
    assert (await world.reconcile()).exit_code == 0
    assert dict(world.rows) == {other: 61, "a-1": 50}
    world.bind(6, 50)
    world.bind(5, 62)
    assert (await world.reconcile()).exit_code == 0
    assert dict(world.rows) == {other: 50, "a-1": 62}
    world.bind(5, 50)
    await world.reconcile()
    world.crm.unbind(5)
    assert (await world.reconcile()).exit_code == 0
    assert world.rows == [(other, 50)]


async def test_given_two_rows_with_one_key_then_its_order_is_held(world: KeyedShop) -> None:
    await world.in_step({5: 50})
    world.execute("INSERT INTO bindings (number, deal_id) VALUES (:a, :b)", "WEB-5", 51)
    assert held(await world.reconcile()) == {5: HoldKind.DUPLICATE_ROWS}
    assert world.bound == {5: 50}


async def test_given_a_table_with_soft_deletion_then_a_row_is_revived_under_its_key(database_url: str) -> None:
    async with KeyedShop(database_url, options={"deleted": "gone"}).running() as world:
        world.execute("DROP TABLE bindings")
        world.execute(
            "CREATE TABLE bindings (number VARCHAR(60) PRIMARY KEY, deal_id INTEGER, gone INTEGER NOT NULL DEFAULT 0)"
        )
        await world.in_step({5: 50, 6: 60})
        world.crm.unbind(5)
        assert (await world.reconcile()).exit_code == 0
        world.bind(5, 51)
        assert (await world.reconcile()).exit_code == 0
        assert world.rows == [("WEB-5", 51), ("WEB-6", 60)]


async def test_given_owners_that_are_unique_when_orders_swap_them_then_rows_swap_too(database_url: str) -> None:
    async with KeyedShop(database_url).running() as world:
        world.execute("CREATE UNIQUE INDEX one_deal ON bindings (deal_id)")
        await world.in_step({5: 50, 6: 60})
        world.bind(5, 60)
        world.bind(6, 50)
        assert (await world.reconcile()).exit_code == 0
        assert world.rows == [("WEB-5", 60), ("WEB-6", 50)]


async def test_given_a_column_that_the_database_pads_then_its_spaces_are_no_part_of_the_key(database_url: str) -> None:
    async with KeyedShop(database_url, kind="CHAR(12)").running() as world:
        await world.in_step({5: 50, 6: 60})
        world.bind(5, 51)
        world.crm.unbind(6)
        assert (await world.reconcile()).exit_code == 0
        assert [(number.rstrip(), owner) for number, owner in world.rows] == [("WEB-5", 51)]


async def test_given_a_column_of_whole_numbers_then_their_digits_are_the_keys(database_url: str) -> None:
    async with KeyedShop(database_url, kind="INTEGER").running() as world:
        world.give_key(5, "1005")
        world.give_key(7, "1007")
        world.put(1007, 70)
        world.bind(5, 50)
        assert (await world.reconcile()).exit_code == 0
        assert (world.rows, world.bound) == ([(1005, 50), (1007, 70)], {5: 50, 7: 70})
        world.bind(5, 51)
        world.drop(1007)
        assert (await world.reconcile()).exit_code == 0
        assert (world.rows, world.bound) == ([(1005, 51)], {5: 51})


async def test_given_a_key_with_letters_of_any_language_then_its_row_is_found(world: KeyedShop) -> None:
    for order, key in ((5, "Заказ №5"), (6, "50% & 'x'"), (7, "注文-7")):
        world.give_key(order, key)
        world.bind(order, order)
    assert (await world.reconcile()).exit_code == 0
    for order in (5, 7):
        world.bind(order, 10 * order)
    assert (await world.reconcile()).exit_code == 0
    assert dict(world.rows) == {"Заказ №5": 50, "50% & 'x'": 6, "注文-7": 70}


async def test_given_a_table_of_keys_then_check_tries_a_write_and_takes_it_back(world: KeyedShop) -> None:
    for checked in range(2):
        found = await world.link().table.check()
        assert (found.problems, found.sample, list(found.keys)) == ([], [], ["WEB-5"] if checked else [])
        assert len(world.rows) == checked
        world.put("WEB-5", 50)
