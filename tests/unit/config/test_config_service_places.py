"""Root's commands on a service's configuration become its user, or say why they cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncd.cli.checking import _files
from syncd.config import service_places
from syncd.config.load import load
from syncd.config.service_places import become_service_user
from syncd.errors import AuthError, ConfigError

NOBODY = 65534
IDENTITY = ("initgroups", "setegid", "seteuid", "setgid", "setuid")


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of its own with a service whose state belongs to nobody, seen by what takes itself for root."""
    monkeypatch.setattr(service_places, "ROOT", tmp_path)
    home = tmp_path / "var/lib/syncd"
    home.mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(home, NOBODY, NOBODY)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    (tmp_path / "etc/syncd").mkdir(parents=True)
    return tmp_path / "etc/syncd"


def test_given_a_system_that_refuses_the_change_of_user_then_nothing_is_done_as_root(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    for name in IDENTITY:
        monkeypatch.setattr(f"os.{name}", refused)
    environ: dict[str, str] = {}
    with pytest.raises(AuthError, match="could not become that user: Operation not permitted"):
        become_service_user(etc / "syncd.toml", environ)
    assert environ == {}


def test_given_a_program_in_a_folder_of_roots_then_nothing_is_done_and_the_way_to_install_it_is_named(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[tuple[str, object]] = []
    for name in IDENTITY:
        monkeypatch.setattr(f"os.{name}", lambda *to, name=name: became.append((name, to[-1])))
    monkeypatch.setattr("os.access", lambda *_, **_more: False)
    with pytest.raises(ConfigError, match="may not read the program") as refused:
        become_service_user(etc / "syncd.toml", {})
    assert "sudo make install" in refused.value.hint
    assert became[-1] == ("seteuid", 0), "the sentence is shown by what root may read"


def test_given_roots_own_environment_then_the_service_users_takes_its_place(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*IDENTITY, "umask"):
        monkeypatch.setattr(f"os.{name}", lambda *_: None)
    home = etc.parents[1] / "var/lib/syncd"
    environ = {"XDG_RUNTIME_DIR": "/run/user/0", "HOME": "/root", "STATE_DIRECTORY": "/root/state"}
    become_service_user(etc / "north.toml", environ)
    assert environ.pop("HOME") != "/root"
    assert environ == {"STATE_DIRECTORY": str(home / "north")}
    (etc.parents[1] / "run/syncd").mkdir(parents=True)
    become_service_user(etc / "north.toml", environ)
    assert environ["XDG_RUNTIME_DIR"] == str(etc.parents[1] / "run/syncd")


def test_given_a_secret_file_that_only_root_may_read_then_check_says_that_the_service_may_not(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = etc / "syncd.toml"
    file.write_text('[web]\npassword_file = "credentials/web"\n')
    file.chmod(0o640)
    secret = etc / "credentials/web"
    secret.parent.mkdir()
    secret.write_text("correct horse")
    secret.chmod(0o600)
    loaded = load(file, {})
    # What the system answers once root has become the user of the service.
    monkeypatch.setattr("os.access", lambda path, _mode: Path(path) != secret)
    stat = Path.stat

    def looked_at(path: Path, **more: bool) -> os.stat_result:
        if path == secret:
            raise PermissionError(13, "Permission denied")
        return stat(path, **more)

    monkeypatch.setattr(Path, "stat", looked_at)
    (found,) = _files(loaded)
    assert f"{secret} may not be read by the user of the service, so the service cannot start" in found.text
    told = f"Keep the secret in {etc}/credentials/web__password, and take web.password_file out of the configuration."
    assert (found.code, found.hint) == (78, told)
