"""The sandbox, proved against clients nobody here wrote: they read and write it unmodified.

They live in an environment of their own; `make test-peers` makes it and runs this. Where node or npm is missing, b24jssdk is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from syncd.sandbox import SandboxPortal, SandboxServer, Version

pytestmark = pytest.mark.peers

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".venv-peers"
PYTHON = PEERS / "bin" / "python"
JSSDK = PEERS / "node_modules" / "@bitrix24" / "b24jssdk"
DRIVERS = Path(__file__).parent / "drivers"
ORDERS = 2_600


@pytest.fixture(autouse=True)
def peers_are_installed() -> None:
    if not PYTHON.exists():
        pytest.skip("the peers' environment is made by `make test-peers`")


@pytest.fixture(params=list(Version))
def portal(request: pytest.FixtureRequest) -> SandboxPortal:
    # One owner for each order: in the default order of the list, rows of one owner have no promised order.
    return SandboxPortal({order: (2, 100_000 + order) for order in range(1, ORDERS + 1)}, version=request.param)


def drive(script: str, *arguments: str, **environment: str) -> Any:
    interpreter = "node" if script.endswith(".mjs") else str(PYTHON)
    done = subprocess.run(
        [interpreter, str(DRIVERS / script), *arguments],
        env={"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def orders(rows: list[dict[str, int]]) -> list[int]:
    return sorted(row["orderId"] for row in rows)


def test_fast_bitrix24_reads_every_row_and_writes(portal: SandboxPortal) -> None:
    with SandboxServer.in_thread(portal) as server:
        seen = drive("fast_bitrix24_driver.py", server.webhook_url)
    assert orders(seen["listed"]) == list(range(1, ORDERS + 1))
    assert orders(seen["filtered"]) == [1, 2, 3]
    assert (seen["added"], seen["removed"]) == (120, 60)
    assert ("Call to a member function" if portal.version is Version.OLD else "order does not exist") in seen["refused"]
    assert {portal.bindings[order] for order in range(61, 121)} == {(2, 7000 + order) for order in range(61, 121)}
    assert not {*range(1, 61)} & portal.bindings.keys()


def test_b24pysdk_reads_every_row_and_writes_over_tls(portal: SandboxPortal, tmp_path: Path) -> None:
    with SandboxServer.in_thread(portal, tls=True) as server:
        bundle = tmp_path / "ca.pem"
        bundle.write_text(server.ca_pem)
        seen = drive(
            "b24pysdk_driver.py",
            f"127.0.0.1:{server.port}",
            f"{portal.user_id}/{portal.code}",
            REQUESTS_CA_BUNDLE=str(bundle),
        )
    assert seen["no_such_action"] == "22002"
    assert orders(seen["listed"]) == list(range(1, ORDERS + 1))
    assert seen["added"] == 120
    assert {key: str(code) for key, code in seen["failed"].items()} == {
        "bad": "0" if portal.version is Version.OLD else "200540400001"
    }
    assert seen["removed"] is True
    assert seen["refused"] == "201640400004"
    assert portal.bindings[2] == (2, 7002)
    assert 1 not in portal.bindings


@pytest.mark.skipif(
    not (JSSDK.exists() and shutil.which("node")),
    reason="`make test-peers` installs @bitrix24/b24jssdk where node and npm are",
)
def test_b24jssdk_reads_every_row_and_writes_over_tls(portal: SandboxPortal, tmp_path: Path) -> None:
    with SandboxServer.in_thread(portal, tls=True) as server:
        bundle = tmp_path / "ca.pem"
        bundle.write_text(server.ca_pem)
        seen = drive("b24jssdk_driver.mjs", server.webhook_url, NODE_EXTRA_CA_CERTS=str(bundle))
    assert [row["orderId"] for row in seen["listed"]] == list(range(1, ORDERS + 1))
    assert orders(seen["filtered"]) == [1, 2, 3]
    assert (seen["added"], seen["removed"]) == (120, 60)
    # It cannot read an error whose code is a number, as portals before October 2025 sent it.
    assert ("order does not exist" if portal.version is Version.NEW else "status code 400") in seen["refused"]
    assert {portal.bindings[order] for order in range(61, 121)} == {(2, 7000 + order) for order in range(61, 121)}
    assert not {*range(1, 61)} & portal.bindings.keys()
