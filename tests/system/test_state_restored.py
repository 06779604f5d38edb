"""A state database that was lost, or put back from a backup: nothing is made anew, and nothing written, in silence."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from syncd.state.migrate import upgrade
from tests.databases import execute
from tests.system.daemon_process import running, until
from tests.system.shop import DEAL, Shop, open_shop
from tests.system.state_files import back_up, restore


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A link whose state is yesterday's: today's edit in the CRM was synced, and is unknown to it."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "remembered"))
    with open_shop(tmp_path, {order: 10 + order for order in range(1, 31)}, orders=range(1, 100)) as made:
        made.create_table([(order, 10 + order) for order in range(1, 31)])
        made.settings |= {"first_sync": '"auto"', "schedule": '"1s"'}
        yield made


def state(shop: Shop) -> Path:
    return shop.directory / "syncd.db"


def put_back(shop: Shop) -> None:
    """Yesterday's state, after a day on which order 3 was moved in the CRM, and synced, and just now moved back."""
    shop.call("reconcile").check(0)
    copy = back_up(state(shop), shop.directory / "backup.db")
    shop.portal.bind(3, DEAL, 99)
    shop.call("reconcile").check(0)
    shop.portal.bind(3, DEAL, 13)
    restore(state(shop), copy)


def test_given_yesterdays_state_put_back_then_the_daemon_undoes_nothing_of_today(shop: Shop) -> None:
    put_back(shop)
    with running(shop) as daemon:
        until(lambda: daemon.events("plan refused"))
        assert daemon.end() == 0
    assert (shop.crm()[3], shop.table()[3]) == (13, 99)


def test_given_yesterdays_state_put_back_then_a_command_is_refused_and_says_what_to_do(shop: Shop) -> None:
    put_back(shop)
    refused = shop.call("reconcile", "--json").check(4)
    (report,) = refused.json
    assert [(hit["name"], hit["actual"]) for hit in report["guards"]] == [("state_older", 2)]
    shown = shop.call("show", str(report["run"])).out
    assert "does not know what run 2 of this link changed" in " ".join(shown.split())
    assert f"syncd apply {report['run']}" in shop.call("reconcile").out
    checked = shop.call("check").check(4)
    assert "it is an older copy" in " ".join(checked.out.split())
    shop.call("apply", str(report["run"])).check(0)
    shop.call("check").check(0)


def test_given_yesterdays_state_put_back_then_a_rebase_begins_anew_and_undoes_nothing(shop: Shop) -> None:
    put_back(shop)
    shop.call("rebase").check(0)
    shop.call("reconcile").check(3)
    assert (shop.crm()[3], shop.table()[3]) == (13, 99)
    assert [hold["kind"] for hold in shop.call("holds", "--json").json] == ["create-create"]


def take_up_another_state(shop: Shop) -> str:
    """A copy of the configuration with a state database of its own; return how it is named."""
    shop.state_url = f"sqlite:///{shop.directory / 'other.db'}"
    return f"link shop with the state database {shop.state_url}"


def take_up_another_name(shop: Shop) -> str:
    """The link is renamed; return how it is named."""
    path = shop.configure()
    path.write_text(path.read_text().replace("[links.shop", "[links.shop2"))
    shop.configure = lambda: path  # type: ignore[method-assign]
    return "link shop2"


def take_up_the_first(shop: Shop) -> None:
    vars(shop).pop("configure", None)
    shop.state_url = ""


