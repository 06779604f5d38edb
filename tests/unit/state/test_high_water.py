"""The high-water marks on disk: where they are, what is in them, and what becomes of one that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from syncd.core.records import KnownRun
from syncd.state.high_water import MarkFiles, mark_files

pytestmark = pytest.mark.anyio

RUN = KnownRun("an identity", 7, 1000.0, 1060.0, "shop")
SERVER = "postgresql://anna:s3cret@db.example/syncd"


def marks(folder: Path, url: str = SERVER) -> MarkFiles:
    return mark_files(url, {"STATE_DIRECTORY": str(folder)})


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    (tmp_path / "data").mkdir()
    return f"sqlite:///{tmp_path}/data/syncd.db"


async def test_given_a_run_on_ends_then_every_state_database_of_the_host_knows_it(tmp_path: Path, sqlite: str) -> None:
    await marks(tmp_path, sqlite).write_ends("ends", RUN)

    assert await marks(tmp_path).read_ends("ends") == RUN._replace(where=sqlite)
    assert await marks(tmp_path).read_ends("other ends") is None
    assert marks(tmp_path).links() == marks(tmp_path, sqlite).links() == {}


async def test_given_a_run_of_a_link_then_it_is_that_state_databases_own(tmp_path: Path, sqlite: str) -> None:
    await marks(tmp_path).write("shop", RUN)

    assert marks(tmp_path).links() == {"shop": RUN}
    assert await marks(tmp_path, sqlite).read("shop") is None


async def test_given_a_servers_state_database_then_a_mark_has_its_address_and_no_credentials(tmp_path: Path) -> None:
    await marks(tmp_path).write_ends("ends", RUN)

    (file,) = tmp_path.iterdir()
    assert "s3cret" not in file.read_text()
    assert "anna" not in file.read_text()
    known = await marks(tmp_path).read_ends("ends")
    assert known is not None
    assert known.where == "postgresql://db.example:5432/syncd"
    assert file.stat().st_mode & 0o777 == 0o600


async def test_given_a_mark_that_is_carried_over_then_it_keeps_its_address(tmp_path: Path, sqlite: str) -> None:
    known = RUN._replace(where="sqlite:////elsewhere.db")
    await marks(tmp_path, sqlite).write_ends("ends", known)

    assert await marks(tmp_path).read_ends("ends") == known


async def test_given_a_mark_that_is_forgotten_then_it_is_gone_for_every_state_database(
    tmp_path: Path, sqlite: str
) -> None:
    await marks(tmp_path, sqlite).write_ends("ends", RUN)
    await marks(tmp_path).write_ends("ends", None)

    assert await marks(tmp_path, sqlite).read_ends("ends") is None


async def test_given_no_state_directory_then_sqlite_has_the_mark_of_the_ends_beside_it_and_a_server_none(
    tmp_path: Path, sqlite: str
) -> None:
    beside, nowhere = mark_files(sqlite, {}), mark_files(SERVER, {})
    for one in (beside, nowhere):
        await one.write_ends("ends", RUN)

    assert await beside.read_ends("ends") == RUN._replace(where=sqlite)
    assert await nowhere.read_ends("ends") is None
    assert beside.obstacle() == ""
    assert nowhere.obstacle().startswith("this host has no state directory")
    assert [file.parent for file in tmp_path.rglob("*.mark")] == [tmp_path / "data"]


async def test_given_a_mark_of_an_older_syncd_then_it_is_read(tmp_path: Path) -> None:
    await marks(tmp_path).write("shop", RUN)
    (file,) = tmp_path.iterdir()
    file.write_text('{"state": "an identity", "run": 7, "started_at": 1000.0, "finished_at": 1060.0}')

    assert await marks(tmp_path).read("shop") == RUN._replace(link="")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"state": 1}', "\xff"])
async def test_given_a_mark_that_cannot_be_read_then_that_is_logged_once_and_nothing_is_known(
    tmp_path: Path, text: str
) -> None:
    await marks(tmp_path).write_ends("ends", RUN)
    (file,) = tmp_path.iterdir()
    file.write_bytes(text.encode("latin-1"))
    read = marks(tmp_path)

    with capture_logs() as logged:
        assert [await read.read_ends("ends") for _ in range(3)] == [None] * 3

    assert [(one["event"], one["file"]) for one in logged] == [("high-water mark not kept", str(file))]


async def test_given_a_folder_that_is_a_file_then_that_is_logged_once(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.touch()
    kept = marks(folder)

    with capture_logs() as logged:
        for _ in range(3):
            await kept.write_ends("ends", RUN)

    assert [one["event"] for one in logged] == ["high-water mark not kept"]


async def test_given_a_state_directory_that_cannot_be_made_then_a_file_of_sqlite_has_its_marks_beside_it(
    tmp_path: Path, sqlite: str
) -> None:
    (tmp_path / "a file").touch()
    kept = marks(tmp_path / "a file" / "state", sqlite)

    with capture_logs() as logged:
        await kept.write_ends("ends", RUN)

    assert [file.name.partition("-")[0] for file in (tmp_path / "data").iterdir()] == ["ends"]
    assert await kept.read_ends("ends") == RUN._replace(where=sqlite)
    assert (kept.obstacle(), logged) == ("", [])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write every folder")
def test_given_a_folder_that_may_not_be_written_then_it_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    assert marks(tmp_path / "state").obstacle() == f"the folder {tmp_path} may not be written"
