"""A terminal to print to."""

from __future__ import annotations

import io


class Terminal(io.StringIO):
    """Keeps what is printed, and says that it is a terminal. Its columns come from the environment."""

    def isatty(self) -> bool:
        """See `io.IOBase`."""
        return True
