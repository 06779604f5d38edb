"""Checks of the owners and modes of the configuration and of secret files.

A configuration decides which files syncd reads and which commands it runs. If syncd found it by itself and another user
may write it, that user could do both. The operator answers for a configuration that is named.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from syncd.errors import ConfigError

ROOT = 0


class Exposure(NamedTuple):
    """A file that other users can read or write.

    serious: it is a mistake rather than a habit. World-readable configurations are common on hosts with one user.
    """

    text: str
    hint: str
    serious: bool


def refuse_untrusted(path: Path, *, user: int | None = None, opened: os.stat_result | None = None) -> None:
    """Refuse a configuration that was found, not named, if another user may have written it.

    It must belong to the user or to root, and no other user may write it. For root, the current folder must meet the
    same conditions: in another user's folder, that user chooses what root finds.

    Args:
        path: The file.
        user: The effective user id; None asks the system.
        opened: The status of the opened file, since its name may belong to another file by now. None checks the name.

    Raises:
        ConfigError: It is refused. Nothing of it was read.
    """
    user = os.geteuid() if user is None else user
    reason = _reason_against(opened or path.stat(), "it", user)
    if not reason and user == ROOT and not path.is_absolute():
        reason = _reason_against(path.absolute().parent.stat(), "its folder", user)
    if reason:
        raise ConfigError(
            f"The configuration {path.absolute()} was found here, but {reason}, so it was not read.",
            hint=f"If it is yours, name it: syncd --config {path.absolute()} … Otherwise, change to another folder.",
        )


def _reason_against(info: os.stat_result, name: str, user: int) -> str:
    """Given the status of a file or folder, return why it is not trusted; empty if it is."""
    if info.st_uid not in {user, ROOT}:
        return f"{name} belongs to {_user_name(info.st_uid)}"
    if stat.S_ISDIR(info.st_mode) and info.st_mode & stat.S_ISVTX:
        return ""  # in /tmp and similar folders, no user can replace the files of another
    writers = _other_writers(info)
    return f"{name} may be written by {writers}" if writers else ""


def _other_writers(info: os.stat_result) -> str:
    """Given the status of a file, return which other users may write it, as text; empty if none may.

    Debian gives each user a private group of the same name with write permission; it does not count.
    """
    if info.st_mode & stat.S_IWOTH:
        return "everybody"
    if info.st_mode & stat.S_IWGRP and info.st_gid != ROOT and not _is_private_group(info.st_gid, info.st_uid):
        return f"the group {_group_name(info.st_gid)}"
    return ""


def exposures(configuration: Path, secret_files: Collection[Path], *, holds_secret: bool) -> Iterator[Exposure]:
    """Yield what other users may do with the configuration and its secret files.

    Args:
        configuration: The configuration file.
        secret_files: The files its `_file` keys name.
        holds_secret: Whether the configuration itself contains a secret.
    """
    for path in (configuration, *sorted(secret_files)):
        info = path.stat()
        if writers := _other_writers(info):
            text = f"{path} may be written by {writers}, who could make syncd read any file and run any command."
            yield Exposure(text, f"chmod go-w {path}", serious=True)
        if info.st_mode & stat.S_IROTH and (path in secret_files or holds_secret):
            text = f"{path} holds a secret, and everybody on this host may read it."
            yield Exposure(text, f"chmod o-r {path}", serious=path in secret_files)


def _is_private_group(group: int, user: int) -> bool:
    try:
        entry = grp.getgrgid(group)
        owner = pwd.getpwuid(user)
    except KeyError:
        return False
    return owner.pw_gid == group and entry.gr_name == owner.pw_name and not set(entry.gr_mem) - {owner.pw_name}


def _user_name(user: int) -> str:
    try:
        return f"the user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"the user with id {user}"


def _group_name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return f"with id {group}"
