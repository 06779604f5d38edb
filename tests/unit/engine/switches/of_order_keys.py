"""Rules for tables that hold the shop's own keys of orders: which order a key is of, and what is done where none is."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from syncd.core.model import HoldKind
from syncd.core.order_keys import CheckedKeys, KeyOrders
from tests.integration.keyed_shop import KeyedShop, held
from tests.simulation.switch import Name, rule
from tests.unit.engine.switches.of_decisions import nothing

KEYS, KEYED = "syncd.engine.learned_keys", "syncd.table.keyed"


def life(story: Callable[[KeyedShop], Awaitable[None]], holds: str = "accountNumber") -> None:
    """One story of a link whose table holds keys."""

    async def lived(url: str) -> None:
        async with KeyedShop(url, holds).running() as world:
            await story(world)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "shop.db")
        path.touch()
        asyncio.run(lived(f"sqlite:///{path}"))


def told(story: Callable[[KeyedShop], Awaitable[None]], holds: str = "accountNumber") -> Callable[[], None]:
    return partial(life, story, holds)


async def a_key_that_moved_writes_nothing_to_the_order_that_had_it(world: KeyedShop) -> None:
    await world.in_step({5: 50, 6: 60})
    world.give_key(5, "OLD-5")
    world.give_key(9, "WEB-5")
    world.put("WEB-5", 51)
    await world.reconcile()
    assert world.bound == {5: 50, 6: 60}
    await world.reconcile()
    assert world.bound == {6: 60, 9: 51}


async def a_key_that_no_order_has_is_held(world: KeyedShop) -> None:
    await world.in_step({5: 50})
    world.put("SHOP-1", 77)
    assert list(held(await world.reconcile()).values()) == [HoldKind.ORDER_MISSING]


async def a_row_with_a_new_key_is_no_removal(world: KeyedShop) -> None:
    await world.in_step({5: 50, 6: 60})
    world.execute("UPDATE bindings SET number = 'NEW-5' WHERE number = 'WEB-5'")
    await world.reconcile()
    assert world.bound == {5: 50, 6: 60}


async def an_order_with_another_key_does_not_wait_for_ever(world: KeyedShop) -> None:
    await world.in_step({5: 50, 6: 60})
    world.give_key(5, "NEW-5")
    world.crm.unbind(5)
    for _ in range(2):
        report = await world.reconcile(minutes=2)
    assert report.row.counts.waiting == 0


async def a_row_without_an_order_and_an_owner_may_be_any_order(world: KeyedShop) -> None:
    await world.in_step({5: 50, 6: 60})
    world.drop("WEB-5")
    world.execute("INSERT INTO bindings (number, deal_id) VALUES ('SHOP-1', NULL)")
    await world.reconcile()
    assert world.bound == {5: 50, 6: 60}


async def a_key_that_two_orders_have_binds_none(world: KeyedShop) -> None:
    world.give_key(5, "twice")
    world.give_key(9, "twice")
    world.put("twice", 50)
    assert held(await world.reconcile()) == dict.fromkeys((5, 9), HoldKind.AMBIGUOUS_KEY)
    assert world.bound == {}


async def an_order_that_takes_a_key_gets_no_row(world: KeyedShop) -> None:
    await world.in_step({5: 50})
    world.give_key(9, "shop-5")
    world.bind(9, 90)
    assert held(await world.reconcile()).get(9) is HoldKind.AMBIGUOUS_KEY


async def an_order_without_a_key_gets_no_row(world: KeyedShop) -> None:
    world.give_key(5, "")
    world.bind(5, 50)
    assert held(await world.reconcile()) == {5: HoldKind.AMBIGUOUS_KEY}
    assert world.rows == []


async def a_key_that_no_order_has_is_asked_for_seldom(world: KeyedShop) -> None:
    world.put("SHOP-1", 77)
    for _ in range(4):
        await world.reconcile(minutes=0.25)
    assert world.lookups == 1


def the_first_of_several(found: Mapping[str, Sequence[int]]) -> KeyOrders:
    return KeyOrders({key: orders[0] for key, orders in found.items()}, {})


async def nothing_moved(*_args: Any) -> CheckedKeys:
    return CheckedKeys()


SWITCHES = [
    rule(
        "What is to be written about an order waits until the portal has said that its key is still its own.",
        Name("syncd.engine.verify:_stale_keys", nothing),
        told(a_key_that_moved_writes_nothing_to_the_order_that_had_it),
        told(an_order_that_takes_a_key_gets_no_row, "xmlId"),
    ),
    rule(
        "An order that does not have its key any more is found out about.",
        Name(f"{KEYS}:LearnedKeys.check", nothing_moved),
        told(a_key_that_moved_writes_nothing_to_the_order_that_had_it),
    ),
    rule(
        "A row whose key no order has is held.",
        Name("syncd.engine.observe:_hold_unknown_keys", lambda *_args: None),
        told(a_key_that_no_order_has_is_held),
    ),
    rule(
        "A row whose key no order has may be an agreed order of the same owner.",
        Name("syncd.core.diff:Differ._may_be_there", lambda *_args: False),
        told(a_row_with_a_new_key_is_no_removal),
    ),
    rule(
        "A row of a key that an order had before is not that order's, once it has another one.",
        Name("syncd.core.diff:number_of_former", lambda _order: 0),
        told(an_order_with_another_key_does_not_wait_for_ever),
    ),
    rule(
        "A row whose key no order has, and whose owner cannot be read, may be any order.",
        Name("syncd.table.snapshot:SnapshotBuilder.without_order", lambda _builder, _row: None),
        told(a_row_without_an_order_and_an_owner_may_be_any_order),
    ),
    rule(
        "A key that several orders have is nobody's.",
        Name(f"{KEYS}:_split", the_first_of_several),
        told(a_key_that_two_orders_have_binds_none, "xmlId"),
    ),
    rule(
        "An order without a key gets no row.",
        Name(f"{KEYED}:KeyedTable._nameless", lambda *_args: {}),
        told(an_order_without_a_key_gets_no_row, "xmlId"),
    ),
    rule(
        "A key that no order has is asked for again with growing pauses.",
        Name(f"{KEYS}:LearnedKeys._is_due", lambda *_args: True),
        told(a_key_that_no_order_has_is_asked_for_seldom),
    ),
]
