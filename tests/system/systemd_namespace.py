"""systemd booted in namespaces of its own, to run our unit for real (platform.md 2). Needs root and Linux.

The host's /etc is seen through an overlay, /run, /tmp, /var/lib and /opt are fresh: nothing the unit or systemd writes
there is on the host. Only our unit is started: a default target would clean the host's directories.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.children import Child

REPOSITORY = Path(__file__).parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
TOOLS = ("unshare", "nsenter", "systemctl", "systemd-sysusers", "mount")
PATIENCE = 90.0
_PIP = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
"""Where this machine's pip gets its packages."""
ROOT_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"} | _PIP

BOOT = r"""
set -e
stage="$1"
mount --make-rprivate /
mount --make-rshared /
lower="$stage/lower"; mkdir -p "$lower"
mount -t tmpfs tmpfs "$lower"
mkdir -p "$lower/etc" "$lower/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$lower/etc,workdir=$lower/work" /etc
mkdir -p "$lower/opt/syncd/bin" "$lower/opt/python" "$lower/opt/site" "$lower/opt/source"
mount --bind "$2" "$lower/opt/python"
mount --bind "$3" "$lower/opt/site"
mount --bind "$4" "$lower/opt/source"
mount --rbind "$lower/opt" /opt
cp "$stage/syncd" /opt/syncd/bin/syncd
chmod 755 /opt/syncd/bin/syncd
mount -t tmpfs tmpfs /var/lib
cp -r "$stage/etc/." /etc/
systemd-sysusers "$4/deploy/systemd/sysusers.d/syncd.conf"
chgrp -R syncd /etc/syncd
install -d -o syncd -g syncd -m 0700 /var/lib/syncd
install -o syncd -g syncd -m 0600 "$stage/table.db" /var/lib/syncd/table.db
units="$stage/units"
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p /run/systemd/system
cp -r "$units/." /run/systemd/system/
exec /lib/systemd/systemd --system --unit=only-syncd.target --log-target=console --log-level=warning --show-status=0
"""

BARE = r"""
set -e
stage="$1"
mount --make-rprivate /
mount --make-rshared /
over="$stage/over"; mkdir -p "$over"
mount -t tmpfs -o mode=755 tmpfs "$over"
for place in /etc /opt /usr/local; do
  mkdir -p "$over$place" "$over/work$place"
  mount -t overlay overlay -o "lowerdir=$place,upperdir=$over$place,workdir=$over/work$place" "$place"
done
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p /run/systemd/system
printf '[Unit]\nDefaultDependencies=no\n' >/run/systemd/system/nothing.target
exec /lib/systemd/systemd --system --unit=nothing.target --log-target=console --log-level=warning --show-status=0
"""

TARGET = """
[Unit]
Description=Only our unit
DefaultDependencies=no
Wants=syncd.service
"""

PROGRAM = """#!/bin/sh
export PYTHONPATH=/opt/source:/opt/site PYTHONDONTWRITEBYTECODE=1 LD_LIBRARY_PATH=/opt/python/lib
exec /opt/python/bin/{python} -m syncd.cli.main "$@"
"""


