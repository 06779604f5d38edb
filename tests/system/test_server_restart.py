"""A server that keeps the state and the mapping table, and is restarted, or away for a while, in the middle of a pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from tests.databases import execute
from tests.system.cable import cable
from tests.system.daemon_process import running, until
from tests.system.shop import Shop, open_shop

MANY = 120
"""Orders that each side lacks."""
WHILE_LISTING, WHILE_WRITING = "crm.orderentity.list", "crm.orderentity.add"


class Server(NamedTuple):
    """A database server: a fresh database on it, and the means to stop and start it."""

    url: str
    stop: Callable[[], object]
    start: Callable[[], object]

    def restart(self) -> None:
        self.stop()
        self.start()


@pytest.fixture
def postgres_of_ours(postgres_url: str, postgres_wheel: Any) -> Server:
    return Server(postgres_url, postgres_wheel.stop, postgres_wheel.start)


@pytest.fixture
def mysql_by_cable(mysql_url: str) -> Iterator[Server]:
    """A server that is not ours to stop; to its clients a cut cable looks the same."""
    with cable(mysql_url) as way:
        yield Server(way.url, way.cut, way.mend)


@pytest.fixture(
    params=[
        pytest.param("postgres_of_ours", id="postgres", marks=pytest.mark.postgres),
        pytest.param("mysql_by_cable", id="mysql", marks=pytest.mark.mysql),
    ]
)
def server(request: pytest.FixtureRequest) -> Server:
    made: Server = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def shop(tmp_path: Path, server: Server) -> Iterator[Shop]:
    """A link whose state and whose mapping table are on the server; either side knows orders the other does not."""
    crm = dict.fromkeys(range(1, MANY + 1), 7)
    with open_shop(tmp_path, crm, orders=range(1, 2 * MANY + 1)) as made:
        rows = ", ".join(f"({order}, 7)" for order in range(MANY + 1, 2 * MANY + 1))
        execute(
            server.url,
            "CREATE TABLE bindings (order_id integer PRIMARY KEY, deal_id integer)",
            f"INSERT INTO bindings VALUES {rows}",
        )
        made.state_url = made.table_url = server.url
        made.settings |= {"first_sync": '"auto"', "schedule": '"1s"'}
        made.portal_settings["max_request_seconds"] = "5"  # the next pass waits as long for batches that were under way
        # The portal then breaks the connection while no commit is under way: one whose answer is lost ends the pass,
        # see test_state_database.py.
        made.portal_settings["writers"] = "1"
        yield made


def is_in_step(shop: Shop) -> bool:
    engine = sa.create_engine(shop.table_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT order_id, deal_id FROM bindings")
        table = {row.order_id: row.deal_id for row in rows}
    return shop.crm() == table == dict.fromkeys(range(1, 2 * MANY + 1), 7)


@pytest.mark.parametrize("method", [WHILE_LISTING, WHILE_WRITING])
def test_given_a_restart_in_the_middle_of_a_pass_then_the_pass_goes_on(shop: Shop, server: Server, method: str) -> None:
    shop.at_first(method, server.restart)
    (report,) = shop.run("reconcile", "--json").check(0).json
    assert [change["outcome"] for change in report["changes"]] == ["applied"] * 2 * MANY
    assert is_in_step(shop)


def test_given_a_server_that_goes_away_in_mid_pass_then_the_daemon_goes_on_when_it_is_back(
    shop: Shop, server: Server
) -> None:
    shop.settings["schedule"] = '"1d"'
    shop.at_first(WHILE_WRITING, server.stop)
    with running(shop) as daemon:
        daemon.ready()
        daemon.status("1 failing")
        until(lambda: daemon.events("state database out of reach"))
        assert [event["logger"] for event in daemon.events("run failed")] == ["syncd.engine"]
        server.start()
        daemon.status("1 in step")
        assert daemon.end() == 0
    assert is_in_step(shop)
    lines = [line for line in daemon.log.splitlines() if '"logger": "syncd' not in line]
    assert lines == []
    changes = [change for run in shop.call("runs", "--json").json for change in _applied(shop, run["run"])]
    assert len(changes) == len(set(changes)) == 2 * MANY


def _applied(shop: Shop, run: int) -> list[int]:
    changes = shop.call("show", str(run), "--json").check(0).json["changes"]
    return [change["order_id"] for change in changes if change["outcome"] == "applied"]
