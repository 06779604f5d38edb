"""The daemon notices when a secret file changes, appears or goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from syncd.config.load import Loaded, load
from syncd.daemon.lifecycle import SECRETS_EVERY, SecretFiles, watch_secrets
from tests.unit.daemon.virtual_daemon import LoopClock

CONFIG = """
[links.shop.portal]
webhook_file = "secrets/webhook"
[links.shop.table]
url_file = "secrets/table"
name = "bindings"
columns = { order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }
"""
HOOK = "https://example.bitrix24.com/rest/1/{}secretcode/"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "webhook").write_text(HOOK.format("first"))
    (folder / "table").write_text("sqlite:///shop.db")
    return folder


@pytest.fixture
def loaded(secrets: Path) -> Loaded:
    file = secrets.parent / "syncd.toml"
    file.write_text(CONFIG)
    return load(file, {})


def test_given_secret_files_as_they_were_read_then_none_has_changed(loaded: Loaded, secrets: Path) -> None:
    files = SecretFiles(loaded, {})
    (secrets / "table").touch()
    (secrets / "somebody_elses").write_text("x")
    assert files.changed() == []


@pytest.mark.parametrize("name", ["webhook", "table"])
def test_given_a_secret_file_that_changes_then_it_is_told_once(loaded: Loaded, secrets: Path, name: str) -> None:
    files = SecretFiles(loaded, {})
    (secrets / name).write_text("another")
    assert [files.changed(), files.changed()] == [[secrets / name], []]


def test_given_a_secret_file_that_goes_and_comes_back_then_both_are_told(loaded: Loaded, secrets: Path) -> None:
    files = SecretFiles(loaded, {})
    (secrets / "webhook").unlink()
    gone = files.changed()
    (secrets / "webhook").write_text(HOOK.format("first"))
    assert [gone, files.changed()] == [[secrets / "webhook"]] * 2


def test_given_a_credentials_directory_then_each_of_its_files_counts_and_new_ones_too(
    loaded: Loaded, tmp_path: Path
) -> None:
    directory = tmp_path / "credentials"
    directory.mkdir()
    one, two = directory / "links__shop__portal__webhook", directory / "state__url"
    one.write_text("a")
    files = SecretFiles(loaded, {"CREDENTIALS_DIRECTORY": str(directory)})
    one.write_text("b")
    two.write_text("c")
    assert files.changed() == [one, two]


def test_given_secrets_that_kubernetes_replaces_by_turning_a_link_then_they_have_changed(
    loaded: Loaded, tmp_path: Path
) -> None:
    directory = tmp_path / "mounted"
    for number in (1, 2):
        (directory / f"..{number}").mkdir(parents=True)
        (directory / f"..{number}" / "a__b").write_text(f"secret {number}")
    data, name = directory / "..data", directory / "a__b"
    data.symlink_to("..1")
    name.symlink_to("..data/a__b")
    files = SecretFiles(loaded, {"CREDENTIALS_DIRECTORY": str(directory)})
    (directory / "..new").symlink_to("..2")
    (directory / "..new").rename(data)
    assert files.changed() == [name]


def test_given_a_credentials_directory_that_is_gone_then_its_files_are(loaded: Loaded, tmp_path: Path) -> None:
    directory = tmp_path / "credentials"
    directory.mkdir()
    file = directory / "state__url"
    file.write_text("x")
    files = SecretFiles(loaded, {"CREDENTIALS_DIRECTORY": str(directory)})
    file.unlink()
    directory.rmdir()
    assert files.changed() == [file]


@pytest.mark.anyio
async def test_given_nobody_waits_for_credentials_then_files_are_left_alone_and_a_change_is_told_once_somebody_does(
    loaded: Loaded, secrets: Path, clock: LoopClock
) -> None:
    files, waiting, told = SecretFiles(loaded, {}), False, []
    task = asyncio.create_task(
        watch_secrets(lambda: files, lambda: waiting, lambda: told.append(clock.monotonic()), clock)
    )
    (secrets / "webhook").write_text(HOOK.format("second"))
    await clock.sleep(600)
    assert told == []
    waiting = True
    await clock.sleep(600)
    assert told == [pytest.approx(600, abs=SECRETS_EVERY)]
    task.cancel()
    await asyncio.wait({task})
