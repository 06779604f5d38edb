"""A page in front of the portal, from the command line: what is not known is not claimed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.sandbox import Fault, FaultRule
from tests.system.shop import Shop, open_shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, {1: 11, 2: 12}, orders=range(1, 100)) as made:
        made.create_table([(1, 11), (2, 12)])
        made.call("reconcile").check(0)
        made.sql("INSERT INTO bindings VALUES (3, 13)")
        yield made


def page(**options: object) -> FaultRule:
    return FaultRule(Fault.STATUS, status=503, code="", body="html", **options)  # type: ignore[arg-type]


def test_given_a_write_that_was_executed_behind_a_503_page_that_stays_then_nobody_says_that_nothing_was_written(
    shop: Shop,
) -> None:
    shop.portal.faults.add(page(method="crm.orderentity.add", when="after"))

    def stays(method: str, *_: object) -> None:
        if method == "crm.orderentity.add":
            shop.portal.faults.add(page(times=None))

    shop.portal.before_call(stays)
    shop.portal_settings["max_request_seconds"] = "2"  # the second run waits as long

    ran = shop.call("reconcile", "--json").check(69)

    assert shop.crm()[3] == 13
    (change,) = ran.json[0]["changes"]
    assert change["outcome"] == "uncertain"
    assert "not sent" not in (change["error"] or "")
    assert "Nothing was written" not in ran.err
    assert "a web page with HTTP 503" in ran.err

    shop.portal.faults.clear()
    shop.call("reconcile").check(0)
    assert shop.crm()[3] == 13


def test_given_a_passing_503_page_around_a_write_then_it_is_executed_once(shop: Shop) -> None:
    shop.portal.faults.add(page(method="crm.orderentity.add", when="after"))

    shop.call("reconcile").check(0)

    assert [(one.order_id, one.after) for one in shop.portal.stats.writes] == [(3, (2, 13))]
