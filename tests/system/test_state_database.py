"""A state database that fails, as the operator sees it: what the program says, its exit code, and what it leaves.

Each test begins with a link whose sides differ by one order each. Whatever is wrong with the state, neither side may be
written then; and once it is right again, the next run brings both into step.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from syncd.state.migrate import scripts_folder
from syncd.state.schema import REVISION
from tests.system.cable import cable
from tests.system.daemon_process import running
from tests.system.shop import DEAL, SECRET, Ran, Shop, open_shop
from tests.system.state_files import back_up, restore

REPOSITORY = Path(__file__).parents[2]
MANY = 400
"""Orders of a pass that takes several batches."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the state database is."""
    made = tmp_path / "state"
    made.mkdir()
    return made


@pytest.fixture
def state(folder: Path) -> Path:
    """The file of the state database."""
    return folder / "syncd.db"


@pytest.fixture
def shop(tmp_path: Path, state: Path) -> Iterator[Shop]:
    """A link in step until a moment ago: each side has one order since that the other does not know."""
    with open_shop(tmp_path, {1: 11, 2: 12}, orders=range(1, 100)) as made:
        made.create_table([(1, 11), (2, 12)])
        made.settings["first_sync"] = '"auto"'
        made.state_url = f"sqlite:///{state}"
        made.call("reconcile").check(0)
        made.portal.bind(3, DEAL, 13)
        made.sql("INSERT INTO bindings VALUES (4, 14)")
        yield made


@pytest.fixture
def new_shop(tmp_path: Path, state: Path) -> Iterator[Shop]:
    """A link that has never been looked at, of many orders that only the table knows."""
    with open_shop(tmp_path, orders=range(1, MANY + 1)) as made:
        made.create_table([(order, 7) for order in range(1, MANY + 1)])
        made.settings["first_sync"] = '"auto"'
        # What has no outcome yet when the database goes away is what was sent, where one batch at a time is under way.
        made.portal_settings["writers"] = "1"
        made.portal_settings["max_request_seconds"] = "2"  # recovery waits as long
        made.state_url = f"sqlite:///{state}"
        yield made


def refuses(ran: Ran, code: int, *said: str) -> None:
    """Expect an exit code and one error, in one sentence or a few, with one hint."""
    ran.check(code)
    errors = [line for line in ran.err.splitlines() if line.startswith("Error: ")]
    hints = [line for line in ran.err.splitlines() if line.startswith("Hint: ")]
    assert (len(errors), len(hints)) == (1, 1), ran.err
    for words in said:
        assert words in errors[0] + hints[0]


def is_untouched(shop: Shop) -> None:
    assert shop.crm() == {1: 11, 2: 12, 3: 13}
    assert shop.table() == {1: 11, 2: 12, 4: 14}


def complaint(shop: Shop) -> str:
    """What `db check` has to say against the state database."""
    ran = shop.call("db", "check").check(69)
    return ran.out + ran.err


def heals(shop: Shop) -> None:
    """Expect the next run to bring both sides into step, and the state database to be well."""
    shop.call("reconcile").check(0)
    assert shop.crm() == shop.table()
    assert "is sound" in shop.call("db", "check").check(0).out
    assert {run["state"] for run in shop.call("runs", "--json").json} <= {"applied", "partial", "failed", "planned"}


# ------------------------------------------------------------------- the file


def overwrite(state: Path, start: int, junk: bytes) -> None:
    content = bytearray(state.read_bytes())
    content[start : start + len(junk)] = junk
    state.write_bytes(content)


def damage_page_of(state: Path, table: str) -> None:
    """Overwrite the first page of a table, with everything in the file itself and nothing beside it."""
    with closing(sqlite3.connect(state)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = database.execute("PRAGMA page_size").fetchone()
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()
    overwrite(state, (page - 1) * size, b"\xff" * size)


FILE_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "not-a-database": (lambda state: state.write_text("links:\n" * 1000), "is not an SQLite database"),
    "header-lost": (lambda state: overwrite(state, 0, bytes(100)), "is not an SQLite database"),
    "page-of-runs-damaged": (lambda state: damage_page_of(state, "run"), "is damaged"),
}


