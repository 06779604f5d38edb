"""`make install` on a machine with systemd: what it puts where, what the docs say to type next, and what uninstall leaves."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from syncd.sandbox import SandboxPortal, SandboxServer
from tests.system import systemd_namespace
from tests.system.docs_runner import agrees, blocks, steps
from tests.system.shop import DEAL, SECRET
from tests.system.systemd_namespace import bare

ROOT = Path(__file__).parents[2]
LISTED = [line.split() for line in (ROOT / "deploy/install/files.txt").read_text().splitlines() if line[:1] not in "# "]
PAGE = [block for block in blocks(ROOT / "docs/how-to/systemd.md") if block.language == "console"]
INSTALL_SECONDS = 300
"""For pip, on a machine that does other things as well."""
NO_INDEX = re.compile("name resolution|Network is unreachable|Connection refused|No matching distribution")

needs_systemd = pytest.mark.skipif(bool(systemd_namespace.missing()), reason=systemd_namespace.missing())
needs_package = pytest.mark.skipif(
    not os.environ.get("SYNCD_TEST_PACKAGE") or shutil.which("dpkg-deb") is None,
    reason="needs dpkg-deb, and takes a minute: run by `make test-install`",
)


def test_given_the_list_of_files_then_each_is_there_and_nothing_of_deploy_is_left_out() -> None:
    sources = [source for source, _place in LISTED]
    assert [source for source in sources if not (ROOT / source).is_file()] == []
    wanted = [
        str(path.relative_to(ROOT))
        for folder in ("systemd", "man", "completion")
        for path in (ROOT / "deploy" / folder).rglob("*")
        if path.is_file()
    ]
    assert set(wanted) - set(sources) == set()
    assert len({place for _source, place in LISTED}) == len(LISTED)


def test_given_somebody_who_is_not_root_then_nothing_is_installed_and_sudo_is_named(tmp_path: Path) -> None:
    script = tmp_path / "deploy/install/install.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "deploy/install/install.sh", script)
    as_nobody: dict[str, Any] = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
    for folder in (script.parent, *script.parent.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    for word in ("install", "uninstall"):
        ran = subprocess.run(
            ["sh", str(script), word], capture_output=True, text=True, timeout=60, check=False, **as_nobody
        )
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr == "This writes to /opt/syncd and /usr/local: run it with sudo. Nothing was done.\n"


def test_given_a_python_in_a_home_directory_or_too_old_then_nothing_is_installed(tmp_path: Path) -> None:
    for answers, said in (("/home/ada/python", "is in a home directory"), ("", "needs Python 3.11 or newer")):
        python = tmp_path / "python"
        python.write_text(
            f"#!/bin/sh\ncase $2 in *base_prefix*) echo {answers};; *) exit {0 if answers else 1};; esac\n"
        )
        python.chmod(0o755)
        target = tmp_path / "target"
        ran = subprocess.run(
            ["sh", str(ROOT / "deploy/install/install.sh"), "install"],
            env={"PATH": os.environ["PATH"], "DESTDIR": str(target), "PYTHON": str(python)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 1
        assert said in ran.stderr
        assert "Nothing was done." in ran.stderr
        assert not target.exists()


def _into(target: Path, word: str) -> subprocess.CompletedProcess[str]:
    """Install into a folder, or uninstall there; no Python is new enough, so the first ends before it does anything."""
    return subprocess.run(
        ["sh", str(ROOT / "deploy/install/install.sh"), word],
        env={"PATH": os.environ["PATH"], "DESTDIR": str(target), "PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ("opt/syncd/syncd.toml", "opt/syncd is there already and is not an installation of syncd"),
        ("opt/syncd/pyvenv.cfg opt/syncd/state.db", "opt/syncd holds files that are not the program's"),
        ("opt/syncd/pyvenv.cfg opt/syncd/.env", "opt/syncd holds files that are not the program's"),
        ("usr/local/bin/syncd", "usr/local/bin/syncd is there already and belongs to another installation"),
        ("opt/syncd/pyvenv.cfg opt/syncd/bin/python", "needs Python 3.11 or newer"),
    ],
)
def test_given_somebody_elses_files_where_it_would_go_then_they_are_not_replaced(
    tmp_path: Path, there: str, said: str
) -> None:
    files = [tmp_path / name for name in there.split()]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("theirs")
    ran = _into(tmp_path, "install")
    assert ran.returncode == 1
    assert said in ran.stderr
    assert "Nothing was done." in ran.stderr
    assert [file.read_text() for file in files] == ["theirs"] * len(files)


@pytest.mark.parametrize("word", ["install", "uninstall"])
def test_given_an_installation_below_another_prefix_then_it_is_not_broken(tmp_path: Path, word: str) -> None:
    command, program = tmp_path / "usr/bin/syncd", tmp_path / "opt/syncd/pyvenv.cfg"
    for file in (command, program):
        file.parent.mkdir(parents=True)
    program.touch()
    command.symlink_to("/opt/syncd/bin/syncd")
    ran = _into(tmp_path, word)
    assert (ran.returncode, program.exists(), command.is_symlink()) == (1, True, True)
    assert "syncd is installed below /usr: name that with PREFIX=/usr" in ran.stderr


def test_given_somebody_elses_file_among_the_programs_when_uninstalled_then_it_stays(tmp_path: Path) -> None:
    kept, gone = tmp_path / "opt/syncd/state.db", tmp_path / "opt/syncd/bin/python"
    gone.parent.mkdir(parents=True)
    for file in (kept, gone, tmp_path / "opt/syncd/pyvenv.cfg"):
        file.touch()
    ran = _into(tmp_path, "uninstall")
    assert (ran.returncode, kept.exists(), gone.parent.exists()) == (0, True, False)
    assert "opt/syncd stays" in ran.stdout
    kept.unlink()
    gone.parent.mkdir()
    (tmp_path / "opt/syncd/pyvenv.cfg").touch()
    assert _into(tmp_path, "uninstall").stdout == ""
    assert not (tmp_path / "opt/syncd").exists()


@pytest.mark.parametrize(
    "target", ["soak", "bench", "test", "quick", "lint", "test-peers", "test-install", "install", "deb"]
)
def test_given_a_target_of_make_then_it_ends_by_itself(target: str) -> None:
    planned = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "-C", str(ROOT), target],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    endless = [line for line in planned.stdout.splitlines() if "endless" in line and "--lives " not in line]
    assert (endless, planned.stderr) == ([], "")


@pytest.fixture
def stage() -> Iterator[Path]:
    """A directory that the machine's fresh /tmp does not hide, with the mapping table of another program."""
    made = Path(tempfile.mkdtemp(prefix="syncd-install-", dir="/var/tmp"))
    made.chmod(0o755)
    with closing(sqlite3.connect(made / "shop.db")) as connection, connection:
        connection.execute("CREATE TABLE bindings (order_id INTEGER PRIMARY KEY, deal_id INTEGER)")
        connection.execute("INSERT INTO bindings VALUES (1, 1)")
    yield made
    shutil.rmtree(made)


