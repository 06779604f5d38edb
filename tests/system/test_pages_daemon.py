"""The status page of a real daemon: what it shows is so, and the commands it names do what they say."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.daemon_process import fetch, running, until
from tests.system.shop import SECRET, Shop, free_port, open_shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A link in step but for order 2, which both sides have changed."""
    with open_shop(tmp_path, {1: 11, 2: 12, 3: 13}, orders=range(1, 100)) as made:
        made.create_table([(1, 11), (2, 12), (3, 13)])
        made.settings |= {"first_sync": '"auto"', "schedule": '"1d"'}
        made.run("reconcile").check(0)
        made.portal.bind(2, 2, 21)
        made.sql("UPDATE bindings SET deal_id = 22 WHERE order_id = 2")
        yield made


def _text(port: int, path: str) -> str:
    status, page = fetch(port, path)
    assert status == 200, page
    assert SECRET not in page
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_a_hold_is_shown_with_the_command_that_decides_it_and_gone_once_that_was_run(shop: Shop) -> None:
    port = free_port()
    shop.more_links = f'[web]\nlisten = "127.0.0.1:{port}"'
    with running(shop) as daemon:
        daemon.ready()
        shop.run("trigger", "shop").check(0)
        page = until(lambda: "order is held" in (found := _text(port, "/")) and found)
        assert "1 link: 1 held." in page
        held = until(lambda: "Headsets for" in (found := _text(port, "/holds")) and found)
        assert re.search("CRM deal 21 Headsets for .* Table deal 22 .* Agreed deal 12 ", held)
        command = re.search(r"syncd (resolve shop 2 --keep crm)", held)
        assert command is not None
        shop.run(*command[1].split()).check(0)
        assert "Decided: keep what the CRM says" in until(
            lambda: "Decided" in (found := _text(port, "/holds")) and found
        )
        shop.run("trigger", "shop").check(0)
        until(lambda: "No order is held." in _text(port, "/holds"))
        order = _text(port, "/links/shop/orders/2")
        assert re.search(r"It has been bound to deal 21 \(Headsets for .*\) on both sides since run", order)
        assert "Moved in the table" in order
        assert daemon.end() == 0
    assert shop.table() == {1: 11, 2: 21, 3: 13}


def test_a_refused_plan_is_shown_with_its_numbers_and_the_command_that_applies_it(shop: Shop) -> None:
    port = free_port()
    shop.portal.bind(2, 2, 12)
    shop.sql("UPDATE bindings SET deal_id = 12 WHERE order_id = 2")
    shop.sql("DELETE FROM bindings")
    shop.more_links = f'[web]\nlisten = "127.0.0.1:{port}"'
    with running(shop) as daemon:
        daemon.ready()
        shop.run("trigger", "shop").check(0)
        page = until(lambda: "refused" in (found := _text(port, "/links/shop")) and found)
        assert "The table reads as empty, while 3 bindings are agreed." in page
        command = re.search(r"syncd (apply \d+)", page)
        assert command is not None
        shop.run(*command[1].split()).check(0)
        assert shop.crm() == {}
        run = command[1].split()[1]
        assert "It was applied by run" in until(
            lambda: "It was applied" in (found := _text(port, f"/runs/{run}")) and found
        )
