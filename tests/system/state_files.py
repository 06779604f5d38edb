"""Backups of a state database in a file, made and restored as docs/how-to/back-up.md says."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path


def back_up(state: Path, copy: Path) -> Path:
    """Copy a state database, which may be in use; return the copy."""
    with closing(sqlite3.connect(state)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def restore(state: Path, copy: Path) -> None:
    """Put a copy in the place of a state database that no process has open, and remove the files beside it."""
    for file in state.parent.glob(f"{state.name}-*"):
        file.unlink()
    shutil.copy(copy, state)
    state.chmod(0o600)
