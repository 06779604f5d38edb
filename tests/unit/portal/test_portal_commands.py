"""Addresses that are parsed, and commands that are written: the only text that crosses over to the portal."""

from __future__ import annotations

import json
from urllib.parse import unquote

import pytest
from pydantic import SecretStr

from syncd.core.model import Owner
from syncd.core.order_ranges import LARGEST_ID
from syncd.core.ports import Write
from syncd.portal import commands
from syncd.portal.hosts import is_of_vendor, same_domain

NO_TOKEN = SecretStr("")


# -------------------------------------------------------------------- commands


def test_given_windows_when_written_as_commands_then_keys_are_camel_case_and_encoded() -> None:
    assert unquote(commands.list_window(5, 55)) == (
        "crm.orderentity.list?order[orderId]=asc&filter[>orderId]=5&filter[<=orderId]=55&start=-1"
    )
    assert unquote(commands.list_window(5, LARGEST_ID, count=True, descending=True)) == (
        "crm.orderentity.list?order[orderId]=desc&filter[>orderId]=5&start=0"
    )
    assert "[" not in commands.list_window(5, 55)


def test_given_orders_when_written_as_commands_then_in_is_a_list_and_one_is_an_equality() -> None:
    assert unquote(commands.list_orders([5, 7])).endswith("filter[@orderId][]=5&filter[@orderId][]=7&start=-1")
    assert unquote(commands.list_order(5)).endswith("filter[=orderId]=5&start=-1")


def test_given_writes_when_written_as_commands_then_all_three_ids_are_named_and_no_reference() -> None:
    add, remove = Write(5, None, Owner(2, 10)), Write(5, Owner(31, 3), None)

    assert unquote(commands.write(add)) == (
        "crm.orderentity.add?fields[orderId]=5&fields[ownerTypeId]=2&fields[ownerId]=10"
    )
    assert unquote(commands.write(remove)) == (
        "crm.orderentity.deletebyfilter?fields[orderId]=5&fields[ownerTypeId]=31&fields[ownerId]=3"
    )
    assert "$" not in commands.write(add) + commands.write(remove)


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        ([], "an empty IN list"),
        ([0], "ids are positive"),
        ([-5], "ids are positive"),
        (list(range(1, 52)), "51 ids were asked for"),
    ],
)
def test_given_ids_the_portal_would_misread_when_written_as_a_command_then_it_is_refused(
    ids: list[int], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        commands.list_orders(ids)
    with pytest.raises(ValueError, match=why):
        commands.list_items(2, ids)


def test_given_a_removal_of_nothing_when_written_as_a_command_then_it_is_refused() -> None:
    with pytest.raises(ValueError, match="names the owner"):
        commands.write(Write(5, None, None))


def test_given_too_many_or_no_commands_when_batched_then_it_is_refused() -> None:
    for number_of in (0, 51):
        with pytest.raises(ValueError, match="1 to 50"):
            commands.batch_body({f"k{index}": "x" for index in range(number_of)}, NO_TOKEN)


def test_given_commands_when_batched_then_one_failure_does_not_hide_the_others() -> None:
    assert json.loads(commands.batch_body({"a": "x"}, NO_TOKEN)) == {"halt": 0, "cmd": {"a": "x"}}
    assert json.loads(commands.batch_body({"a": "x"}, SecretStr("t")))["auth"] == "t"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("shop.example.com", "crm.example.com", True),
        ("example.com", "www.example.com", True),
        ("a.b.example.com.", "EXAMPLE.com", True),
        ("shop.example.co.uk", "crm.example.co.uk", True),
        ("shop.co.uk", "crm.co.uk", False),
        ("shop.com.br", "crm.com.br", False),
        ("example.com", "example.org", False),
        ("example.com", "evilexample.com", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("192.168.0.1", "10.168.0.1", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("portal", "other", False),
    ],
)
def test_given_two_hosts_then_only_those_of_one_registrable_domain_are_one_owners(
    one: str, other: str, same: bool
) -> None:
    assert same_domain(one, other) is same


def test_given_a_host_then_only_portals_at_the_vendors_own_domains_are_the_vendors() -> None:
    assert is_of_vendor("shop.bitrix24.com")
    assert is_of_vendor("shop.bitrix24.com.br")
    assert not is_of_vendor("shop.bitrix24.com.evil.example")
    assert not is_of_vendor("shopbitrix24.com")
    assert not is_of_vendor("shop.bitrix24.site")
