"""The high-water marks on disk: the last run of each link, and on its ends, to notice that an older state is at work.

There is a file for each link. For SQLite it is beside the database, so a copied database comes without it. For a server
it is in the state directory of this host, which then knows its own runs only. A second file is for the link's ends,
whatever the link's name and its state database. It is in the state directory, where all state databases of this host
meet; without one that may be written it is beside an SQLite database. The holder of the link's lease writes both.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

import structlog

from syncd.config.urls import database_identity
from syncd.core.records import KnownRun
from syncd.state.database import file_of, hand_over, read_url

log = structlog.get_logger(__name__)

_SUFFIX = ".mark"


class MarkFiles:
    """See `syncd.core.ports.HighWaterMark`.

    Args:
        where: The address of the state database, without credentials.
        stem: The folder and the beginning of the names of the links' files; None if there is no folder for them.
        beside: The file or folder whose owner they get if root makes them.
        ends: The folder of the ends' files; None if there is none.
    """

    def __init__(self, where: str, stem: Path | None, beside: Path | None, ends: Path | None) -> None:
        self._where = where
        self._stem = stem
        self._beside = beside
        self._ends = ends
        self._complained: set[Path] = set()

    async def read(self, link: str) -> KnownRun | None:
        """See `HighWaterMark`. A file that cannot be read is logged, once."""
        return await asyncio.to_thread(self._read, self._link_file(link))

    async def read_ends(self, fingerprint: str) -> KnownRun | None:
        """See `HighWaterMark`. A file that cannot be read is logged, once."""
        return await asyncio.to_thread(self._read, self._ends_file(fingerprint))

    async def write(self, link: str, known: KnownRun | None) -> None:
        """See `HighWaterMark`. A file that cannot be written is logged, once."""
        await asyncio.to_thread(self._write, self._link_file(link), known, self._beside)

    async def write_ends(self, fingerprint: str, known: KnownRun | None) -> None:
        """See `HighWaterMark`. A file that cannot be written is logged, once."""
        if known is not None and not known.where:
            known = known._replace(where=self._where)
        await asyncio.to_thread(self._write, self._ends_file(fingerprint), known, self._ends)

    def links(self) -> dict[str, KnownRun]:
        """Return the marks of all links. Blocking."""
        if self._stem is None:
            return {}
        start = len(self._stem.name) + 1
        with suppress(OSError):
            names = [file.name for file in self._stem.parent.iterdir() if file.name.startswith(f"{self._stem.name}.")]
            links = [unquote(name[start : -len(_SUFFIX)]) for name in sorted(names) if name.endswith(_SUFFIX)]
            return {link: known for link in links if (known := self._read(self._link_file(link))) is not None}
        return {}

    def obstacle(self) -> str:
        """Return why marks cannot be kept, as the end of a sentence; empty if they can. Blocking."""
        if self._stem is None or self._ends is None:
            return "this host has no state directory: set STATE_DIRECTORY, XDG_STATE_HOME or HOME"
        for folder in (self._stem.parent, self._ends):
            if not os.access(_nearest(folder), os.W_OK):
                return f"the folder {_nearest(folder)} may not be written"
        return ""

    def _link_file(self, link: str) -> Path | None:
        return (
            None if self._stem is None else self._stem.with_name(f"{self._stem.name}.{quote(link, safe='')}{_SUFFIX}")
        )

    def _ends_file(self, fingerprint: str) -> Path | None:
        return None if self._ends is None else self._ends / f"ends-{_short(fingerprint)}{_SUFFIX}"

    def _read(self, path: Path | None) -> KnownRun | None:
        if path is None:
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            finished = found["finished_at"]
            return KnownRun(
                str(found["state"]),
                int(found["run"]),
                float(found["started_at"]),
                None if finished is None else float(finished),
                str(found.get("link", "")),
                str(found.get("where", "")),
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain(path, error.strerror or str(error))
        except (ValueError, KeyError, TypeError):
            self._complain(path, "its text is not what syncd writes")
        return None

    def _write(self, path: Path | None, known: KnownRun | None, beside: Path | None) -> None:
        if path is None:
            return
        try:
            if known is None:
                path.unlink(missing_ok=True)
            else:
                _replace(path, json.dumps(known._asdict()) + "\n", beside or path.parent)
        except OSError as error:
            self._complain(path, error.strerror or str(error))

    def _complain(self, path: Path, reason: str) -> None:
        if path not in self._complained:
            self._complained.add(path)
            log.warning("high-water mark not kept", file=str(path), reason=reason)


def mark_files(url: str, environ: Mapping[str, str]) -> MarkFiles:
    """Given the URL of a state database and the environment, return its marks.

    Raises:
        ConfigError: The URL is not one of a state database.
    """
    where, path, folder = database_identity(url), file_of(read_url(url)), _state_folder(environ)
    if path is not None:
        # In a container the home may be unwritable: a database on a volume has all marks beside it.
        usable = folder is not None and _nearest(folder).is_dir() and os.access(_nearest(folder), os.W_OK)
        return MarkFiles(where, path, path, folder if usable else path.parent)
    return MarkFiles(where, None if folder is None else folder / _short(where), None, folder)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _state_folder(environ: Mapping[str, str]) -> Path | None:
    """Return the first of the folders for state that systemd, XDG and custom name; None without one."""
    if environ.get("STATE_DIRECTORY"):
        return Path(environ["STATE_DIRECTORY"].split(":", maxsplit=1)[0])
    if environ.get("XDG_STATE_HOME"):
        return Path(environ["XDG_STATE_HOME"]) / "syncd"
    home = environ.get("HOME")
    return Path(home) / ".local" / "state" / "syncd" if home and Path(home).is_dir() else None


def _nearest(folder: Path) -> Path:
    """Return the folder, or that one of its parents that is there and in which it would be made."""
    return next(one for one in (folder, *folder.parents) if one.exists())


def _replace(path: Path, text: str, beside: Path) -> None:
    """Replace a file's text; after a power cut it has the old text or the new one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        hand_over(descriptor, beside)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
