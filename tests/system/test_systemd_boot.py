"""The unit under a real systemd: ready, status, reload, a freeze that the watchdog ends, stop; and its authorisation."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from syncd.errors import LeaseHeld
from syncd.sandbox import Application, SandboxPortal, SandboxServer
from tests.children import Child
from tests.system import systemd_namespace
from tests.system.shop import DEAL, SECRET, free_port, visit
from tests.system.systemd_namespace import Machine, booted

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(bool(systemd_namespace.missing()), reason=systemd_namespace.missing()),
]

CONFIG = """
[state]
url = "sqlite:////var/lib/syncd/syncd.db"
[links.shop]
schedule = "1s"
first_sync = "auto"
[links.shop.portal]
plan = "box"
{oauth}
[links.shop.table]
url = "sqlite:////var/lib/syncd/table.db"
name = "bindings"
columns = {{ order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }}
"""
WITH_WEBHOOK = CONFIG.format(oauth="")
OAUTH = """
[links.shop.portal.oauth]
portal = "{portal}"
client_id = "local.sandbox"
"""
CLIENT_SECRET = "secret-of-the-application"
SYNCD = "/opt/syncd/bin/syncd --config /etc/syncd/syncd.toml"
DROP_IN = """
[Service]
WatchdogSec=4s
RestartSec=2s
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
        booted(stage, WITH_WEBHOOK, {"links__shop__portal__webhook": server.webhook_url}, DROP_IN) as made,
    ):
        yield made


def test_given_the_unit_under_systemd_then_it_lives_as_a_service_should(machine: Machine) -> None:
    # It is ready, with its secret from a credential, and says how the links are.
    machine.wait("ActiveState", "active")
    status = machine.wait("StatusText", lambda text: "1 in step; last run" in text)
    assert status.startswith("running: 1 link, 1 in step; last run")
    first = machine.show("MainPID")

    # Root's commands have its secrets and are its user's; to others the secrets are closed.
    for command in ("status --check", "plan", "check"):
        ran = _when_free(machine, f"SUDO_USER=ada {SYNCD} {command}")
        assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
    assert machine.run("find /var/lib/syncd -not -user syncd").stdout == ""
    stranger = machine.run(f"setpriv --reuid=65534 --regid=syncd --clear-groups {SYNCD} plan")
    assert stranger.returncode == 78
    assert "Only root may read the credentials of syncd.service: run the command with sudo." in stranger.stderr

    # A bad file is refused, and the status says so; the service goes on.
    configuration = machine.root / "etc/syncd/syncd.toml"
    configuration.write_text(WITH_WEBHOOK + "\nnonsense = 1\n")
    machine.ctl("reload", "syncd.service")
    machine.wait("StatusText", lambda text: "reload failed, old configuration kept: " in text and "nonsense" in text)
    configuration.write_text(WITH_WEBHOOK.replace('"1s"', '"2s"'))
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

    # Stopped, it ends cleanly.
    machine.ctl("stop", "syncd.service")
    assert machine.show("ActiveState") == "inactive"
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")


def test_given_an_application_whose_secret_is_a_credential_then_root_authorises_it_and_the_service_goes_on(
    stage: Path,
) -> None:
    port = free_port()
    application = Application(client_secret=CLIENT_SECRET, redirect_uri=f"http://127.0.0.1:{port}/")
    portal = SandboxPortal({1: (DEAL, 1)}, code=SECRET, application=application)
    with SandboxServer.in_thread(portal) as server:
        config = CONFIG.format(oauth=OAUTH.format(portal=server.url))
        with booted(stage, config, {"links__shop__portal__oauth__client_secret": CLIENT_SECRET}, DROP_IN) as machine:
            machine.wait("StatusText", lambda text: "1 parked" in text)  # nobody has authorised it yet

            with machine.start(f"{SYNCD} auth --listen {port}") as command:
                assert command.stdout is not None
                _browse(visit(command.stdout.readline().strip()), command)
                out, err = command.communicate(timeout=120)

            assert command.returncode == 0, err
            assert "Authorised" in out
            assert CLIENT_SECRET not in out + err
            machine.wait("StatusText", lambda text: "1 in step" in text)  # it does not wait for its next try
            assert machine.run("find /var/lib/syncd -not -user syncd").stdout == ""


def _browse(address: str, command: Child) -> None:
    """Go to an address as soon as the command listens there."""
    while command.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=30).close()
        except urllib.error.URLError:
            continue
        return


def _when_free(machine: Machine, command: str) -> CompletedProcess[str]:
    """Run a command until no pass of the daemon, which makes one each second, has the link at that moment."""
    for _ in range(50):
        ran = machine.run(command)
        if ran.returncode != LeaseHeld.exit_code:
            return ran
    return ran
