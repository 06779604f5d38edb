"""Where nothing has changed, keys cost neither a call of the portal nor a row of the state database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from syncd.state.store import open_store
from tests.integration.keyed_shop import KeyedShop
from tests.property.engine_world import empty_state

pytestmark = pytest.mark.anyio


@contextmanager
def written_tables(engine: sa.Engine) -> Iterator[list[str]]:
    """The tables that statements have written rows of meanwhile, each time once."""
    tables: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        words = statement.split()
        if words[0] in {"INSERT", "UPDATE", "DELETE", "REPLACE"}:
            tables.append(next(word for word in words[1:] if word.islower()))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield tables
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


async def at_rest(world: KeyedShop, state: Path) -> tuple[int, int, list[str]]:
    """Return the requests, the calls and the written tables of a pass that finds nothing new."""
    async with world.running():
        store = world.store = open_store(f"sqlite:///{state}", clock=world.clock)
        try:
            await world.in_step({order: 100 + order for order in range(1, 61)})
            with written_tables(store._database.engine) as tables:
                report = await world.reconcile()
        finally:
            await store.aclose()
    assert (report.exit_code, report.row.counts.in_step) == (0, 60)
    return report.row.requests, report.row.calls, tables


async def test_given_orders_in_step_then_a_pass_by_keys_costs_what_one_by_order_ids_does(tmp_path: Path) -> None:
    for name in ("ids", "keys"):
        (tmp_path / f"{name}.db").touch()
        (tmp_path / f"state-{name}.db").write_bytes(empty_state())
    ids = await at_rest(KeyedShop(f"sqlite:///{tmp_path / 'ids.db'}", None, "INTEGER"), tmp_path / "state-ids.db")
    keys = await at_rest(KeyedShop(f"sqlite:///{tmp_path / 'keys.db'}"), tmp_path / "state-keys.db")
    assert keys == ids
    assert "run" in keys[2]
    assert "order_key" not in keys[2]