@pytest.mark.system
@needs_systemd
def test_given_a_machine_when_the_page_of_the_service_is_typed_as_root_then_it_runs_and_uninstall_leaves_the_data(
    stage: Path,
) -> None:
    portal = SandboxPortal({order: (DEAL, order) for order in range(1, 6)}, code=SECRET)
    with SandboxServer.in_thread(portal) as server, bare(stage) as machine:

        def typed(command: str) -> str:
            ran = machine.run(command, within=INSTALL_SECONDS)
            if ran.returncode and command.endswith(" install") and NO_INDEX.search(ran.stderr):
                pytest.skip("pip reaches no package index from here")
            assert ran.returncode == 0, f"{command}: {ran.returncode}\n{ran.stdout}{ran.stderr}"
            assert SECRET not in ran.stdout + ran.stderr
            return ran.stdout

        def type_page(first: int, last: int | None) -> None:
            """Type the commands of some blocks of the page, with what a person would answer to them."""
            url = f"echo {server.webhook_url} |"
            told = "--no-input --webhook-file - --table bindings --table-url sqlite:////var/lib/syncd/erp/shop.db"
            for block in PAGE[first:last]:
                for step in steps(block):
                    command = step.command.replace("sudo ", "").replace(
                        "make ", f"make --no-print-directory -C {ROOT} "
                    )
                    if command.endswith(" init"):
                        command = f"{url} {command} {told}"
                    elif "/dev/stdin" in command:
                        command = f"{url} {command}"
                    printed = typed(command).splitlines()
                    assert not step.shown or agrees(step.shown, printed), printed

        type_page(0, 1)
        for _source, place in LISTED:
            assert (machine.root / "usr/local" / place).is_file()
        assert typed("stat -c '%U %a' /etc/syncd/credentials /var/lib/syncd").split() == ["root", "700", "syncd", "700"]
        typed(f"install -d -o syncd /var/lib/syncd/erp && install -o syncd {stage}/shop.db /var/lib/syncd/erp/")
        type_page(1, None)

        assert machine.wait("ActiveState", "active")
        assert typed("stat -c '%U:%G %a' /etc/syncd/syncd.toml").strip() == "root:syncd 640"
        typed("syncd status --check")
        assert typed("find /var/lib/syncd /run/syncd -not -user syncd") == ""

        said = typed(f"make --no-print-directory -C {ROOT} uninstall")
        assert "What stays: /etc/syncd, /var/lib/syncd and the user syncd." in said
        assert machine.show("ActiveState") == "inactive"
        assert (
            typed("find /opt /usr/local /etc/systemd/system -name syncd -o -name _syncd -o -name 'syncd[.@-]*'") == ""
        )
        typed("test -f /etc/syncd/syncd.toml && test -f /var/lib/syncd/syncd.db && id syncd")


@needs_package
def test_given_the_package_then_it_holds_the_same_files_and_its_program_runs(tmp_path: Path) -> None:
    # pip may need all authorities of the machine; tests have one (tests/conftest.py).
    environment = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    if authorities := environment.pop("SSL_CERT_FILE_OF_THE_MACHINE"):
        environment["SSL_CERT_FILE"] = authorities
    built = subprocess.run(
        ["make", "--no-print-directory", "-C", str(ROOT), "deb", f"DIST={tmp_path}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (package,) = tmp_path.glob("syncd_*.deb")
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tmp_path / "tree")], check=True, timeout=120)
    tree = tmp_path / "tree"
    for _source, place in LISTED:
        assert (tree / "usr" / place).is_file()
    assert (tree / "usr/bin/syncd").readlink() == Path("/opt/syncd/bin/syncd")
    assert "#!/opt/syncd/bin/python" in (tree / "opt/syncd/bin/syncd").read_text()
    assert str(tmp_path) not in (tree / "opt/syncd/pyvenv.cfg").read_text()
    fields = (tree / "DEBIAN/control").read_text()
    assert re.search(r"^Depends: python3 \(>= 3\.\d+\), python3 \(<< 3\.\d+\)", fields, re.MULTILINE)
    listed = subprocess.run(
        [str(tree / "opt/syncd/bin/python"), "-m", "syncd.cli.main", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert listed.stdout.startswith("syncd ")
