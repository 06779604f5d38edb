"""The state and a mapping table behind a pooler by transaction (PgBouncer)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from syncd.errors import LeaseHeld
from syncd.state import migrate
from syncd.state.store import open_store
from tests.databases import execute
from tests.fakes.clock import SetClock
from tests.system.daemon_process import running, until
from tests.system.pooler import pooling
from tests.system.shop import DEAL, Shop, open_shop

pytestmark = pytest.mark.postgres
NOW = 1_800_000_000.0


@pytest.fixture
def pooled_url(postgres_url: str) -> Iterator[str]:
    with pooling(postgres_url) as url:
        yield url


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, {order: 10 + order for order in range(1, 31)}, orders=range(1, 100)) as made:
        made.create_table([(order, 10 + order) for order in range(1, 31)])
        made.settings |= {"first_sync": '"auto"', "schedule": '"1s"'}
        yield made


def test_given_a_state_behind_a_pooler_then_the_daemon_makes_its_passes_one_by_one(shop: Shop, pooled_url: str) -> None:
    shop.state_url = pooled_url

    def table_has(order: int) -> bool:
        return shop.table().get(order) == 10 + order

    with running(shop) as daemon:
        for order in range(31, 36):
            shop.portal.bind(order, DEAL, 10 + order)
            until(partial(table_has, order))
        assert daemon.events("run failed") == []
        assert daemon.end() == 0


def test_given_a_state_behind_a_pooler_then_check_says_what_is_different(shop: Shop, pooled_url: str) -> None:
    shop.state_url = pooled_url
    shop.call("reconcile").check(0)
    said = " ".join(shop.call("check").check(0).out.split())
    assert "behind a connection pooler: a process that died is noticed when its lease expires, not at once" in said


def test_given_a_state_without_a_pooler_then_check_speaks_of_none(shop: Shop, postgres_url: str) -> None:
    shop.state_url = postgres_url
    shop.call("reconcile").check(0)
    assert "pooler" not in shop.call("check").check(0).out


def test_given_both_databases_behind_a_pooler_then_changes_go_both_ways(
    shop: Shop, pooled_url: str, postgres_url: str
) -> None:
    execute(postgres_url, "CREATE TABLE bindings (order_id bigint PRIMARY KEY, deal_id bigint)")
    shop.state_url = shop.table_url = pooled_url
    shop.call("reconcile").check(0)
    execute(postgres_url, "UPDATE bindings SET deal_id = 77 WHERE order_id = 7")
    shop.portal.bind(8, DEAL, 88)
    shop.call("reconcile").check(0)
    assert (shop.crm()[7], shop.crm()[8]) == (77, 88)


@pytest.mark.anyio
async def test_given_one_session_for_all_then_a_living_holder_is_not_taken_for_dead(postgres_url: str) -> None:
    with pooling(postgres_url, sessions=1) as url:
        migrate.upgrade(url)
        first, second = (open_store(url, clock=SetClock(NOW)) for _ in range(2))
        link = await first.link("shop", "ends")
        await first.acquire(link, "first", 60, NOW)
        with pytest.raises(LeaseHeld):
            await second.acquire(link, "second", 60, NOW + 30)
        assert (await second.acquire(link, "second", 60, NOW + 61)).fence == 2
        await first.aclose()
        await second.aclose()
