"""A portal that was renamed, from the command line: its agreed state goes on, or the way to say so is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.sandbox import Fault, FaultRule
from tests.system.shop import Shop, open_shop

BOUND = {order: 100 + order for order in range(1, 31)}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, BOUND, orders=range(1, 100)) as made:
        made.create_table(list(BOUND.items()))
        made.call("reconcile").check(0)
        yield made


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Shop]:
    """The portal at its new address."""
    (tmp_path / "new").mkdir()
    with open_shop(tmp_path / "new", BOUND, orders=range(1, 100)) as made:
        yield made


def test_given_the_old_address_redirects_then_a_removal_that_was_not_seen_yet_is_carried_out(
    shop: Shop, new: Shop
) -> None:
    location = f"{new.server.url}/rest/batch"
    shop.portal.faults.add(FaultRule(Fault.REDIRECT, method="*", location=location, times=None))
    shop.sql("DELETE FROM bindings WHERE order_id = 5")
    shop.webhook = new.server.webhook_url

    ran = shop.call("reconcile").check(0)

    assert "portal renamed" in ran.err
    assert 5 not in new.crm()
    assert "renamed" not in shop.call("reconcile").check(0).err


def test_given_an_old_address_that_does_not_redirect_then_the_person_is_asked_and_the_bindings_are_compared(
    shop: Shop, new: Shop
) -> None:
    shop.webhook = new.server.webhook_url
    refused = shop.call("plan").check(4)
    assert "syncd rebase shop --same-portal" in refused.out
    assert "--same-portal" in shop.call("check").check(4).out

    said = shop.call("rebase", "--same-portal").check(0)

    assert said.out.rstrip().endswith("syncd plan shop")
    assert new.portal.stats.writes == []
    shop.call("plan").check(0)


def test_given_another_portal_then_the_agreed_state_is_not_given_to_it(shop: Shop, new: Shop) -> None:
    for order in BOUND:
        new.portal.bind(order, 2, 999)
    shop.webhook = new.server.webhook_url

    ran = shop.call("rebase", "--same-portal", "--json").check(4)

    assert ran.json["state"] == "refused"
    assert ran.json["guards"][0]["name"] == "fingerprint"
    assert "does not look like the same portal" in str(ran.json)
    shop.call("plan").check(4)


def test_given_nothing_changed_then_there_is_nothing_to_say(shop: Shop) -> None:
    assert "nothing changed" in shop.call("rebase", "--same-portal").check(64).err
