"""What is shipped works away from the checkout: the migrations travel inside the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's contents, as pip would lay them out."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = out.glob("syncd-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    return out / "site"


def run(site: Path, where: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # The unpacked wheel comes before the editable install; the folder of the run knows nothing of the checkout.
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site), "HOME": str(where)}
    return subprocess.run(
        [sys.executable, *words], cwd=where, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_given_the_wheel_outside_the_checkout_when_the_demo_runs_then_it_verifies_both_sides(
    unpacked: Path, tmp_path: Path
) -> None:
    demo = run(unpacked, tmp_path, "-m", "syncd.cli.main", "demo")

    assert demo.returncode == 0, demo.stderr
    assert "Verified: the CRM, the table and the agreed state are equal" in demo.stdout


def test_given_the_wheel_then_its_own_migrations_are_used(unpacked: Path, tmp_path: Path) -> None:
    asked = run(unpacked, tmp_path, "-c", "from syncd.state.migrate import scripts_folder; print(scripts_folder())")

    assert asked.stdout.strip() == str(unpacked / "syncd" / "migrations")


def test_given_the_wheel_then_it_names_the_licence_of_what_it_ships(unpacked: Path) -> None:
    [info] = unpacked.glob("syncd-*.dist-info")
    metadata = (info / "METADATA").read_text()

    assert "License-Expression: Apache-2.0 AND MIT" in metadata
    assert "MIT" in (info / "licenses/syncd/daemon/static/uPlot.LICENSE.txt").read_text()


def test_given_the_source_distribution_then_it_holds_what_the_quick_start_needs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    [archive] = tmp_path.glob("syncd-*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}

    assert {"Makefile", "README.md", "requirements/run.txt", "requirements/build.txt", "requirements/dev.txt"} <= names


def test_given_what_an_installation_needs_then_no_package_in_it_only_builds() -> None:
    def packages(file: str) -> set[str]:
        lines = (ROOT / "requirements" / file).read_text().splitlines()
        return {line.partition("==")[0] for line in lines if "==" in line and line[0].isalpha()}

    shared = {"colorama"}  # for Windows consoles: click asks for it, too
    assert packages("run.txt") & packages("build.txt") <= shared
