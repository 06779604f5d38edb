"""Permissions that count for root, too.

As a program it starts the interpreter with the arguments it is given, as a process that has to obey them.
"""

from __future__ import annotations

import ctypes
import os
import sys


def obey_permissions() -> None:
    """Let this process, once it becomes another program, no longer override the permissions of files."""
    bounding_set_drop, dac_override, dac_read_search = 24, 1, 2
    if os.getuid() == 0:
        for capability in (dac_override, dac_read_search):
            ctypes.CDLL(None).prctl(bounding_set_drop, capability, 0, 0, 0)


if __name__ == "__main__":
    obey_permissions()
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
