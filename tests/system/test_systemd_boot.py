"""The unit under a real systemd: ready, status, reload, a freeze that the watchdog ends, stop."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd.sandbox import SandboxPortal, SandboxServer
from tests.system import systemd_namespace
from tests.system.shop import DEAL, SECRET
from tests.system.systemd_namespace import Machine, booted

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(bool(systemd_namespace.missing()), reason=systemd_namespace.missing()),
]

CONFIG = """
[links.shop]
schedule = "1s"
first_sync = "auto"
[links.shop.portal]
plan = "box"
[links.shop.table]
url = "sqlite:////var/lib/syncd/table.db"
name = "bindings"
columns = { order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }
"""
DROP_IN = """
[Service]
WatchdogSec=4s
RestartSec=2s
LoadCredential=links__shop__portal__webhook:/etc/syncd/credentials/shop-webhook
"""


@pytest.fixture
def stage() -> Iterator[Path]:
    """A directory that systemd's fresh /tmp does not hide."""
    made = Path(tempfile.mkdtemp(prefix="syncd-systemd-", dir="/var/tmp"))
    made.chmod(0o755)
    with closing(sqlite3.connect(made / "table.db")) as connection, connection:
        connection.execute("CREATE TABLE bindings (order_id INTEGER PRIMARY KEY, deal_id INTEGER)")
    yield made
    shutil.rmtree(made)


@pytest.fixture
def machine(stage: Path) -> Iterator[Machine]:
    portal = SandboxPortal({order: (DEAL, order) for order in range(1, 6)}, code=SECRET)
    with (
        SandboxServer.in_thread(portal) as server,
        booted(stage, CONFIG, {"shop-webhook": server.webhook_url}, DROP_IN) as made,
    ):
        yield made


def test_given_the_unit_under_systemd_then_it_lives_as_a_service_should(machine: Machine):
    # It is ready, with its secret from a credential, and says how the links are.
    machine.wait("ActiveState", "active")
    status = machine.wait("StatusText", lambda text: "1 in step; last run" in text)
    assert status.startswith("running: 1 link, 1 in step; last run")
    first = machine.show("MainPID")

    # A bad file is refused, and the status says so; the service goes on.
    configuration = Path(f"/proc/{machine.pid}/root/etc/syncd/syncd.toml")
    configuration.write_text(CONFIG + "\nnonsense = 1\n")
    machine.ctl("reload", "syncd.service")
    machine.wait("StatusText", lambda text: "reload failed, old configuration kept: " in text and "nonsense" in text)
    configuration.write_text(CONFIG.replace('"1s"', '"2s"'))
    machine.ctl("reload", "syncd.service")
    machine.wait("StatusText", lambda text: "reload failed" not in text)
    assert (machine.show("ActiveState"), machine.show("MainPID")) == ("active", first)

    # Frozen, it is ended by the watchdog, started again, and goes on where it was.
    machine.ctl("kill", "--signal=STOP", "--kill-who=main", "syncd.service")
    machine.wait("Result", "watchdog")
    machine.wait("NRestarts", "1")
    machine.wait("ActiveState", "active")
    machine.wait("StatusText", lambda text: "1 in step; last run" in text)
    assert machine.show("MainPID") != first

    # It stops when told, cleanly.
    machine.ctl("stop", "syncd.service")
    assert machine.show("ActiveState") == "inactive"
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")