@pytest.mark.parametrize(("spoil", "said"), FILE_FAULTS.values(), ids=FILE_FAULTS)
def test_given_a_file_that_cannot_be_read_then_nothing_is_written_until_a_backup_is_restored(
    shop: Shop, state: Path, spoil: Callable[[Path], object], said: str
) -> None:
    copy = back_up(state, state.with_name("backup.db"))
    spoil(state)

    refuses(shop.run("reconcile"), 69, said, "restore")
    for command in ("plan", "status", "runs"):
        refuses(shop.call(command), 69, said, "restore")
    assert said in shop.call("check").check(69).out
    assert said in complaint(shop)
    is_untouched(shop)

    restore(state, copy)
    heals(shop)


def test_given_damage_that_a_pass_meets_on_its_way_then_it_ends_and_neither_side_is_written(
    shop: Shop, state: Path
) -> None:
    copy = back_up(state, state.with_name("backup.db"))
    damage_page_of(state, "binding")

    refuses(shop.run("reconcile"), 69, "is damaged", "restore")
    is_untouched(shop)
    assert "is damaged" in complaint(shop)

    restore(state, copy)
    heals(shop)


def test_given_an_emptied_file_then_only_a_rebase_makes_it_anew_and_the_first_sync_asks_before_it_writes(
    shop: Shop, state: Path
) -> None:
    del shop.settings["first_sync"]
    state.write_bytes(b"")
    assert "has schema (none)" in shop.call("db", "current").check(0).out
    assert "no schema" in complaint(shop)

    refuses(shop.run("reconcile"), 69, "missing or empty", "syncd rebase shop")
    shop.call("rebase").check(0)
    refused = shop.run("reconcile", "--json").check(4)
    is_untouched(shop)
    shop.call("apply", str(refused.json[0]["run"])).check(0)
    assert shop.crm() == shop.table() == {1: 11, 2: 12, 3: 13, 4: 14}


# ---------------------------------------------------------------- permissions


OBEYING = (str(REPOSITORY / "tests" / "permissions.py"), *Shop.program)
"""The program as a user who is not root would start it."""


def test_given_a_file_this_user_may_not_write_then_it_can_be_looked_at_and_nothing_else(
    shop: Shop, state: Path
) -> None:
    shop.program = OBEYING
    state.chmod(0o400)
    refuses(shop.run("reconcile"), 69, "is read-only", "write access to the file, to those beside it (-wal, -shm)")
    is_untouched(shop)
    assert shop.run("status", "--json").check(0).json[0]["link"] == "shop"
    assert f"may not write {state}." in shop.run("db", "check").check(69).out

    state.chmod(0o600)
    said = shop.run("db", "check").out
    for file in state.parent.glob(f"{state.name}-*"):
        assert f"may not write {file}." in said
        file.chmod(0o600)
    heals(shop)


def test_given_a_folder_this_user_may_not_write_then_it_says_so(shop: Shop, folder: Path) -> None:
    shop.program = OBEYING
    folder.chmod(0o500)
    refuses(shop.run("reconcile"), 69, "is read-only", "and to their folder")
    is_untouched(shop)

    folder.chmod(0o700)
    heals(shop)


def test_given_a_folder_this_user_may_not_write_then_no_state_database_is_made_in_it(
    new_shop: Shop, folder: Path
) -> None:
    new_shop.program = OBEYING
    folder.chmod(0o500)
    refuses(new_shop.run("reconcile"), 69, "cannot be made", "write access to the folder")
    assert new_shop.crm() == {}

    folder.chmod(0o700)
    heals(new_shop)


# ------------------------------------------------------------------- the disk


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """The state's folder on a small disk of its own."""
    if os.getuid() != 0:
        pytest.skip("a disk that is small or read-only takes root to mount")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True, timeout=60)


def fill(disk: Path) -> None:
    """Leave no room on the disk."""
    room = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(room.f_bavail * room.f_frsize))


def make_room(disk: Path) -> None:
    (disk / "filler").unlink()


def at_first_add(shop: Shop, act: Callable[[], object]) -> None:
    """Let something happen when the first change is on its way: the journal has it, its outcome is unknown."""
    shop.at_first("crm.orderentity.add", act)


def test_given_no_room_for_a_state_database_then_nothing_is_begun(disk: Path, new_shop: Shop) -> None:
    fill(disk)
    refuses(new_shop.run("reconcile"), 69, "its disk is full", "Free some space")
    assert new_shop.crm() == {}

    make_room(disk)
    heals(new_shop)


def test_given_a_disk_that_became_full_then_every_command_says_so(disk: Path, shop: Shop) -> None:
    fill(disk)
    refuses(shop.run("reconcile"), 69, "its disk is full", "Free some space")
    for command in (["plan"], ["status"], ["trigger"], ["db", "check"]):
        refuses(shop.call(*command), 69, "its disk is full")
    is_untouched(shop)

    make_room(disk)
    heals(shop)


