"""Which configuration file is obeyed without being named, and which could be a trap of another user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncd.config.file_trust import exposures, refuse_untrusted
from syncd.config.load import load
from syncd.config.sources import find_file
from syncd.errors import ConfigError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
STRANGER = 12345


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    file = tmp_path / "syncd.toml"
    file.write_text("")
    file.chmod(0o644)
    return file


def test_given_a_file_of_the_users_own_then_it_is_obeyed(configuration: Path) -> None:
    refuse_untrusted(configuration)


@needs_root
def test_given_a_file_of_roots_then_every_user_obeys_it(configuration: Path) -> None:
    refuse_untrusted(configuration, user=STRANGER)


@needs_root
def test_given_a_strangers_file_then_it_is_refused_and_the_way_to_name_it_is_shown(configuration: Path) -> None:
    os.chown(configuration, STRANGER, STRANGER)
    with pytest.raises(ConfigError, match=f"belongs to the user with id {STRANGER}, so it was not read") as refused:
        refuse_untrusted(configuration)
    assert f"syncd --config {configuration}" in refused.value.hint


@pytest.mark.parametrize("mode", [0o666, 0o602])
def test_given_a_file_that_everybody_may_write_then_it_is_refused(configuration: Path, mode: int) -> None:
    configuration.chmod(mode)
    with pytest.raises(ConfigError, match="it may be written by everybody"):
        refuse_untrusted(configuration)


@needs_root
def test_given_a_file_that_a_group_of_others_may_write_then_it_is_refused(configuration: Path) -> None:
    configuration.chmod(0o664)
    os.chown(configuration, 0, STRANGER)
    with pytest.raises(ConfigError, match=f"it may be written by the group with id {STRANGER}"):
        refuse_untrusted(configuration)


@needs_root
@pytest.mark.parametrize(
    ("owner", "mode", "reason"),
    [(STRANGER, 0o755, "its folder belongs to"), (0, 0o777, "its folder may be written by everybody"), (0, 0o755, "")],
)
def test_given_root_stands_in_a_folder_then_what_lies_in_a_strangers_is_not_obeyed(
    configuration: Path, monkeypatch: pytest.MonkeyPatch, owner: int, mode: int, reason: str
) -> None:
    os.chown(configuration.parent, owner, owner)
    configuration.parent.chmod(mode)
    monkeypatch.chdir(configuration.parent)
    found = Path("syncd.toml")
    if reason:
        with pytest.raises(ConfigError, match=reason):
            find_file(None, {}, [found])
    else:
        assert find_file(None, {}, [found]) == found


@needs_root
def test_given_a_strangers_file_is_named_then_it_is_the_operators_choice(configuration: Path) -> None:
    os.chown(configuration, STRANGER, STRANGER)
    assert find_file(configuration, {}) == configuration
    assert find_file(None, {"SYNCD_CONFIG": str(configuration)}) == configuration


@pytest.mark.parametrize(
    ("mode", "of_secret", "told"),
    [
        (0o600, 0o600, []),
        (0o644, 0o600, []),
        (0o644, 0o644, [("webhook", "chmod o-r", True)]),
        (0o666, 0o600, [("syncd.toml", "chmod go-w", True)]),
        (0o600, 0o602, [("webhook", "chmod go-w", True)]),
    ],
)
def test_given_files_that_are_open_to_others_then_each_is_told_with_its_remedy(
    configuration: Path, mode: int, of_secret: int, told: list[tuple[str, str, bool]]
) -> None:
    secret = configuration.parent / "webhook"
    secret.write_text("x")
    secret.chmod(of_secret)
    configuration.chmod(mode)
    found = list(exposures(configuration, [secret], holds_secret=False))
    assert [(Path(one.hint.split()[2]).name, " ".join(one.hint.split()[:2]), one.serious) for one in found] == told


def test_given_a_readable_configuration_that_holds_a_secret_then_it_is_told_but_no_problem(configuration: Path) -> None:
    [one] = exposures(configuration, [], holds_secret=True)
    assert not one.serious
    assert "everybody on this host may read it" in one.text


@needs_root
def test_given_a_strangers_file_that_takes_the_name_of_a_trusted_one_meanwhile_then_it_is_not_obeyed(
    configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(configuration, STRANGER, STRANGER)
    monkeypatch.setattr("syncd.config.sources.find_file", lambda *_: configuration)  # which looked a moment before
    with pytest.raises(ConfigError, match="so it was not read"):
        load(None, {})
    assert load(configuration, {}).path == configuration
