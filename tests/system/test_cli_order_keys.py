"""A table that holds order numbers, from the command line: check, plan, reconcile, holds, history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.shop import Shop, open_shop

COLUMNS = '{ order_number = "number", owner_type_id = 2, owner_id = "deal_id" }'


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, {number: 10 + number for number in range(1, 7)}, orders=range(1, 100)) as made:
        made.columns = COLUMNS
        made.settings["first_sync"] = '"auto"'
        made.sql("CREATE TABLE bindings (number TEXT PRIMARY KEY, deal_id INTEGER)")
        for number in range(1, 7):
            made.sql("INSERT INTO bindings VALUES (?, ?)", f"WEB-{number}", 10 + number)
        yield made


def findings(shop: Shop, code: int) -> dict[str, dict[str, Any]]:
    return {one["subject"]: one for one in shop.call("check", "--json").check(code).json}


def test_given_order_numbers_then_the_link_is_checked_synced_and_shown_by_them(shop: Shop) -> None:
    assert findings(shop, 0)["shop: orders"]["text"] == "may be looked up by their accountNumber"
    (first,) = shop.call("reconcile", "--json").check(0).json
    assert first["counts"]["in_step"] == 6

    shop.portal.bind(20, 2, 77)
    shop.sql("INSERT INTO bindings VALUES ('WEB-21', 78), ('SHOP-9', 79)")
    (second,) = shop.call("reconcile", "--json").check(3).json
    assert {(one["order_id"], one["key"]) for one in second["changes"]} == {(20, "WEB-20"), (21, "WEB-21")}
    assert shop.crm()[21] == 78
    assert shop.sql("SELECT deal_id FROM bindings WHERE number = 'WEB-20'") == [(77,)]

    (held,) = shop.call("holds", "--json").check(0).json
    assert (held["kind"], held["key"], held["order_id"] < 0) == ("order-missing", "SHOP-9", True)
    shown = shop.call("holds").check(0).out
    assert "order with the key SHOP-9: " in shown
    assert "syncd resolve" not in shown
    every = shop.call("resolve", "--all", "--kind", "order-missing", "--retry").check(0)
    assert "There is nothing to decide." in every.out + every.err
    assert "Order 20 (WEB-20) of link shop" in shop.call("history", "20").check(0).out
    assert "WEB-20" not in shop.call("history", "21").check(0).out


def test_given_a_spreadsheet_that_decides_rows_without_an_order_too_then_the_orders_in_it_are_decided(
    shop: Shop, tmp_path: Path
) -> None:
    shop.call("reconcile").check(0)
    shop.portal.bind(1, 2, 77)
    shop.sql("UPDATE bindings SET deal_id = 78 WHERE number = 'WEB-1'")
    shop.sql("INSERT INTO bindings VALUES ('SHOP-9', 79), (NULL, 80)")
    shop.call("reconcile").check(3)
    heads, *rows = shop.call("holds", "--csv").check(0).out.splitlines()
    sheet = tmp_path / "holds.csv"
    sheet.write_text("\n".join([heads, *(row.removesuffix(",,") + ",crm,the CRM is right" for row in rows)]))

    told = shop.call("resolve", "--from", str(sheet)).check(0).out

    assert "order 1 (WEB-1): both sides will have deal 77" in told
    assert "order with the key SHOP-9: left as it is; no order of the portal has its key yet" in told
    assert "order unreadable: left as it is; the rows name no order" in told
    (decided,) = shop.call("resolve", "1", "--keep", "table", "--json").check(0).json
    assert (decided["order_id"], decided["key"], decided["decision"]) == (1, "WEB-1", "table")
    assert "order 1 (WEB-1): both sides will have deal 77" in shop.call("resolve", "1", "--keep", "crm").check(0).out
    shop.call("reconcile").check(3)
    assert shop.sql("SELECT deal_id FROM bindings WHERE number = 'WEB-1'") == [(77,)]


def test_given_an_order_without_a_key_then_resolve_refuses_what_it_cannot_do(shop: Shop) -> None:
    shop.call("reconcile").check(0)
    shop.portal.set_order_key("accountNumber", 20, "")
    shop.portal.bind(20, 2, 77)
    (told,) = shop.call("reconcile", "--json").check(3).json
    assert [(one["order_id"], one["kind"]) for one in told["holds"]] == [(20, "ambiguous-key")]
    assert "give it one in the portal" in shop.call("resolve", "20", "--keep", "crm").check(64).err
    assert "Give each order a key of its own in the portal." in shop.call("holds").check(0).out


def test_given_keys_that_no_order_has_then_check_says_so_with_examples(shop: Shop) -> None:
    shop.sql("UPDATE bindings SET number = 'A' || number")
    found = findings(shop, 78)["shop: table"]
    assert "no order of the portal has one of the 6 keys looked at (such as 'AWEB-1'" in found["text"]
    assert "order_xml_id" in found["hint"]


def test_given_rows_without_keys_then_check_says_so_with_examples(shop: Shop) -> None:
    shop.sql("DELETE FROM bindings")
    shop.sql("INSERT INTO bindings VALUES (NULL, 5)")
    found = findings(shop, 78)["shop: table"]
    assert (
        found["text"]
        == 'links.shop.table.columns.order_number: none of the 1 rows that were read has a key in "number"; it holds null'
    )


def test_given_order_numbers_taken_for_order_ids_then_check_names_the_setting_for_them(shop: Shop) -> None:
    shop.columns = COLUMNS.replace("order_number", "order_id")
    text = findings(shop, 78)["shop: table"]["text"]
    assert "none of the 6 rows that were read has an order id" in text
    assert text.endswith("if these are keys of the shop's own, name it order_number, order_xml_id, order_1c_id")


def test_given_a_webhook_without_the_scope_sale_then_check_and_reconcile_end_with_77_and_say_so(shop: Shop) -> None:
    shop.portal.scope = frozenset({"crm"})
    found = findings(shop, 77)["shop: orders"]
    assert "the scope sale is missing" in found["text"]
    assert found["hint"] == "Give the webhook or the application the scope `sale` besides `crm`."
    ran = shop.call("reconcile").check(77)
    assert "scope sale is missing" in ran.out + ran.err


def test_given_another_key_than_the_state_was_made_for_then_the_run_is_refused_until_a_rebase(shop: Shop) -> None:
    shop.call("reconcile").check(0)
    shop.columns = COLUMNS.replace("order_number", "order_xml_id")
    ran = shop.call("reconcile").check(4)
    assert "different: columns" in ran.out
