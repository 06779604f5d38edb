"""A link in a folder of its own with one change to be made, and a pass over it that is watched."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tests.children import Child

WALKING = Path(__file__).with_name("walking.py")
CONFIGURATION = """
[state]
url = "sqlite:///{folder}/state.db"

[links.shop]
first_sync = "auto"

[links.shop.portal]
webhook = "{webhook}"

[links.shop.table]
url = "sqlite:///{folder}/shop.db"
name = "order_deals"
columns = {{ order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }}
"""


class Way(NamedTuple):
    """The way from `main()` to a request: calls, and the files they are in; the calls by name."""

    frames: int
    files: int
    calls: tuple[str, ...]


def ways(tree: Path, folder: Path) -> dict[str, Way]:
    """Make a pass with the code of a tree that binds one order anew.

    Args:
        tree: A checkout, this one or another. Its `syncd` is what runs.
        folder: An empty folder for the link.

    Returns:
        The ways to the first request ("request") and to the first write in the portal ("write").
    """
    portal = Child(_command(tree, "sandbox", "--rows", "10"), stdout=subprocess.PIPE, env=_environment(tree), limit=120)
    try:
        assert portal.stdout is not None
        config = _link(folder, portal.stdout.readline().strip())
        _run(tree, _command(tree, "--config", str(config), "reconcile"))
        with closing(sqlite3.connect(folder / "shop.db")) as table, table:
            table.execute("UPDATE order_deals SET deal_id = (SELECT max(deal_id) FROM order_deals) WHERE order_id = 1")
        printed = _run(tree, [sys.executable, str(WALKING), str(tree / "syncd"), str(config)])
    finally:
        portal.terminate()
        portal.wait(30)
    stacks = json.loads(printed)
    return {
        what: Way(len(steps), len({file for file, _ in steps}), tuple(f"{file}:{function}" for file, function in steps))
        for what, steps in stacks.items()
    }


def _link(folder: Path, webhook: str) -> Path:
    with closing(sqlite3.connect(folder / "shop.db")) as table, table:
        table.execute("CREATE TABLE order_deals (order_id INTEGER PRIMARY KEY, deal_id INTEGER)")
    config = folder / "syncd.toml"
    config.write_text(CONFIGURATION.format(webhook=webhook, folder=folder), encoding="utf-8")
    return config


def _command(tree: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "syncd.cli.main", *arguments]


def _environment(tree: Path) -> dict[str, str]:
    """The tree's own modules come first, before those that are installed; nothing beside the script is importable."""
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}


def _run(tree: Path, command: Sequence[str]) -> str:
    done = subprocess.run(command, env=_environment(tree), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
