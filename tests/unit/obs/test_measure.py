"""What is told of work that is measured, and by whom."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from syncd.config.model import PortalSettings, TableSettings
from syncd.core.model import Owner, Scope
from syncd.core.ports import Write
from syncd.errors import AuthError, LeaseLost, StateUnavailable, SyncdError, UnavailableError
from syncd.obs.clock import timed
from syncd.portal.factory import open_portal
from syncd.portal.hosts import Hosts
from syncd.sandbox import Fault, FaultRule, Faults, SandboxPortal
from syncd.state import migrate
from syncd.state.store import open_store
from syncd.table.keyed import open_table
from tests.fakes.clock import FakeClock, SetClock
from tests.fakes.sandbox_transport import SandboxTransport

pytestmark = pytest.mark.anyio


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, float]] = []
        self.transactions: list[tuple[str, str, float, bool]] = []

    def request(self, link: str, seconds: float) -> None:
        self.requests.append((link, seconds))

    def transaction(self, store: str, link: str, seconds: float, *, failed: bool) -> None:
        self.transactions.append((store, link, seconds, failed))


def _raises(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (StateUnavailable("The state database is locked."), True),
        (UnavailableError("It is out of reach."), True),
        (AuthError("It refuses the password."), True),
        (LeaseLost("Somebody else has it."), False),
        (SyncdError("A link that is not there."), False),
        (ZeroDivisionError("a bug"), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_given_work_that_raises_then_it_is_told_whether_the_database_failed(error: Exception, failed: bool) -> None:
    told = Told()
    with pytest.raises(type(error)):
        timed(told, SetClock(), ("state", ""), _raises(error))
    assert told.transactions == [("state", "", 0.0, failed)]


def test_given_work_that_takes_a_while_then_its_result_comes_back_and_its_time_is_told() -> None:
    told, clock = Told(), SetClock()

    def work() -> int:
        clock.time += 2.5
        return 7

    assert timed(told, clock, ("table", "shop"), work) == 7
    assert timed(told, clock, ("table", "shop"), work, lambda result: result == 7) == 7
    assert told.transactions == [("table", "shop", 2.5, False), ("table", "shop", 2.5, True)]


async def test_given_a_state_database_then_each_of_its_transactions_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    migrate.upgrade(url)
    told = Told()
    store = open_store(url, clock=SetClock(), meter=told)
    await store.find_link("shop")
    link = await store.link("shop", "ends")
    lease = await store.acquire(link, "host:1", 60, 0)
    read_and_written = len(told.transactions)
    with pytest.raises(LeaseLost):
        await store.set_parked(lease._replace(fence=99), "x")
    await store.aclose()
    (tmp_path / "state.db").unlink()
    assert read_and_written >= 3
    assert {(one[0], one[1], one[3]) for one in told.transactions} == {("state", "", False)}
    gone = open_store(url, clock=SetClock(), meter=told)
    with pytest.raises(StateUnavailable):
        await gone.find_link("shop")
    await gone.aclose()
    assert told.transactions[-1][3]


async def test_given_a_mapping_table_then_each_reading_and_writing_is_told_and_a_batch_that_was_not_sent_failed(
    tmp_path: Path,
) -> None:
    from contextlib import closing

    file = tmp_path / "shop.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE bindings (order_id INTEGER PRIMARY KEY, deal_id INTEGER)")
    columns = {"order_id": "order_id", "owner_type_id": 2, "owner_id": "deal_id"}
    settings = TableSettings.model_validate({"url": f"sqlite:///{file}", "name": "bindings", "columns": columns})
    told = Told()
    table = open_table(settings, scope=Scope(frozenset({2})), clock=SetClock(), link="shop", meter=told)
    async with table.snapshot(lambda *_: None):
        pass
    await table.read([1])
    await table.write([Write(1, None, Owner(2, 5))])
    await table.aclose()
    assert [(store, link, failed) for store, link, _, failed in told.transactions] == [("table", "shop", False)] * 3
    file.unlink()
    gone = open_table(settings, scope=Scope(frozenset({2})), clock=SetClock(), link="shop", meter=told)
    with pytest.raises(SyncdError):
        await gone.read([1])
    await gone.aclose()
    assert told.transactions[-1][3]


async def test_given_requests_to_a_portal_then_each_is_told_the_lost_ones_too(tmp_path: Path) -> None:
    clock, told = FakeClock(), Told()
    rules = [FaultRule(Fault.DROP, when="after"), FaultRule(Fault.DELAY, seconds=3, skip=1)]
    sandbox = SandboxPortal({5: (2, 7)}, clock=clock, faults=Faults(rules))
    hosts = Hosts(clock, runtime_dir=tmp_path, transport=SandboxTransport(sandbox))
    settings = PortalSettings(webhook=SecretStr(f"https://example.bitrix24.com{sandbox.webhook_path}"))
    portal = open_portal(settings, link="shop", hosts=hosts, meter=told)
    assert await portal.read([5]) == {5: Owner(2, 7)}
    await portal.aclose()
    assert [(link, round(seconds)) for link, seconds in told.requests] == [("shop", 0), ("shop", 3)]
