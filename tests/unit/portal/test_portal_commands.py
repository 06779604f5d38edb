"""Addresses that are parsed, and commands that are written: the only text that crosses over to the portal."""

from __future__ import annotations

import json
from urllib.parse import unquote

import pytest
from pydantic import SecretStr

from syncd.core.model import Owner
from syncd.core.ports import Write
from syncd.errors import ConfigError
from syncd.portal import commands
from syncd.portal.address import is_loopback, parse_origin, parse_webhook
from syncd.portal.commands import OPEN

NO_TOKEN = SecretStr("")


# --------------------------------------------------------------------- address


@pytest.mark.parametrize(
    "url",
    [
        "https://Example.bitrix24.com/rest/1/code123456",
        " https://example.bitrix24.com:443/rest/1/code123456/ ",
    ],
)
def test_given_a_webhook_when_parsed_then_its_parts_are_normal(url: str) -> None:
    webhook = parse_webhook(url)

    assert (webhook.origin, webhook.host) == ("https://example.bitrix24.com", "example.bitrix24.com")
    assert webhook.path == "/rest/1/code123456/"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://example.com/rest/topsecret/", "lacks the user id or the code"),
        ("https://example.com/rest/", "lacks the user id and the code"),
        ("https://example.com/rest/1/topsecret/profile.json", "URL"),
        ("https://example.com/rest/1/topsecret/profile/x", "not that of an inbound webhook"),
        ("https://example.com/", "not that of an inbound webhook"),
        ("https://example.com/rest/1/topsecret/?a=b", "not that of an inbound webhook"),
        ("http://example.com/rest/1/topsecret/", "https://"),
        ("https://me:topsecret@example.com/rest/1/x/", "user name"),
        ("ftp://example.com/rest/1/topsecret/", "https://"),
        ("topsecret", "web address"),
        ("https://[topsecret", "web address"),
        ("", "web address"),
    ],
)
def test_given_what_is_no_webhook_when_parsed_then_the_sentence_says_why_and_never_repeats_it(
    url: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_webhook(url)

    assert "topsecret" not in f"{caught.value!r}{caught.value.hint}"
    assert "/rest/USER/CODE/" in caught.value.hint


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:1"])
def test_given_this_machine_when_parsed_then_plain_http_will_do(origin: str) -> None:
    assert parse_webhook(f"{origin}/rest/1/code123456/").origin == origin
    assert is_loopback(origin)


def test_given_a_portal_when_parsed_then_the_scheme_may_be_left_out() -> None:
    assert parse_origin("Example.bitrix24.com") == "https://example.bitrix24.com"
    with pytest.raises(ConfigError):
        parse_origin("http://example.com")


# -------------------------------------------------------------------- commands


def test_given_windows_when_written_as_commands_then_keys_are_camel_case_and_encoded() -> None:
    assert unquote(commands.list_window(5, 55)) == (
        "crm.orderentity.list?order[orderId]=asc&filter[>orderId]=5&filter[<=orderId]=55&start=-1"
    )
    assert unquote(commands.list_window(5, OPEN, count=True, descending=True)) == (
        "crm.orderentity.list?order[orderId]=desc&filter[>orderId]=5&start=0"
    )
    assert "[" not in commands.list_window(5, 55)


def test_given_orders_when_written_as_commands_then_in_is_a_list_and_one_is_an_equality() -> None:
    assert unquote(commands.list_orders([5, 7])).endswith("filter[@orderId][]=5&filter[@orderId][]=7&start=-1")
    assert unquote(commands.list_order(5)).endswith("filter[orderId]=5&start=-1")


def test_given_writes_when_written_as_commands_then_all_three_ids_are_named_and_no_reference() -> None:
    add, remove = Write(5, None, Owner(2, 10)), Write(5, Owner(31, 3), None)

    assert unquote(commands.write(add)) == (
        "crm.orderentity.add?fields[orderId]=5&fields[ownerTypeId]=2&fields[ownerId]=10"
    )
    assert unquote(commands.write(remove)) == (
        "crm.orderentity.deletebyfilter?fields[orderId]=5&fields[ownerTypeId]=31&fields[ownerId]=3"
    )
    assert "$" not in commands.write(add) + commands.write(remove)


@pytest.mark.parametrize("ids", [[], [0], [-5], list(range(1, 52))])
def test_given_ids_the_portal_would_misread_when_written_as_a_command_then_it_is_refused(ids: list[int]) -> None:
    with pytest.raises(ValueError, match=r"."):
        commands.list_orders(ids)
    with pytest.raises(ValueError, match=r"."):
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
