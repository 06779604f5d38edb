"""The pictures of the status page in the docs: how they are made, and what each was made of.

Pixels depend on the browser and its fonts. So a picture carries, as a text of its file, a digest of each thing that
the browser was given: the page, its style, its scripts, the values of its plots. A test makes the same pages without
a browser and compares.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx

from syncd import __version__
from syncd.daemon.web_server import WebServer
from tests.chromium import visit
from tests.figures.shown_links import DECIDED, OUTLET, SHOP, WHOLESALE, shown_links
from tests.unit.pages.shown_daemon import ShownDaemon, web

FOLDER = Path(__file__).parents[2] / "docs/screenshots"


class Shot(NamedTuple):
    """One picture.

    Args:
        name: Its file in the folder, without the suffix.
        path: The page; `{refused}` stands for the run that was refused.
        size: The window's width and height in pixels. The page's foot, which names the version, is not in it.
        dark: Whether the reader's system is dark.
    """

    name: str
    path: str
    size: str
    dark: bool = False


SHOTS = (
    Shot("overview-light", "/", "1200,968"),
    Shot("overview-phone", "/", "390,844"),
    Shot("link-light", f"/links/{SHOP}", "1280,856"),
    Shot("run-light", "/runs/{refused}", "1120,760"),
    Shot("order-light", f"/links/{OUTLET}/orders/{DECIDED}", "1000,1000"),
    Shot("holds-dark", f"/links/{OUTLET}/holds", "1120,1000", dark=True),
)
NO_BROWSER = "No Chromium was found (apt-get install chromium): the pictures of the status page were not made."


async def take(chromium: str | None, folder: Path, day: Path, shots: tuple[Shot, ...] = SHOTS) -> str:
    """Make the pictures in a folder; return a sentence that says what was made.

    Args:
        chromium: The browser; without one no picture is made.
        folder: Where they are put.
        day: The state database that the pages show (`make_day`).
        shots: The pictures.
    """
    if chromium is None:
        return NO_BROWSER
    with TemporaryDirectory(prefix="syncd-pictures-") as place:
        async with shown_links(Path(place), day) as world:
            server = WebServer(web(world), ("127.0.0.1", 0))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(server.run())
                await server.started()
                for shot in shots:
                    raw = await _take(chromium, shot, world, f"http://127.0.0.1:{server.port}", Path(place))
                    picture = with_text(raw.read_bytes(), json.dumps(await sources(shot, world)))
                    (folder / raw.name).write_bytes(picture)
                server.stop()
    return f"Pictures of the status page were made in {folder}: {', '.join(shot.name for shot in shots)}."


async def _take(chromium: str, shot: Shot, world: ShownDaemon, site: str, place: Path) -> Path:
    path, raw = await _path(shot, world), place / f"{shot.name}.png"
    flags = [f"--screenshot={raw}", *(["--blink-settings=preferredColorScheme=0"] if shot.dark else [])]
    _, log = await visit(chromium, site + path, place / shot.name, *flags, seconds=3, size=shot.size)
    assert raw.is_file(), log
    return raw


async def _path(shot: Shot, world: ShownDaemon) -> str:
    (refused,) = await world.store.runs_in_state(WHOLESALE, "refused", among=1, limit=1)
    return shot.path.format(refused=refused)


async def sources(shot: Shot, world: ShownDaemon) -> dict[str, str]:
    """Given a picture, return a digest of each thing that the browser is given for it, by name."""
    client = httpx.AsyncClient(transport=httpx.ASGITransport(web(world)), base_url="http://syncd")
    async with client:
        page = (await client.get(await _path(shot, world))).raise_for_status().text
        found = {"page": _digest(_MARK.sub("", page.replace(f"syncd {__version__}", "syncd")).encode())}
        for address in dict.fromkeys(_GIVEN.findall(page)):
            name = address.partition("?")[0].rpartition("/")[2]
            found[name] = _digest((await client.get(address)).raise_for_status().content)
    return found


_GIVEN = re.compile(r'(?:href|src|data-series)="(/static/[^"]+|[^"]+/series\.json[^"]*)"')
_MARK = re.compile(r"(?<=\?v=)\w+")
"""What tells one edition of a file from another in its address: the files have digests of their own."""


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


# ------------------------------------------------------------------------ PNG

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"Source\0"


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_text(png: bytes, text: str) -> bytes:
    """Given a picture, return it with a text that says what it was made of."""
    head, *rest = _chunks(png)
    return _SIGNATURE + b"".join(_chunk(*one) for one in (head, (b"tEXt", _KEYWORD + text.encode()), *rest))


def text_in(png: bytes) -> str:
    """Given a picture, return the text that says what it was made of; empty where it has none."""
    texts = [data for kind, data in _chunks(png) if kind == b"tEXt" and data.startswith(_KEYWORD)]
    return texts[0].removeprefix(_KEYWORD).decode() if texts else ""
