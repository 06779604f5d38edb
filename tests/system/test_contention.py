"""Two daemons and ten commands want one link at once: its passes never overlap, and a killed holder is replaced."""

from __future__ import annotations

import itertools
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from syncd.sandbox import SandboxPortal, SandboxServer
from syncd.sandbox.calls import Wait
from syncd.sandbox.portal import Steps
from syncd.sandbox.requests import SandboxRequest
from tests.system import daemon_process
from tests.system.daemon_process import RunningDaemon
from tests.system.shop import SECRET, Ran, Shop

COMMANDS = 10
PATIENCE = 120.0
"""Seconds after which what should have happened has not: twelve processes start at once, on a busy machine too."""
TURNED_AWAY = 5
"""How many commands have to be turned away before the portal answers the holder of the lease."""


until = partial(daemon_process.until, patience=PATIENCE)


class StallingPortal(SandboxPortal):
    """A portal that knows each process by a webhook of its own, notes whose request comes when, and may keep silent."""

    def __init__(self) -> None:
        super().__init__({order: (2, order) for order in range(1, 11)}, orders=range(1, 1000), code=SECRET)
        self.answers = threading.Event()
        self.requests: list[tuple[float, str]] = []
        self.held_up: list[str] = []

    def exchange(self, request: SandboxRequest) -> Steps:
        """Note the request, and hold it for as long as the portal keeps silent."""
        process = request.path.removeprefix(f"/rest/1/{SECRET}-").partition("/")[0]
        self.requests.append((time.time(), process))
        request.path = request.path.replace(f"{SECRET}-{process}", SECRET)
        self.held_up.append(process)
        while not self.answers.is_set():
            yield Wait(0.01)
        self.held_up.remove(process)
        return (yield from super().exchange(request))


@dataclass
class Command:
    """One `syncd reconcile`."""

    process: subprocess.Popen[str]
    name: str
    ran: Ran | None = None

    def over(self) -> Command | None:
        """Return itself once it has ended, decently."""
        if self.ran is None and self.process.poll() is not None:
            self.ran = Ran(self.process.returncode, *self.process.communicate())
            self.ran.check(self.process.returncode)
        return self if self.ran else None

    def turned_away_by(self) -> str:
        """Return the holder of the lease that its message names."""
        assert self.ran is not None
        said = " ".join(self.ran.check(75).err.split())
        told = re.search(r"Link shop is being worked on by (\S+:\d+) since .* Nothing was done\.", said)
        assert told is not None, said
        return told[1]


class Crowd:
    """The processes that want the link.

    Args:
        shop: The link.
        portal: Its portal.
        stack: Ends them.
    """

    def __init__(self, shop: Shop, portal: StallingPortal, stack: ExitStack) -> None:
        self.shop = shop
        self.portal = portal
        self.daemons: dict[str, RunningDaemon] = {}
        self.commands: list[Command] = []
        self._stack = stack
        self._state = sa.create_engine(shop.state_url, poolclass=sa.NullPool)
        shop.configure()

    def start_daemon(self) -> None:
        name = f"daemon{len(self.daemons)}"
        config = self.shop.directory / "syncd.toml"
        daemon = RunningDaemon(self.shop.directory, config, name, **self._environ(name))
        self.daemons[name] = self._stack.enter_context(daemon).ready()

    def start_command(self) -> Command:
        name = f"command{len(self.commands)}"
        process = self.shop.start("--log-level", "error", "reconcile", "--json", **self._environ(name))
        self.commands.append(Command(self._stack.enter_context(process), name))
        return self.commands[-1]

    def _environ(self, process: str) -> dict[str, str]:
        webhook = self.shop.server.webhook_url.replace(SECRET, f"{SECRET}-{process}")
        # Longer than the test lasts: the lease is taken over only on proof that its holder is dead.
        return {"SYNCD_LINKS__SHOP__PORTAL__WEBHOOK": webhook, "SYNCD_STATE__LEASE_TTL": "10m"}

    def over(self) -> list[Command]:
        """Return the commands that have ended."""
        return [command for command in self.commands if command.over()]

    def everybody(self) -> set[str]:
        """Return what each process is called in a lease."""
        pids = [*(one.process.pid for one in self.daemons.values()), *(one.process.pid for one in self.commands)]
        return {f"{socket.gethostname()}:{pid}" for pid in pids}

    def holder(self) -> str:
        """Return who holds the lease, or nothing."""
        return str(self._rows("SELECT holder FROM lease")[0].holder)

    def runs(self) -> dict[int, Any]:
        """Return every run by its number."""
        return {row.id: row for row in self._rows("SELECT id, state, started_at FROM run")}

    def runs_of_requests(self) -> list[int]:
        """Return the run each of the portal's requests was made by, in the order in which they came."""
        mine: dict[str, list[int]] = {
            name: [event["run_id"] for event in daemon.events("run started")] for name, daemon in self.daemons.items()
        }
        mine |= {one.name: [one.ran.json[0]["run"]] for one in self.commands if one.ran and one.ran.code == 0}
        runs = self.runs()
        return [max(run for run in mine[process] if runs[run].started_at <= at) for at, process in self.portal.requests]

    def _rows(self, query: str) -> list[Any]:
        with self._state.connect() as connection:
            return list(connection.exec_driver_sql(query))


