"""A stream that a program takes for a terminal."""

from __future__ import annotations

import io


class Terminal(io.StringIO):
    """Keeps what is printed; its columns come from the environment."""

    def isatty(self) -> bool:
        return True
