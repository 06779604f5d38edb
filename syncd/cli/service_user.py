"""Root's commands on a service's configuration do their work as the service itself, with its user and its places.

Otherwise they would sign in to a local database as another user, leave files that the service may not write, not see
its marks, and spend its portal's request limit a second time. Only root may read the secrets, so they are read before.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

from syncd.config.service_places import service_places
from syncd.errors import AuthError, ConfigError

ROOT = 0


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
    if service is None or os.geteuid() != ROOT or not service.home.is_dir():
        return
    owner = service.home.stat().st_uid
    try:
        user = pwd.getpwuid(owner)
    except KeyError:  # a volume of a container, which knows no such user
        return
    if owner == ROOT:
        return
    try:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setegid(user.pw_gid)
        os.seteuid(owner)
        hidden = [file for file in (__file__, os.__file__) if not os.access(file, os.R_OK, effective_ids=True)]
        os.seteuid(ROOT)
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
