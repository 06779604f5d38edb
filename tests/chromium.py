"""Chromium without a window, driven by its command line alone."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
"""Where it is installed; None where it is not."""
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
LONGEST = 90.0
"""Seconds after which a page is given up."""


async def visit(chromium: str, address: str, profile: Path, *flags: str, seconds: int, size: str) -> tuple[str, str]:
    """Open a page; return what the browser printed, and what it logged.

    Args:
        chromium: The program.
        address: The page.
        profile: A folder of its own.
        flags: More options, such as what to do with the page.
        seconds: How much of the page's own time passes.
        size: The window's width and height in pixels, `1280,900`.

    Raises:
        TimeoutError: It took too long, and was killed.
    """
    process = await asyncio.create_subprocess_exec(
        chromium,
        *FLAGS,
        f"--user-data-dir={profile}",
        f"--window-size={size}",
        f"--virtual-time-budget={seconds * 1000}",
        "--enable-logging=stderr",
        *flags,
        address,
        # Its crash reports and settings are written beside the profile, not into the home of the person who runs the tests.
        env=os.environ | {"TZ": "UTC", "XDG_CONFIG_HOME": str(profile), "XDG_CACHE_HOME": str(profile)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LONGEST):
            out, log = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return out.decode(), log.decode(errors="replace")