def test_given_a_disk_that_becomes_full_while_changes_are_sent_then_the_pass_ends_and_the_next_one_finds_them(
    disk: Path, new_shop: Shop
) -> None:
    at_first_add(new_shop, lambda: fill(disk))
    refuses(new_shop.run("reconcile"), 69, "its disk is full", "syncd continues where it stopped")
    sent = len(new_shop.crm())
    assert 0 < sent < MANY
    assert f"{sent} writes have no outcome yet" in new_shop.call("db", "check").check(0).out

    refuses(new_shop.call("reconcile"), 69, "its disk is full")
    assert len(new_shop.crm()) == sent

    make_room(disk)
    heals(new_shop)
    assert _found_after_interruption(new_shop) == sent


def _found_after_interruption(shop: Shop) -> int:
    changes = [change for run in shop.call("runs", "--json").json for change in _changes(shop, run["run"])]
    assert len(changes) == len({change["order_id"] for change in changes})
    assert {change["outcome"] for change in changes} == {"applied"}
    return sum("after an interruption" in (change["error"] or "") for change in changes)


def _changes(shop: Shop, run: int) -> list[dict[str, Any]]:
    return [
        change for change in shop.call("show", str(run), "--json").json["changes"] if change["outcome"] != "planned"
    ]


def test_given_a_disk_that_is_mounted_read_only_then_it_says_so(disk: Path, shop: Shop) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True, timeout=60)
    refuses(shop.run("reconcile"), 69, "mounted read-only", "Mount it for writing again")
    refuses(shop.call("status"), 69, "mounted read-only")
    is_untouched(shop)

    subprocess.run(["mount", "-o", "remount,rw", disk], check=True, timeout=60)
    heals(shop)


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({largest}, {largest}))
from syncd.cli.main import main
sys.exit(main())
"""


def test_given_a_file_that_may_not_grow_then_the_pass_ends_and_the_next_one_goes_on(
    new_shop: Shop, state: Path
) -> None:
    new_shop.call("db", "upgrade").check(0)
    largest = state.stat().st_size
    new_shop.program = ("-c", LIMITED.format(largest=largest))
    refuses(new_shop.run("reconcile"), 69, "Nothing more was written")
    assert len(new_shop.crm()) < MANY
    heals(new_shop)


def test_given_a_daemon_whose_disk_becomes_full_then_it_lives_on_and_heals_by_itself(
    disk: Path, new_shop: Shop
) -> None:
    new_shop.settings["schedule"] = '"1s"'
    at_first_add(new_shop, lambda: fill(disk))
    with running(new_shop) as daemon:
        daemon.ready()
        daemon.status("1 failing")
        assert any("its disk is full" in event["error"] for event in daemon.events("run failed"))
        make_room(disk)
        daemon.status("1 in step")
        assert daemon.end() == 0
    assert new_shop.crm() == new_shop.table()


# ---------------------------------------------------------------- other people


IMPATIENT = """
import sys
from syncd.state import database
database.LOCK_SECONDS = 0.3
from syncd.cli.main import main
sys.exit(main())
"""


def test_given_another_program_that_keeps_it_locked_then_it_is_waited_for_and_then_given_up(
    shop: Shop, state: Path
) -> None:
    shop.program = ("-c", IMPATIENT)
    with closing(sqlite3.connect(state, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refuses(shop.run("reconcile"), 69, "kept locked by another program", "try again")
        refuses(shop.run("trigger"), 69, "kept locked by another program")
        is_untouched(shop)
        shop.run("status").check(0)
        assert "is sound" in shop.run("db", "check").check(0).out
    heals(shop)


# --------------------------------------------------------------------- upgrade


LATER = """
import os
import signal

import sqlalchemy as sa
from alembic import op

revision = "{later}"
down_revision = "{now}"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table("first", sa.Column("id", sa.Integer, primary_key=True), if_not_exists=True)
    {event}
    op.create_table("second", sa.Column("id", sa.Integer, primary_key=True), if_not_exists=True)
