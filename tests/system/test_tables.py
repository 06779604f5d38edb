"""Tables as programs have them, through the whole program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.shop import Shop, open_shop

OWNERS = {order: order + 10 for order in range(1, 31)}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, OWNERS, orders=range(1, 100)) as made:
        made.settings["first_sync"] = '"auto"'
        yield made


def test_given_unique_owners_when_orders_swap_and_take_over_then_one_pass_is_enough(shop: Shop) -> None:
    shop.sql("CREATE TABLE bindings (order_id INTEGER PRIMARY KEY, deal_id INTEGER NOT NULL UNIQUE)")
    for pair in OWNERS.items():
        shop.sql("INSERT INTO bindings VALUES (?, ?)", *pair)
    shop.call("reconcile").check(0)

    shop.portal.bind(1, 2, 12)
    shop.portal.bind(2, 2, 11)
    shop.portal.unbind(4)
    shop.portal.bind(3, 2, 14)

    shop.call("reconcile").check(0)
    assert shop.table() == shop.crm()
    assert {order: shop.table().get(order) for order in (1, 2, 3, 4)} == {1: 12, 2: 11, 3: 14, 4: None}


def test_given_two_portals_in_one_table_then_equal_order_ids_do_not_meet(shop: Shop) -> None:
    shop.sql(
        "CREATE TABLE bindings (branch TEXT, order_id INTEGER, deal_id INTEGER NOT NULL, PRIMARY KEY (branch, order_id))"
    )
    for order, deal in OWNERS.items():
        shop.sql("INSERT INTO bindings VALUES ('north', ?, ?), ('south', ?, ?)", order, deal, order, deal + 500)
    shop.sql("INSERT INTO bindings VALUES ('south', 31, 999)")
    shop.extra = 'rows = { branch = "north" }'
    shop.call("reconcile").check(0)

    shop.sql("DELETE FROM bindings WHERE branch = 'north' AND order_id = 3")
    shop.portal.bind(31, 2, 310)

    shop.call("reconcile").check(0)
    assert (shop.crm().get(3), shop.crm()[31]) == (None, 310)
    assert shop.sql("SELECT branch, deal_id FROM bindings WHERE order_id = 31 ORDER BY 1") == [
        ("north", 310),
        ("south", 999),
    ]
    assert shop.sql("SELECT count(*) FROM bindings WHERE branch = 'south'") == [(31,)]


def test_given_on_conflict_replace_when_an_owner_is_taken_then_no_other_order_is_unbound(shop: Shop) -> None:
    shop.sql("CREATE TABLE bindings (order_id INT UNIQUE, deal_id INT NOT NULL UNIQUE ON CONFLICT REPLACE)")
    for pair in OWNERS.items():
        shop.sql("INSERT INTO bindings VALUES (?, ?)", *pair)
    shop.call("reconcile").check(0)

    shop.portal.bind(40, 2, 14)  # the deal of order 4

    for _ in range(2):
        shop.call("reconcile").check(3)
    assert shop.crm() == OWNERS | {40: 14}
    assert shop.table() == OWNERS


def test_given_a_row_that_where_does_not_select_then_resolve_refuses_what_it_cannot_do(shop: Shop) -> None:
    shop.sql("CREATE TABLE bindings (order_id INT, deal_id INT, channel TEXT)")
    for pair in OWNERS.items():
        shop.sql("INSERT INTO bindings VALUES (?, ?, 'web')", *pair)
    shop.extra = 'where = "channel = \'web\'"\nextra = { channel = "web" }'
    shop.call("reconcile").check(0)
    shop.sql("UPDATE bindings SET channel = 'pos' WHERE order_id = 5")
    shop.call("reconcile").check(3)

    for side in ("crm", "table"):
        refused = shop.call("resolve", "5", "--keep", side).check(64)
        assert "that `where` does not select" in refused.err

    shop.sql("UPDATE bindings SET channel = 'web' WHERE order_id = 5")
    shop.call("reconcile").check(0)


def test_given_keys_of_another_numbering_when_checked_then_that_is_a_problem(shop: Shop) -> None:
    shop.sql("CREATE TABLE bindings (order_id INTEGER PRIMARY KEY, deal_id INTEGER)")
    for order, deal in OWNERS.items():
        shop.sql("INSERT INTO bindings VALUES (?, ?)", order + 1000, deal)

    (problem,) = [one for one in shop.call("check", "--json").check(78).json if not one["ok"]]

    assert "is bound in the CRM, although other orders are" in problem["text"]


def test_given_a_table_without_a_unique_index_when_checked_then_it_is_well_with_a_warning(shop: Shop) -> None:
    shop.create_table(list(OWNERS.items()), key=False)

    ran = shop.call("check").check(0)

    assert "All is well; 1 warning." in ran.out
    assert "no unique index on the order id" in ran.out
