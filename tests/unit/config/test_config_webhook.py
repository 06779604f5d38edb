"""The URL of an inbound webhook: taken apart, or refused in words that never repeat it."""

from __future__ import annotations

import pytest

from syncd.config.urls import is_loopback, parse_webhook


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Example.bitrix24.com/rest/1/code123456", "https://example.bitrix24.com"),
        (" https://example.bitrix24.com:443/rest/1/code123456/ ", "https://example.bitrix24.com"),
        ("https://crm.example.com:8443/rest/1/code123456/", "https://crm.example.com:8443"),
    ],
)
def test_given_a_webhook_when_parsed_then_its_parts_are_normal(url: str, origin: str) -> None:
    webhook = parse_webhook(url)

    assert (webhook.origin, webhook.user) == (origin, "1")
    assert webhook.host == origin.removeprefix("https://")
    assert webhook.path == "/rest/1/code123456/"
    assert "code123456" not in repr(webhook)


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8080", "http://127.1.2.3", "http://localhost", "http://[::1]:1"])
def test_given_this_machine_when_parsed_then_plain_http_will_do(origin: str) -> None:
    assert parse_webhook(f"{origin}/rest/1/code123456/").origin == origin
    assert is_loopback(origin)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.bitrix24.com/rest/1/topsecret/", "must begin with https://"),
        ("http://127.evil.example/rest/1/topsecret/", "must begin with https://"),
        ("ftp://127.0.0.1/rest/1/topsecret/", "must begin with https://"),
        ("https://me:topsecret@example.com/rest/1/x/", "must not hold a user name"),
        ("https://example.com/rest/1/topsecret/profile.json", "ends with a method's name"),
        ("https://example.com/rest/1/topsecret/crm.orderentity.list", "ends with a method's name"),
        ("https://example.com/rest/topsecret/", "lacks the user's id or the code"),
        ("https://example.com/rest/x/topsecret/", "must be the URL of an inbound webhook"),
        ("https://example.com/rest/1/topsecret/profile/x", "must be the URL of an inbound webhook"),
        ("https://example.com/rest/1/topsecret/?x=1", "must be the URL of an inbound webhook"),
        ("https://example.com/", "must be the URL of an inbound webhook"),
        ("example.com/rest/1/topsecret/", "must be a web address"),
        ("https:///rest/1/topsecret/", "must be a web address"),
        ("https://example.com:port/rest/1/topsecret/", "must be a web address"),
        ("https://example.com/rest/1/top secret/", "must be a web address"),
        ("https://[topsecret", "must be a web address"),
        ("topsecret", "must be a web address"),
        ("", "must be a web address"),
    ],
)
def test_given_what_is_not_a_webhook_when_parsed_then_the_words_say_why_and_never_repeat_it(
    url: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_webhook(url)

    assert "topsecret" not in repr(caught.value)
