"""With a bijective mapping of keys, a run by keys ends as the run by order ids does (sync-rules.md, property 13)."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.keyed_shop import KeyedShop

ORDERS = st.integers(1, 12)
EDITS = st.lists(
    st.tuples(st.sampled_from(["bind", "unbind", "put", "drop", "pass"]), ORDERS, st.integers(100, 104)), max_size=14
)


async def lived(world: KeyedShop, names: dict[int, str], edits: list[tuple[str, int, int]]) -> object:
    """Play the edits, a pass now and then and two at the end; return what both sides and the holds are then."""
    async with world.running():
        for order, name in names.items():
            world.crm.set_order_key("accountNumber", order, name)
        told = names if world.holds else {order: order for order in names}
        await world.in_step({order: 200 + order for order in (1, 2, 3, 4, 5, 6)})
        for what, order, owner in [*edits, ("pass", 0, 0), ("pass", 0, 0)]:
            if what == "bind":
                world.bind(order, owner)
            elif what == "unbind":
                world.crm.unbind(order)
            elif what == "put":
                world.put(told[order], owner)
            elif what == "drop":
                world.drop(told[order])
            else:
                report = await world.reconcile(minutes=2)
        orders = {name: order for order, name in told.items()}
        rows = sorted((orders[key], owner) for key, owner in world.rows)
        return world.bound, rows, [(hold.order_id, hold.kind, hold.facts) for hold in report.holds], report.row.state


@settings(max_examples=4)
@given(EDITS, st.permutations([f"N-{number}" for number in range(1, 13)]))
def test_given_any_edits_and_any_names_of_orders_then_keys_lead_where_order_ids_do(
    edits: list[tuple[str, int, int]], names: list[str]
) -> None:
    mapping = dict(enumerate(names, 1))
    with tempfile.TemporaryDirectory() as folder:
        ends = []
        for number, (holds, kind) in enumerate(((None, "INTEGER"), ("accountNumber", "VARCHAR(20)"))):
            path = Path(folder, f"{number}.db")
            path.touch()
            ends.append(asyncio.run(lived(KeyedShop(f"sqlite:///{path}", holds, kind), mapping, edits)))
    by_ids, by_keys = ends
    assert by_keys == by_ids
