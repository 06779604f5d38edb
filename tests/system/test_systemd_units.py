"""The unit files: what systemd says of them, and what must be true of all three alike."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from syncd.config.service_settings import DaemonSettings

UNITS = Path(__file__).parents[2] / "deploy/systemd"
SERVICES = ["syncd.service", "syncd@.service", "syncd-reconcile@.service"]
EXPOSURE = 1.5
PROGRAM = "/opt/syncd/bin/syncd"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as they would be installed, with a program that exists."""
    for unit in UNITS.iterdir():
        if unit.is_file():
            (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
    return tmp_path


def _settings(text: str, section: str = "Service") -> list[tuple[str, str]]:
    found, inside = [], False
    for line in text.splitlines():
        if line.startswith("["):
            inside = line == f"[{section}]"
        elif inside and "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.append((name, value))
    return found


def _hardening(service: str) -> str:
    text = (UNITS / service).read_text()
    return text[text.index("# --- What the service may do") :].partition("\n[Install]")[0].strip()


@needs_systemd
@pytest.mark.parametrize("unit", [*SERVICES, "syncd-reconcile@.timer"])
def test_given_a_unit_then_systemd_finds_nothing_wrong_with_it(installed: Path, unit: str) -> None:
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(installed / unit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("example", sorted((UNITS / "examples").iterdir()), ids=lambda path: path.stem)
def test_given_an_example_as_a_drop_in_then_systemd_understands_it(installed: Path, example: Path) -> None:
    drop_in = installed / "syncd.service.d"
    drop_in.mkdir()
    shutil.copy(example, drop_in)
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(installed / "syncd.service")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    newer = {"notify-reload": "notify-reload", "restart-backoff": "RestartSteps|RestartMaxDelaySec"}.get(example.stem)
    complaints = [line for line in ran.stderr.splitlines() if newer is None or not re.search(newer, line)]
    assert complaints == []


@needs_systemd
@pytest.mark.parametrize("service", SERVICES)
def test_given_a_service_then_it_is_hardly_exposed(installed: Path, service: str) -> None:
    ran = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(installed / service)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", ran.stdout)
    assert score is not None, ran.stderr
    assert float(score[1]) <= EXPOSURE


def test_given_the_three_services_then_they_are_hardened_alike() -> None:
    assert _hardening(SERVICES[0]) == _hardening(SERVICES[1]) == _hardening(SERVICES[2])


def test_given_a_hardening_line_then_a_comment_above_it_says_when_to_relax_it() -> None:
    said, fresh = "", False
    for line in _hardening(SERVICES[0]).splitlines()[1:]:
        if line.startswith("#"):
            said = said + line if fresh else line
        elif line:
            assert "Relax: " in said, line
        fresh = line.startswith("#")


@pytest.mark.parametrize("service", SERVICES[:2])
def test_given_a_daemons_unit_then_it_and_the_program_agree(service: str) -> None:
    settings = dict(_settings((UNITS / service).read_text()))
    assert settings["Type"] == "notify"
    assert int(settings["TimeoutStopSec"].rstrip("s")) > DaemonSettings().shutdown_timeout_seconds
    assert settings["RestartPreventExitStatus"] == "64 77 78"
    assert settings["ExecReload"].endswith("kill -HUP $MAINPID")
    assert settings["WatchdogSec"] == "60s"
    # A second TERM would mean "at once"; with mixed, only the main process gets the first.
    assert settings["KillMode"] == "mixed"


@pytest.mark.parametrize("service", SERVICES)
def test_given_a_unit_then_no_secret_can_be_in_its_environment_or_command_line(service: str) -> None:
    settings = _settings((UNITS / service).read_text())
    assert [value for name, value in settings if name == "Environment"] == ["XDG_RUNTIME_DIR=%t/syncd"]
    assert not [name for name, _ in settings if name in {"EnvironmentFile", "PassEnvironment"}]


def test_given_the_one_shot_then_a_link_somebody_else_works_on_is_no_failure() -> None:
    settings = dict(_settings((UNITS / SERVICES[2]).read_text()))
    assert (settings["Type"], settings["SuccessExitStatus"]) == ("oneshot", "75")


def test_given_the_timer_then_a_missed_pass_is_made_up_and_instances_do_not_begin_together() -> None:
    settings = dict(_settings((UNITS / "syncd-reconcile@.timer").read_text(), "Timer"))
    assert (settings["Persistent"], settings["FixedRandomDelay"]) == ("true", "true")


def test_given_the_user_the_services_name_then_sysusers_makes_it_and_tmpfiles_keeps_secrets_from_it() -> None:
    assert re.search(r"^u syncd - ", (UNITS / "sysusers.d/syncd.conf").read_text(), re.MULTILINE)
    rules = (UNITS / "tmpfiles.d/syncd.conf").read_text()
    assert "d /etc/syncd/credentials 0700 root root -" in rules
    for service in SERVICES:
        assert dict(_settings((UNITS / service).read_text()))["User"] == "syncd"