"""
LATER_REVISION = "9999"
KILL = "os.kill(os.getpid(), signal.SIGKILL)"


class Later:
    """A syncd of the future, which knows one schema more.

    Args:
        folder: Where it is installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(REPOSITORY / "syncd", folder / "syncd")
        shutil.copytree(scripts_folder(), folder / "migrations")
        schema = folder / "syncd" / "state" / "schema.py"
        text = schema.read_text()
        assert text.count(f'REVISION = "{REVISION}"') == 1
        schema.write_text(text.replace(f'REVISION = "{REVISION}"', f'REVISION = "{LATER_REVISION}"'))

    def run(self, shop: Shop, *args: str, event: str = "pass") -> Ran:
        """Run it; `event` is what happens in the middle of its upgrade."""
        script = LATER.format(later=LATER_REVISION, now=REVISION, event=event)
        (self.folder / "migrations" / "versions" / "later.py").write_text(script)
        return shop.run(*args, PYTHONPATH=str(self.folder))


@pytest.fixture
def later(tmp_path: Path) -> Later:
    return Later(tmp_path / "later")


def test_given_a_schema_of_a_newer_syncd_then_this_one_refuses_it_and_the_backup_works(
    shop: Shop, state: Path, later: Later
) -> None:
    assert later.run(shop, "db", "upgrade", "--json").check(0).json["backup"] == f"{state}.backup-{REVISION}"

    refuses(shop.run("reconcile"), 78, "made by a newer syncd", LATER_REVISION, "Nothing was changed", "backup")
    for command in (["plan"], ["status"], ["trigger"], ["db", "upgrade"], ["db", "check"]):
        refuses(shop.call(*command), 78, "made by a newer syncd")
    assert "made by a newer syncd" in shop.call("check").check(78).out
    assert f"has schema {LATER_REVISION}; this syncd works with {REVISION}" in shop.call("db", "current").check(0).out
    is_untouched(shop)
    later.run(shop, "db", "check").check(0)

    restore(state, state.with_name(f"{state.name}.backup-{REVISION}"))
    heals(shop)


def test_given_an_upgrade_killed_in_the_middle_then_the_old_schema_is_whole_and_the_backup_is_there(
    shop: Shop, state: Path, later: Later
) -> None:
    assert later.run(shop, "reconcile", event=KILL).code == -signal.SIGKILL
    is_untouched(shop)
    assert f"has schema {REVISION}" in shop.call("db", "current").check(0).out
    assert "is sound" in shop.call("db", "check").check(0).out
    with closing(sqlite3.connect(state)) as database:
        made = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    assert not made & {"first", "second"}

    backup = state.with_name(f"{state.name}.backup-{REVISION}")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    shop.state_url = f"sqlite:///{backup}"
    assert "is sound" in shop.call("db", "check").check(0).out

    shop.state_url = f"sqlite:///{state}"
    assert f"went from {REVISION} to schema {LATER_REVISION}" in later.run(shop, "db", "upgrade").check(0).out
    assert "is sound" in later.run(shop, "db", "check").check(0).out
    later.run(shop, "reconcile").check(0)
    assert shop.crm() == shop.table()
    assert not list(state.parent.glob("*.part"))


def test_given_a_server_whose_upgrade_is_killed_in_the_middle_then_it_can_be_run_again(
    shop: Shop, server_url: str, later: Later
) -> None:
    shop.state_url = server_url
    shop.call("db", "upgrade").check(0)
    assert later.run(shop, "reconcile", event=KILL).code == -signal.SIGKILL
    is_untouched(shop)
    assert f"has schema {REVISION}" in shop.call("db", "current").check(0).out
    assert "is sound" in shop.call("db", "check").check(0).out
    assert f"went from {REVISION} to schema {LATER_REVISION}" in later.run(shop, "db", "upgrade").check(0).out
    later.run(shop, "reconcile").check(0)
    assert shop.crm() == shop.table()


def test_given_a_first_schema_killed_in_the_middle_then_there_is_none_and_the_next_run_makes_it(
    new_shop: Shop, later: Later
) -> None:
    assert later.run(new_shop, "reconcile", event=KILL).code == -signal.SIGKILL
    assert "has schema (none)" in new_shop.call("db", "current").check(0).out
    assert "no schema" in complaint(new_shop)
    heals(new_shop)


TOO_MUCH = """op.execute(
        "CREATE TABLE large AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)"
        " SELECT randomblob(1000) AS junk FROM n"
    )"""


def test_given_no_room_for_what_an_upgrade_makes_then_the_schema_stays_as_it_is(
    disk: Path, shop: Shop, later: Later
) -> None:
    refuses(later.run(shop, "reconcile", event=TOO_MUCH), 69, "its disk is full", "Free some space")
    is_untouched(shop)
    assert f"has schema {REVISION}" in shop.call("db", "current").check(0).out
    assert [file.name for file in disk.glob("*backup*")] == [f"syncd.db.backup-{REVISION}"]
    heals(shop)


