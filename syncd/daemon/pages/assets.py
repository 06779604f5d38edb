"""The few files the browser loads besides the pages, kept in memory, under names that change with their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class Asset(NamedTuple):
    """One file: its bytes, its content type, and a mark that changes with the bytes."""

    body: bytes
    media_type: str
    mark: str


@cache
def assets() -> Mapping[str, Asset]:
    """Return all files of `syncd/daemon/static` by name."""
    found = {}
    for entry in resources.files("syncd.daemon").joinpath("static").iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in TYPES:
            body = entry.read_bytes()
            found[entry.name] = Asset(body, TYPES[suffix], hashlib.sha256(body).hexdigest()[:12])
    return found


def asset_url(name: str) -> str:
    """Given a file's name, return its address on this site."""
    return f"/static/{name}?v={assets()[name].mark}"


async def serve_asset(request: Request) -> Response:
    """Answer a request for a file. Under its marked address it may be kept for ever."""
    asset = assets().get(request.path_params["name"])
    if asset is None:
        return PlainTextResponse("There is no such file.\n", 404)
    marked = request.query_params.get("v") == asset.mark
    headers = {"Cache-Control": "public, max-age=31536000, immutable" if marked else "no-cache"}
    return Response(asset.body, media_type=asset.media_type, headers=headers)
