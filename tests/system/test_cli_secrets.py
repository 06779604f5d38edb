"""Commands that cannot read the secrets of the links, as only root can read those of a service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncd.cli.commands import reference
from syncd.cli.options import STATE_ONLY
from tests.system.shop import DEAL, Shop, call, open_shop

NEEDS = "Error: The configuration syncd.toml has 2 problems."
CONFIG = """
[state]
url = "sqlite:///syncd.db"
[links.shop]
[links.shop.portal]
[links.shop.table]
name = "bindings"
columns = { order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A link with an order on hold; from then on its configuration holds no secret."""
    with open_shop(tmp_path_factory.mktemp("shop"), {1: 11, 2: 12}, orders=range(1, 100)) as made:
        made.create_table([(1, 11), (2, 12)])
        made.call("reconcile").check(0)
        made.portal.bind(2, DEAL, 77)
        made.sql("UPDATE bindings SET deal_id = 99 WHERE order_id = 2")
        made.call("reconcile").check(3)
        (made.directory / "syncd.toml").write_text(CONFIG)
        yield made


WITH_STATE_ONLY = [
    "status", "status --json", "status --check", "runs", "runs --json", "show 2", "history 2", "holds", "holds --csv",
    "resolve 2 --keep crm", "trigger", "pause", "resume", "db current", "db check", "db upgrade",
]  # fmt: skip
ENTRIES = [entry for _heading, section in reference.entries() for entry in section]


@pytest.mark.parametrize("command", WITH_STATE_ONLY)
def test_given_no_secrets_then_a_command_that_needs_only_the_state_database_works(shop: Shop, command: str) -> None:
    ran = call(*command.split(), directory=shop.directory)

    assert ran.check(3 if "--check" in command else 0).out


def test_given_a_command_then_its_help_says_whether_it_needs_only_the_state_database() -> None:
    said = {entry.name.removeprefix("syncd ") for entry in ENTRIES if STATE_ONLY in (entry.command.help or "")}
    ours = {command.split()[0] for command in WITH_STATE_ONLY}

    assert said | {"db"} == ours


def test_given_no_secrets_then_the_status_still_names_the_portal(shop: Shop) -> None:
    (link,) = call("status", "--json", directory=shop.directory).json

    assert link["portal"]["address"] == shop.server.webhook_url.split("/")[2]


@pytest.mark.parametrize("command", ["plan", "reconcile", "apply 1", "undo 1", "rebase", "check", "config show"])
def test_given_no_secrets_then_a_command_that_needs_them_names_each_one(shop: Shop, command: str) -> None:
    ran = call(*command.split(), directory=shop.directory).check(78)

    assert ran.err.startswith(NEEDS)
    assert "links.shop.portal: needs a webhook (or webhook_file)" in ran.err
    assert "links.shop.table: needs url or url_file" in ran.err
    assert ("links.shop.table.name" in ran.out) == (command == "config show")