def test_given_no_room_for_the_backup_then_the_schema_stays_as_it_is(
    disk: Path, shop: Shop, state: Path, later: Later
) -> None:
    with closing(sqlite3.connect(state)) as keeps_it_open:  # as a daemon would: what every connection needs is there
        keeps_it_open.execute("SELECT * FROM lease").fetchall()
        fill(disk)
        refuses(
            later.run(shop, "db", "upgrade"), 69, "could not be made before the upgrade", "was not changed", "space"
        )
    assert not list(disk.glob("*backup*"))
    make_room(disk)
    assert f"has schema {REVISION}" in shop.call("db", "current").check(0).out
    heals(shop)


# ---------------------------------------------------------------------- server


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_given_a_server_that_does_not_answer_then_that_is_said_without_the_password(shop: Shop, kind: str) -> None:
    shop.state_url = f"{kind}://syncd:{SECRET}@127.0.0.1:9/state"
    refuses(shop.run("reconcile"), 69, "cannot be reached", "127.0.0.1:9/state")
    for command in (["status"], ["db", "check"], ["db", "upgrade"], ["trigger"]):
        refuses(shop.call(*command), 69, "cannot be reached")
    is_untouched(shop)


@pytest.mark.mysql
def test_given_a_server_that_refuses_the_password_then_it_ends_with_77_and_does_not_say_it(
    shop: Shop, mysql_url: str
) -> None:
    refused = sa.make_url(mysql_url).set(username="nobody_here", password=SECRET)
    shop.state_url = refused.render_as_string(hide_password=False)
    refuses(shop.run("reconcile"), 77, "refuses these credentials", "Check the user, password and grants")
    is_untouched(shop)


def test_given_a_server_that_is_away_then_nothing_is_begun(shop: Shop, server_url: str) -> None:
    with cable(server_url) as way:
        shop.state_url = way.url
        shop.call("db", "upgrade").check(0)
        way.cut()
        refuses(shop.run("reconcile"), 69, "cannot be reached", "Check that the server runs")
        for command in (["plan"], ["status"], ["trigger"], ["db", "check"], ["db", "upgrade"]):
            refuses(shop.call(*command), 69, "cannot be reached")
        is_untouched(shop)

        way.mend()
        heals(shop)


def test_given_a_server_that_goes_away_while_changes_are_sent_then_the_pass_ends_and_the_next_one_finds_them(
    new_shop: Shop, server_url: str
) -> None:
    with cable(server_url) as way:
        new_shop.state_url = way.url
        at_first_add(new_shop, way.cut)
        refuses(new_shop.run("reconcile"), 69, "the connection was lost", "syncd continues where it stopped")
        sent = len(new_shop.crm())
        assert 0 < sent < MANY
        refuses(new_shop.call("reconcile"), 69, "cannot be reached")

        way.mend()
        assert f"{sent} writes have no outcome yet" in new_shop.call("db", "check").check(0).out
        heals(new_shop)
        assert _found_after_interruption(new_shop) == sent


def test_given_a_server_that_goes_away_in_the_middle_of_a_transaction_then_nothing_of_it_is_kept(
    shop: Shop, server_url: str
) -> None:
    with cable(server_url) as way:
        shop.state_url = way.url
        shop.call("db", "upgrade").check(0)
        way.cut_at(b"INSERT INTO run")
        refuses(shop.run("reconcile"), 69, "the connection was lost", "Check that the server runs")
        is_untouched(shop)

        way.mend()
        assert shop.call("runs", "--json").check(0).json == []
        heals(shop)


@pytest.mark.parametrize("heard", [True, False], ids=["committed", "not-committed"])
def test_given_a_commit_whose_answer_is_lost_then_the_pass_ends_and_the_next_one_goes_on(
    new_shop: Shop, server_url: str, heard: bool
) -> None:
    with cable(server_url) as way:
        new_shop.state_url = way.url
        at_first_add(new_shop, lambda: way.cut_at(rb"COMMIT\x00?$", heard=heard))
        refuses(new_shop.run("reconcile"), 69, "the connection was lost", "syncd continues where it stopped")
        sent = len(new_shop.crm())
        assert 0 < sent < MANY

        way.mend()
        heals(new_shop)
        assert _found_after_interruption(new_shop) == (0 if heard else sent)