@pytest.fixture
def crowd(tmp_path: Path, database_url: str) -> Iterator[Crowd]:
    """A link, idle so far, whose table knows orders that the CRM lacks; its state on each kind of database."""
    portal = StallingPortal()
    with SandboxServer.in_thread(portal) as server, ExitStack() as stack:
        shop = Shop(tmp_path, portal, server, state_url=database_url)
        shop.create_table([(order, order) for order in range(1, 31)])
        shop.settings |= {"first_sync": '"auto"', "schedule": '"1s"'}
        shop.portal_settings["plan"] = '"box"'
        yield Crowd(shop, portal, stack)


def test_given_two_daemons_and_ten_commands_then_no_two_passes_overlap_and_a_killed_holder_is_replaced(
    crowd: Crowd,
) -> None:
    portal, shop = crowd.portal, crowd.shop
    for _ in range(2):
        crowd.start_daemon()
    for _ in range(COMMANDS):
        crowd.start_command()

    # The first process waits for the portal; the others name it.
    until(lambda: len(crowd.over()) >= TURNED_AWAY)
    holder = crowd.holder()
    assert {command.turned_away_by() for command in crowd.over()} == {holder}
    portal.answers.set()
    until(lambda: len(crowd.over()) == COMMANDS)
    assert {command.process.returncode for command in crowd.commands} <= {0, 75}
    assert {command.turned_away_by() for command in crowd.commands if command.process.returncode} <= crowd.everybody()
    until(lambda: shop.crm() == shop.table())

    # A daemon is killed while it holds the lease, which does not expire: the other one takes it over all the same.
    portal.answers.clear()
    killed = crowd.daemons[until(lambda: portal.held_up)[0]]
    holder = crowd.holder()
    assert until(crowd.start_command().over).turned_away_by() == holder
    shop.sql("INSERT INTO bindings VALUES (100, 7)")
    killed.end(signal.SIGKILL)
    (survivor,) = [daemon for daemon in crowd.daemons.values() if daemon is not killed]
    until(lambda: crowd.holder().endswith(f":{survivor.process.pid}"))
    portal.answers.set()

    # Commands go on to be let in between the daemon's passes.
    until(lambda: until(crowd.start_command().over).process.returncode == 0)
    until(lambda: shop.crm() == shop.table())
    assert crowd.holder() in {"", f"{holder.rpartition(':')[0]}:{survivor.process.pid}"}
    assert survivor.end() == 0
    assert crowd.holder() == ""

    # In the order in which the portal met the requests, each pass is over before the next one begins.
    passes = [run for run, _ in itertools.groupby(crowd.runs_of_requests())]
    assert passes == sorted(set(passes))
    assert {run.id for run in crowd.runs().values() if run.state == "applied"} <= set(passes)
    assert max(Counter(written.order_id for written in portal.stats.writes).values()) == 1
