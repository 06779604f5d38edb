"""What a link's agreed state belongs to: what changes the fingerprint, and what does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from syncd.config.model import LinkSettings, changed_parts, fingerprint, fingerprint_parts
from tests.unit.config.conftest import Configuration

OAUTH = """
[links.shop.portal.oauth]
portal = "Example.Bitrix24.com"
client_id = "x"
client_secret = "hush"
"""
WEBHOOK = 'webhook = "https://example.bitrix24.com/rest/1/filecode/"'
URL = "postgresql://syncd:filepassword@db.example.com/shop"


@pytest.fixture
def link(configuration: Configuration) -> Callable[[], LinkSettings]:
    """Returns the link as configured when called."""
    return lambda: configuration.load().settings.links["shop"]


def test_a_fingerprint_is_64_hex_digits_and_the_same_each_time(link: Callable[[], LinkSettings]) -> None:
    assert fingerprint(link()) == fingerprint(link())
    assert len(bytes.fromhex(fingerprint(link()))) == 32


def test_a_fingerprint_does_not_change_from_one_release_to_the_next(link: Callable[[], LinkSettings]) -> None:
    """State databases hold it: if this fails, every link would have to be rebased."""
    assert fingerprint(link()) == "3a6cde6c23e310c546f394543885d55de3b0c442e3b0c442d4735e3a3973e022"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/rest/1/filecode/", "/rest/42/othercode/"),
        ("https://example.bitrix24.com/", "https://EXAMPLE.bitrix24.com:443/"),
        (URL, "postgresql+psycopg://other:word@DB.example.com:5432/shop?sslmode=require"),
        (
            "[links.shop.portal]",
            '[links.shop]\nschedule = "5m"\non_conflict = "crm"\nplan_ttl = "2h"\n[links.shop.portal]',
        ),
        ("[links.shop.portal]", '[links.shop]\ndirection = "crm-to-table"\nowner_types = [2, 2]\n[links.shop.portal]'),
        ("[links.shop.table]", '[links.shop.table]\ntouched = "t"\nwatch = "t"\nextra = { source = "x" }'),
        ('order_id = "order_id", owner_type_id = 2', 'owner_type_id = 2, order_id = "order_id"'),
    ],
)
def test_other_ways_to_the_same_ends_keep_it(
    configuration: Configuration, link: Callable[[], LinkSettings], old: str, new: str
) -> None:
    before = fingerprint(link())
    configuration.replace(old, new)
    assert fingerprint(link()) == before


def test_an_application_instead_of_the_webhook_keeps_it(
    configuration: Configuration, link: Callable[[], LinkSettings]
) -> None:
    before = fingerprint(link())
    configuration.without(WEBHOOK).more(OAUTH)
    assert fingerprint(link()) == before


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("example.bitrix24.com", "other.bitrix24.com", "portal"),
        ("db.example.com/shop", "db.example.com/other", "database"),
        ("crm.order_bindings", "crm.other_bindings", "table"),
        ("deal_id", "owner_id", "columns"),
        ("owner_type_id = 2", 'owner_type_id = "2"', "columns"),
        ('order_id = "order_id"', 'order_number = "order_id"', "columns"),
        ("[links.shop.table]", "[links.shop.table]\nwhere = \"channel = 'web'\"", "where"),
        ("[links.shop.table]", '[links.shop.table]\ndeleted = "deleted_at"', "deleted"),
        ("[links.shop.portal]", "[links.shop]\nowner_types = [2, 31]\n[links.shop.portal]", "owner_types"),
        ("[links.shop.portal]", "[links.shop]\norders = [1, 99]\n[links.shop.portal]", "orders"),
    ],
)
def test_other_ends_or_another_scope_change_it_and_the_part_is_named(
    configuration: Configuration, link: Callable[[], LinkSettings], old: str, new: str, part: str
) -> None:
    before = fingerprint(link())
    configuration.replace(old, new)
    assert fingerprint(link()) != before
    assert changed_parts(before, link()) == (part,)


def test_nothing_has_changed_where_the_fingerprint_is_the_same(link: Callable[[], LinkSettings]) -> None:
    assert changed_parts(fingerprint(link()), link()) == ()


def test_everything_has_changed_from_a_fingerprint_of_another_make(link: Callable[[], LinkSettings]) -> None:
    assert changed_parts("", link()) == tuple(fingerprint_parts(link()))


def test_the_parts_are_readable_and_hold_no_secret(
    configuration: Configuration, link: Callable[[], LinkSettings]
) -> None:
    configuration.link("orders = [1, 99]").table('where = " channel = 1 "')
    assert fingerprint_parts(link()) == {
        "portal": "example.bitrix24.com",
        "database": "postgresql://db.example.com:5432/shop",
        "table": "crm.order_bindings",
        "columns": "order_id='order_id', owner_id='deal_id', owner_type_id=2",
        "where": "channel = 1",
        "deleted": "",
        "owner_types": "2",
        "orders": "1-99",
    }
