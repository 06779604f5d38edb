"""Where the state database lies, and whose its files are: by whatever name and from wherever a command reaches it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from syncd.obs.clock import SystemClock
from syncd.state.store import open_store
from tests.system.shop import DEAL, Ran, Shop, open_shop, start

REPOSITORY = Path(__file__).parents[2]
NOBODY = 65534
AS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can run a command as somebody else"
)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A link in step but for one order, whose state has a relative path."""
    with open_shop(tmp_path, {1: 11, 2: 12}, orders=range(1, 100)) as made:
        made.create_table([(1, 11), (2, 12)])
        made.settings["first_sync"] = '"auto"'
        made.state_url = "sqlite:///syncd.db"
        made.call("reconcile").check(0)
        made.portal.bind(3, DEAL, 13)
        yield made


def run(*args: str, directory: Path, **environ: str) -> Ran:
    with start(*args, directory=directory, program=Shop.program, **environ) as process:
        out, err = process.communicate(timeout=60)
    return Ran(process.returncode, out, err)


def test_given_another_current_directory_then_a_relative_path_leads_to_the_same_state(
    shop: Shop, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    config = shop.configure()
    run("--config", str(config), "reconcile", directory=elsewhere).check(0)
    assert list(elsewhere.iterdir()) == []
    assert [one["run"] for one in shop.call("runs", "--json").json] == [2, 1]


@pytest.mark.parametrize("linked", ["the file", "its folder"])
@pytest.mark.anyio
async def test_given_a_symbolic_link_to_the_state_then_its_lease_is_the_same_one(
    shop: Shop, tmp_path: Path, linked: str
) -> None:
    config = shop.configure()
    (tmp_path / "links").mkdir()
    if linked == "the file":
        (tmp_path / "links" / "state.db").symlink_to(tmp_path / "syncd.db")
        other = tmp_path / "links" / "state.db"
    else:
        (tmp_path / "links" / "folder").symlink_to(tmp_path)
        other = tmp_path / "links" / "folder" / "syncd.db"
    store = open_store(f"sqlite:///{tmp_path / 'syncd.db'}", clock=SystemClock())
    link = await store.find_link("shop")
    assert link is not None
    await store.acquire(link, "the other program", 60, SystemClock().now())
    ran = run("--config", str(config), "reconcile", directory=tmp_path, SYNCD_STATE__URL=f"sqlite:///{other}")
    await store.aclose()
    assert "the other program" in ran.check(75).err
    assert 3 not in shop.table()


@pytest.fixture
def service() -> Iterator[Shop]:
    """A shop in a folder of the service's user. pytest's own folders are closed to other users."""
    # Alembic asks access(2) for the migrations, which knows no capability of another user.
    if closed := [folder for folder in (REPOSITORY, *REPOSITORY.parents) if not folder.stat().st_mode & 0o001]:
        pytest.skip(f"other users may not enter {closed[-1]}, where this checkout is")
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="syncd-service-"))
        stack.callback(shutil.rmtree, folder)
        made = stack.enter_context(open_shop(folder, {1: 11, 2: 12}, orders=range(1, 100)))
        made.create_table([(1, 11), (2, 12)])
        made.settings["first_sync"] = '"auto"'
        made.configure().chmod(0o644)
        for path in (folder, *folder.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        yield made


def as_service(shop: Shop, *args: str) -> Ran:
    """Run a command as the service's user, who may write nothing of others. It may read: Python may lie in root's home."""
    become = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    may = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    ran = subprocess.run(
        ["setpriv", *become, *may, sys.executable, *shop.program, "--config", "syncd.toml", *args],
        cwd=shop.directory,
        env=os.environ | {"HOME": str(shop.directory), "XDG_RUNTIME_DIR": "", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


@AS_ROOT
def test_given_a_new_state_made_by_root_then_the_owner_of_the_folder_works_with_it(service: Shop) -> None:
    service.call("reconcile").check(0)
    service.portal.bind(3, DEAL, 13)
    as_service(service, "reconcile").check(0)
    assert service.table() == {1: 11, 2: 12, 3: 13}


@AS_ROOT
def test_given_a_new_link_first_reached_by_root_then_the_owner_of_the_database_works_with_it(service: Shop) -> None:
    as_service(service, "db", "upgrade").check(0)
    service.call("reconcile").check(0)
    as_service(service, "reconcile").check(0)
    files = [path for path in service.directory.iterdir() if path.name.startswith("syncd.db")]
    assert {path.name for path in files} >= {"syncd.db", "syncd.db.shop.lock", "syncd.db.upgrade.lock"}
    assert {path.stat().st_uid for path in files} == {NOBODY}


@AS_ROOT
def test_given_a_lock_file_of_roots_then_it_is_said_whose_it_is(service: Shop) -> None:
    as_service(service, "reconcile").check(0)
    lock = service.directory / "syncd.db.shop.lock"
    os.chown(lock, 0, 0)
    ran = as_service(service, "reconcile").check(69)
    assert "syncd.db.shop.lock cannot be used: Permission denied" in ran.err
    assert "belongs to root" in ran.err
    service.call("reconcile").check(0)  # root itself mends it
    as_service(service, "reconcile").check(0)


@AS_ROOT
def test_given_a_lock_file_that_leads_elsewhere_then_root_gives_nothing_away(service: Shop) -> None:
    as_service(service, "db", "upgrade").check(0)
    secret = service.directory.parent / f"{service.directory.name}.secret"
    secret.touch(mode=0o600)
    try:
        (service.directory / "syncd.db.shop.lock").symlink_to(secret)
        service.call("reconcile").check(69)
        assert secret.stat().st_uid == 0
    finally:
        secret.unlink()