@pytest.mark.parametrize("take_up", [take_up_another_state, take_up_another_name])
def test_given_a_state_that_is_taken_up_again_after_another_then_an_edit_that_brings_back_an_old_value_stays(
    shop: Shop, take_up: Callable[[Shop], str]
) -> None:
    shop.call("reconcile").check(0)
    by = take_up(shop)
    shop.portal.bind(3, DEAL, 99)
    shop.call("reconcile").check(3)  # a first sync holds what differs
    link = by.split()[1]
    shop.call("resolve", link, "3", "--keep", "crm").check(0)
    shop.call("reconcile").check(0)
    take_up_the_first(shop)
    shop.portal.bind(3, DEAL, 13)

    refused = shop.call("reconcile", "--json").check(4)
    (report,) = refused.json
    assert [hit["name"] for hit in report["guards"]] == ["state_older"]
    why = f"{by} synced the same portal and table last (run "
    assert report["error"].startswith(why)
    shown = " ".join(shop.call("show", str(report["run"])).out.split())
    assert why in shown
    assert f"syncd apply {report['run']}" in shown
    checked = " ".join(shop.call("check").check(4).out.split())
    assert why in checked
    assert "syncd rebase shop" in checked
    assert (shop.crm()[3], shop.table()[3]) == (13, 99)


def lose_sqlite(shop: Shop) -> None:
    for file in shop.directory.glob("syncd.db*"):
        if file.suffix != ".mark":
            file.unlink()


def empty_sqlite(shop: Shop) -> None:
    lose_sqlite(shop)
    state(shop).touch(mode=0o600)


@pytest.mark.parametrize("lose", [lose_sqlite, empty_sqlite])
@pytest.mark.parametrize("command", [["reconcile"], ["plan"], ["run"], ["db", "upgrade"], ["check"]])
def test_given_a_state_that_was_lost_then_nothing_makes_it_anew_in_silence(
    shop: Shop, lose: Any, command: list[str]
) -> None:
    shop.call("reconcile").check(0)
    lose(shop)
    ran = shop.call(*command).check(69)
    said = " ".join((ran.out + ran.err).split())
    assert "is missing or empty, although shop used it" in said
    assert "syncd rebase shop" in said
    with closing(sqlite3.connect(state(shop))) as there:
        assert there.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_given_a_state_that_was_lost_then_a_rebase_makes_it_anew(shop: Shop) -> None:
    shop.call("reconcile").check(0)
    lose_sqlite(shop)
    shop.portal.unbind(5)
    shop.call("rebase").check(0)
    shop.call("reconcile").check(0)
    assert shop.crm()[5] == 15  # a first sync removes nothing


def test_given_a_rebase_of_a_link_that_is_not_there_then_nothing_is_made_anew(shop: Shop) -> None:
    shop.call("reconcile").check(0)
    lose_sqlite(shop)
    shop.call("rebase", "shpo").check(64)
    assert not state(shop).exists()


@pytest.mark.postgres
def test_given_a_database_of_a_server_that_was_emptied_then_it_is_not_made_anew_in_silence(
    shop: Shop, postgres_url: str
) -> None:
    shop.state_url = postgres_url
    shop.call("reconcile").check(0)
    assert len(list((shop.directory / "remembered").iterdir())) == 2
    execute(postgres_url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    assert "is missing or empty" in shop.call("reconcile").check(69).err
    shop.call("rebase").check(0)
    shop.call("reconcile").check(0)


@pytest.mark.mysql
def test_given_another_database_under_the_same_name_then_it_is_not_taken_for_the_links_own(
    shop: Shop, mysql_url: str
) -> None:
    shop.state_url = mysql_url
    shop.call("reconcile").check(0)
    name = mysql_url.rpartition("/")[2].partition("?")[0]
    execute(mysql_url, f"DROP DATABASE {name}", f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    upgrade(mysql_url)
    shop.portal.bind(31, DEAL, 41)
    (report,) = shop.call("reconcile", "--json").check(4).json
    assert [hit["name"] for hit in report["guards"]] == ["state_older"]


@pytest.mark.postgres
def test_given_no_place_to_note_anything_then_check_says_so_and_all_goes_on(
    shop: Shop, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.state_url = postgres_url
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(shop.directory / "no_home"))
    shop.call("reconcile").check(0)
    said = " ".join(shop.call("check").check(0).out.split())
    assert "an older one, restored or taken up again, could go unnoticed" in said
