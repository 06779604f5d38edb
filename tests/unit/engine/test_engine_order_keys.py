"""A table that holds the shop's keys: an order's key is asked for once more before anything is written about the order."""

from __future__ import annotations

import pytest

from syncd.core.model import HoldKind, Outcome
from syncd.core.order_keys import KeyField
from syncd.engine.learned_keys import LearnedKeys
from tests.simulation.world import World
from tests.unit.engine.given import both, deal, in_step, outcomes

pytestmark = pytest.mark.anyio


async def keyed(orders: dict[int, int]) -> World:
    """A link in step whose orders 5, 6, … have the keys A5, A6, …, which syncd has learned."""
    world = await in_step(orders)
    world.portal.keys = {order: f"A{order}" for order in orders}
    world.options["order_keys"] = LearnedKeys(KeyField.NUMBER, world.portal, world.store, world.clock)
    for order, number in orders.items():
        world.edit_crm(order, (2, number + 100))
        world.edit_table(order, (2, number + 100))
    await world.reconcile()
    return world


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ("B5", "skipped: the order's accountNumber is now 'B5'; the next run looks again"),
        ("", "skipped: the order's accountNumber is now none of its own; the next run looks again"),
    ],
)
async def test_given_an_order_that_has_another_key_by_now_then_it_is_left_to_the_next_run_and_the_others_go_on(
    now: str, said: str
) -> None:
    world = await keyed({5: 10, 6: 11})
    world.portal.keys[5] = now
    for order in (5, 6):
        world.edit_table(order, (2, 200 + order))

    report = await world.reconcile()

    assert outcomes(report) == {(5, "crm"): Outcome.SKIPPED, (6, "crm"): Outcome.APPLIED}
    assert [one.error for one in report.changes if one.change.order_id == 5] == [said]
    assert both(world, 5) == (deal(110), deal(205))
    await world.reconcile()
    assert both(world, 5) == (deal(205), deal(205))


async def test_given_an_order_whose_key_another_one_has_too_then_it_is_held_and_neither_side_is_written() -> None:
    world = await keyed({5: 10, 6: 11})
    world.portal.keys[9] = "A5"
    for order in (5, 6):
        world.edit_table(order, (2, 200 + order))

    report = await world.reconcile()

    assert outcomes(report) == {(6, "crm"): Outcome.APPLIED}
    (hold,) = report.holds
    assert (hold.order_id, hold.kind) == (5, HoldKind.AMBIGUOUS_KEY)
    assert hold.detail.startswith("The orders 5, 9 have the same accountNumber 'A5'")
    assert report.keys == {5: "A5", 6: "A6"}


@pytest.mark.parametrize("other", [{5: "B5"}, {9: "A5"}])
async def test_given_both_sides_alike_when_the_key_is_not_the_orders_own_then_that_is_not_agreed(
    other: dict[int, str],
) -> None:
    world = await keyed({5: 10, 6: 11})
    world.portal.keys |= other
    for order in (5, 6):
        world.edit_crm(order, (2, 200 + order))
        world.edit_table(order, (2, 200 + order))

    await world.reconcile()

    assert await world.agreed(5) == deal(110)
    assert await world.agreed(6) == deal(206)
