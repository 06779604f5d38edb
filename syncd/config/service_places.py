"""The systemd service that a configuration in /etc/syncd belongs to: its folders and its user (deploy/systemd).

A command that a person types must do what the service would do: with the same secrets, the same state, and a share of
the same request limit. systemd passes these folders to a service; a command in a shell derives them from the
configuration's name, as the unit files do.

Root's commands work as the service's user. As root they would sign in to a local database as another user, leave files
that the service may not write, not see its marks, and spend its portal's request limit a second time. Only root may
read the secrets, so they are read before.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from syncd.errors import AuthError, ConfigError

ROOT = Path("/")
"""The root of these folders; tests replace it."""

ROOT_USER = 0

MAIN = "syncd.toml"
"""The configuration of syncd.service; NAME.toml is that of syncd@NAME.service."""


class ServicePlaces(NamedTuple):
    """One service.

    Args:
        unit: Its name.
        credentials: The folder of its secrets, a file for each, named by its key; for root only.
        loaded: Where systemd keeps its credentials while it runs, including encrypted ones and those of drop-ins.
        home: /var/lib/syncd, which belongs to the user of the services.
        state: The service's own folder: that one, or one in it.
        runtime: The folder that the processes of syncd on this host share.
    """

    unit: str
    credentials: Path
    loaded: Path
    home: Path
    state: Path
    runtime: Path

    @property
    def state_url(self) -> str:
        """The URL of its state database."""
        return f"sqlite:///{self.state}/syncd.db"


def service_places(file: Path) -> ServicePlaces | None:
    """Given a configuration, return its service; None for one outside /etc/syncd."""
    file = file.absolute()
    if file.parent != ROOT / "etc/syncd" or file.suffix != ".toml":
        return None
    is_main = file.name == MAIN
    unit = "syncd.service" if is_main else f"syncd@{file.stem}.service"
    home = ROOT / "var/lib/syncd"
    return ServicePlaces(
        unit=unit,
        credentials=file.with_name("credentials" if is_main else f"{file.stem}.credentials"),
        loaded=ROOT / "run/credentials" / unit,
        home=home,
        state=home if is_main else home / file.stem,
        runtime=ROOT / "run/syncd",
    )


def become_service_user(file: Path, environ: MutableMapping[str, str]) -> None:
    """Given a configuration, become the user of its service, for good; nothing for others than root, or without one.

    Args:
        file: The configuration, already read.
        environ: The environment, which gets what the unit file would put there.

    Raises:
        AuthError: The system does not let this process become that user, as in a container without capabilities.
        ConfigError: That user may not read the program, which is in a folder of root's own.
    """
    service = service_places(file)
    if service is None or os.geteuid() != ROOT_USER or not service.home.is_dir():
        return
    owner = service.home.stat().st_uid
    try:
        user = pwd.getpwuid(owner)
    except KeyError:  # a volume of a container, which knows no such user
        return
    if owner == ROOT_USER:
        return
    try:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setegid(user.pw_gid)
        os.seteuid(owner)
        hidden = [file for file in (__file__, os.__file__) if not os.access(file, os.R_OK, effective_ids=True)]
        os.seteuid(ROOT_USER)
        if not hidden:
            os.setgid(user.pw_gid)
            os.setuid(owner)
    except OSError as error:
        raise AuthError(
            f"Root's commands work as {user.pw_name}, who owns {service.home}. This one could not become that user: "
            f"{error.strerror}. Nothing was done.",
            hint=f"Start the command as {user.pw_name}.",
        ) from None
    if hidden:  # most modules are not loaded yet
        raise ConfigError(
            f"Root's commands work as {user.pw_name}, who owns {service.home} and may not read the program "
            f"({hidden[0]}). Nothing was done.",
            hint="Install it where every user may read it: sudo make install.",
        )
    os.umask(0o077)
    with suppress(OSError):  # opening the state database reports what is wrong with its folder
        service.state.mkdir(exist_ok=True)  # as systemd does when it starts the service
    environ.update(HOME=user.pw_dir, STATE_DIRECTORY=str(service.state))
    environ.pop("XDG_RUNTIME_DIR", None)  # root's, where this user may not write
    if service.runtime.is_dir():
        environ["XDG_RUNTIME_DIR"] = str(service.runtime)
