"""What has changed in a table since the last look, by a column that grows with every write (`watch`)."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.errors import ConfigError, UnavailableError
from syncd.table import rows
from syncd.table.sql import SqlTable
from tests.unit.table.conftest import Lab, snapshot

pytestmark = pytest.mark.anyio

TABLE = "CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, updated_at {time})"


def at(second: int) -> str:
    return f"'2026-05-04 03:02:{second:02}'"


def put(order: Any, deal: int, second: int) -> str:
    return f"INSERT INTO m VALUES ({order}, {deal}, {at(second)})"


async def watched(lab: Lab, *rows: str, **settings: Any) -> SqlTable:
    """A table with these rows, at which the first look has been taken."""
    lab.run(*rows)
    table = lab.table(watch="updated_at", **settings)
    assert await look(table) == []
    return table


async def look(table: SqlTable) -> list[int]:
    found = await table.changed()
    assert not found.many
    return sorted(found.orders)


async def test_given_rows_that_change_then_each_is_found_once(lab: Lab) -> None:
    table = await watched(lab, TABLE, put(1, 7, 1), put(2, 7, 2))
    assert await look(table) == []
    lab.run(f"UPDATE m SET deal_id = 8, updated_at = {at(5)} WHERE order_id = 1", put(3, 7, 5))
    assert await look(table) == [1, 3]
    assert await look(table) == []
    lab.run(f"UPDATE m SET deal_id = 9, updated_at = {at(6)} WHERE order_id = 3", f"UPDATE m SET updated_at = {at(6)}")
    assert await look(table) == [1, 2, 3]
    assert [await look(table), await look(table)] == [[], []]


async def test_given_an_empty_table_then_its_first_row_is_found(lab: Lab) -> None:
    table = await watched(lab, TABLE)
    lab.run("INSERT INTO m VALUES (4, 7, NULL)")
    assert await look(table) == [], "a row that has never got a value has none to compare"
    lab.run(put(5, 7, 1))
    assert await look(table) == [5]


async def test_given_two_writes_in_one_tick_of_a_coarse_clock_then_both_are_found(lab: Lab) -> None:
    table = await watched(lab, TABLE, put(1, 7, 1))
    lab.run(put(2, 7, 1))
    assert await look(table) == [2]
    lab.run("UPDATE m SET deal_id = 8 WHERE order_id = 2", "UPDATE m SET deal_id = 8 WHERE order_id = 1")
    assert await look(table) == [1, 2]
    assert await look(table) == []


async def test_given_a_row_that_is_committed_after_a_newer_one_then_it_is_found(lab: Lab) -> None:
    table = await watched(lab, TABLE, put(1, 7, 1))
    lab.run(put(2, 7, 9))
    assert await look(table) == [2]
    lab.run(put(3, 7, 8))
    assert await look(table) == [3]
    assert await look(table) == []


async def test_given_a_value_far_in_the_future_that_is_mended_then_changes_are_found_again(lab: Lab) -> None:
    table = await watched(lab, TABLE, put(1, 7, 1), "INSERT INTO m VALUES (2, 7, '2037-01-01 00:00:00')")
    lab.run(put(3, 7, 5))
    assert await look(table) == []
    lab.run(f"UPDATE m SET updated_at = {at(6)} WHERE order_id = 2", put(4, 7, 7))
    assert [await look(table), await look(table), await look(table)] == [[], [], [4]]
    lab.run(put(5, 7, 8))
    assert await look(table) == [5]


async def test_given_very_many_rows_then_all_orders_are_to_be_compared_and_it_goes_on_from_there(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MOST_CHANGED", 3)
    table = await watched(lab, TABLE, put(1, 7, 1))
    lab.run(*(put(order, 7, 5) for order in range(2, 8)))
    assert await table.changed() == rows.ChangedOrders(many=True)
    assert await look(table) == [], "a value that many rows share is not read again and again"
    lab.run(put(9, 7, 6))
    assert await look(table) == [9]
    assert [await look(table), await look(table)] == [[], []]


async def test_given_a_column_that_was_just_added_then_its_one_value_for_all_rows_is_no_change(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MOST_CHANGED", 3)
    table = await watched(lab, TABLE, *(put(order, 7, 5) for order in range(1, 8)))
    assert [await look(table), await look(table)] == [[], []]
    lab.run(put(9, 7, 6))
    assert await look(table) == [9]


@pytest.mark.parametrize(
    ("kind", "values"), [("BIGINT", ("8", "9", "10")), ("VARCHAR(19)", (at(1), at(2), at(3)))], ids=["number", "text"]
)
async def test_given_a_number_or_a_text_that_grows_then_changes_are_found(
    lab: Lab, kind: str, values: tuple[str, ...]
) -> None:
    lab.run(TABLE.replace("{time}", kind))
    table = await watched(lab, f"INSERT INTO m VALUES (1, 7, {values[0]})")
    for value in values[1:]:
        lab.run(f"UPDATE m SET updated_at = {value}")
        assert await look(table) == [1]
    assert await look(table) == []


async def test_given_a_time_with_its_zone_and_fractions_then_changes_are_found(postgres: Lab) -> None:
    create = "CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, updated_at TIMESTAMPTZ DEFAULT now())"
    table = await watched(postgres, create, "INSERT INTO m VALUES (1, 7)")
    for order in (2, 3):
        postgres.run(f"INSERT INTO m VALUES ({order}, 7)")
        assert await look(table) == [order]


@pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMPTZ"])
@pytest.mark.parametrize("odd", ["infinity", "-infinity", "20000-01-01", "0044-03-15 BC"])
async def test_given_times_that_python_does_not_know_then_the_other_rows_are_watched(
    postgres: Lab, kind: str, odd: str
) -> None:
    create = f"CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, deleted_at {kind}, updated_at {kind})"
    row = "INSERT INTO m VALUES ({order}, 7, {deleted}, {time})"
    table = await watched(postgres, create, row.format(order=1, deleted="NULL", time=f"'{odd}'"), deleted="deleted_at")
    postgres.run(row.format(order=2, deleted=f"'{odd}'", time=at(1)), row.format(order=3, deleted="NULL", time=at(2)))
    assert await look(table) == [2, 3]
    postgres.run(f"UPDATE m SET updated_at = {at(3)} WHERE order_id = 1")
    assert await look(table) == [1]


async def test_given_rows_that_are_not_the_links_then_they_are_not_looked_at(lab: Lab) -> None:
    create = "CREATE TABLE m (order_id BIGINT, deal_id BIGINT, branch VARCHAR(9), channel INT, updated_at {time})"
    table = await watched(lab, create, rows={"branch": "north"}, where="channel = 1")
    lab.run(
        f"INSERT INTO m VALUES (1, 7, 'north', 1, {at(1)})",
        f"INSERT INTO m VALUES (2, 7, 'south', 1, {at(1)})",
        f"INSERT INTO m VALUES (3, 7, 'north', 2, {at(1)})",
        f"INSERT INTO m VALUES (NULL, 7, 'north', 1, {at(1)})",
    )
    assert await look(table) == [1]


async def test_given_a_soft_delete_in_the_tick_of_the_last_change_then_it_is_found(lab: Lab) -> None:
    create = "CREATE TABLE m (order_id BIGINT, deal_id BIGINT, deleted_at {time}, updated_at {time})"
    table = await watched(lab, create, f"INSERT INTO m VALUES (1, 7, NULL, {at(1)})", deleted="deleted_at")
    lab.run(f"UPDATE m SET deleted_at = {at(1)}")
    assert await look(table) == [1]
    assert await look(table) == []


@pytest.mark.parametrize(("kind", "said"), [("BOOLEAN", "whole number"), (None, 'has no column "updated_at"')])
async def test_given_a_column_that_cannot_be_watched_then_only_watching_ends(
    postgres: Lab, kind: str | None, said: str
) -> None:
    column = "" if kind is None else f", updated_at {kind}"
    postgres.run(f"CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT{column})")
    table = postgres.table(watch="updated_at")
    with pytest.raises(ConfigError) as raised:
        await table.changed()
    assert raised.value.problems[0].startswith("links.shop.table.watch: ")
    assert said in raised.value.problems[0]
    assert (await snapshot(table))[0] == []
    assert (await table.check()).problems == list(raised.value.problems)


async def test_given_a_column_that_goes_away_then_watching_ends(lab: Lab) -> None:
    table = await watched(lab, TABLE)
    lab.run("ALTER TABLE m DROP COLUMN updated_at")
    with pytest.raises(ConfigError):
        await table.changed()


async def test_given_a_database_that_is_away_then_it_is_unavailable(sqlite: Lab) -> None:
    table = sqlite.table(url="sqlite:////nowhere/at/all.db", watch="updated_at")
    with pytest.raises(UnavailableError):
        await table.changed()


async def test_given_no_index_that_begins_with_the_column_then_check_warns(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, branch INT, updated_at {time})")

    async def warnings(**settings: Any) -> list[str]:
        found = await lab.table(watch="updated_at", **settings).check()
        assert found.problems == []
        return [one for one in found.warnings if ".watch:" in one]

    lab.run("CREATE INDEX other ON m (deal_id, updated_at)")
    (warning,) = await warnings()
    assert warning.startswith('links.shop.table.watch: no index begins with the column "updated_at"')
    lab.run("CREATE INDEX of_branch ON m (branch, updated_at)")
    assert await warnings() == [warning]
    assert await warnings(rows={"branch": 1}) == []
    lab.run("CREATE INDEX right_one ON m (updated_at, deal_id)")
    assert await warnings() == []