def missing() -> str:
    """Return what keeps systemd from being booted here; empty if nothing does."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root and Linux"
    if not SYSTEMD.exists():
        return "systemd is not installed"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} not installed"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel knows no overlay file system"
    tried = subprocess.run(
        ["unshare", "--fork", "--pid", "--mount", "--mount-proc", "--uts", "--ipc", "true"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    return "" if tried.returncode == 0 else "namespaces may not be made here"


@dataclass
class Machine:
    """A booted systemd.

    Args:
        pid: Its process on the host.
        log: What it and its units said.
    """

    pid: int
    log: Path

    @property
    def root(self) -> Path:
        """Its file system, as the host sees it."""
        return Path(f"/proc/{self.pid}/root")

    def ctl(self, *args: str) -> str:
        """Run systemctl inside."""
        ran = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-p", "-m", "-u", "-i", "--", "systemctl", *args],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        return ran.stdout.strip() or ran.stderr.strip()

    def run(self, command: str, *, within: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run a line of shell inside, as root types it; stdout and stderr apart."""
        return subprocess.run(
            self._shell(command),
            env=ROOT_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=within,
        )

    def start(self, command: str) -> Child:
        """Start a line of shell inside, as root types it, beside the test."""
        pipe = subprocess.PIPE
        return Child(
            self._shell(command),
            env=ROOT_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            limit=PATIENCE,
        )

    def _shell(self, command: str) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-p", "-m", "-u", "-i", "--", "sh", "-c", f"cd / && {command}"]

    def show(self, name: str) -> str:
        """Return a property of our unit."""
        return self.ctl("show", "syncd.service", "--value", "-p", name)

    def wait(self, name: str, wanted: Any) -> str:
        """Wait until a property of our unit is as wanted: a value, or a test."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            value = self.show(name)
            if wanted(value) if callable(wanted) else value == wanted:
                return value
            time.sleep(0.1)
        raise AssertionError(
            f"{name} is {self.show(name)!r}\n{self.ctl('status', 'syncd.service')}\n{self.log.read_text()[-8000:]}"
        )


@contextmanager
def booted(stage: Path, config: str, secrets: dict[str, str], drop_in: str) -> Iterator[Machine]:
    """Boot a systemd that runs our unit for the time of the block.

    Args:
        stage: A directory outside /tmp and /run, for what goes in; holds `table.db`.
        config: /etc/syncd/syncd.toml.
        secrets: Files of /etc/syncd/credentials, by name.
        drop_in: What is different about the unit here.
    """
    credentials = stage / "etc/syncd/credentials"
    credentials.mkdir(parents=True)
    (stage / "etc/syncd/syncd.toml").write_text(config)
    for name, secret in secrets.items():
        (credentials / name).write_text(secret)
        (credentials / name).chmod(0o600)
    units = stage / "units"
    shutil.copytree(REPOSITORY / "deploy/systemd", units, ignore=shutil.ignore_patterns("examples", "*.d"))
    (units / "only-syncd.target").write_text(TARGET)
    (units / "syncd.service.d").mkdir()
    (units / "syncd.service.d/test.conf").write_text(drop_in)
    (stage / "syncd").write_text(PROGRAM.format(python=f"python{sys.version_info.major}.{sys.version_info.minor}"))
    python = [sys.base_prefix, sysconfig.get_path("purelib")]
    with _systemd(stage, BOOT, *python, str(REPOSITORY)) as machine:
        yield machine


@contextmanager
def bare(stage: Path) -> Iterator[Machine]:
    """Boot a systemd that runs nothing, where nothing of syncd is installed yet, for the time of the block.

    Args:
        stage: A directory outside /tmp and /run.
    """
    with _systemd(stage, BARE) as machine:
        yield machine


@contextmanager
def _systemd(stage: Path, script: str, *args: str) -> Iterator[Machine]:
    log = stage / "log"
    with log.open("w") as out:
        unshare = ["unshare", "--fork", "--pid", "--mount", "--mount-proc", "--uts", "--ipc", "--kill-child"]
        outer = Child(
            [*unshare, "bash", "-c", script, "boot", str(stage), *args],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={"PATH": os.environ["PATH"], "container": "syncd-test"},
        )
    try:
        yield Machine(_child(outer, log), log)
    finally:
        outer.kill()
        outer.wait()


def _child(outer: Child, log: Path) -> int:
    """Return the host's number of the first process inside, once it is systemd and answers."""
    deadline = time.monotonic() + PATIENCE
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    while time.monotonic() < deadline and outer.poll() is None:
        found = children.read_text().split()
        if found and Path(f"/proc/{found[0]}/comm").read_text().strip() == "systemd":
            machine = Machine(int(found[0]), log)
            if machine.ctl("is-system-running") in {"running", "starting", "degraded", "initializing"}:
                return machine.pid
        time.sleep(0.1)
    raise AssertionError(f"systemd did not boot:\n{log.read_text()[-8000:]}")
