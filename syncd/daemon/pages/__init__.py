"""The status page: what a person looks at to see how the links are. Reading only, and nothing from elsewhere.

`site` renders the templates and answers errors; `glimpse` looks at the links, once for all who watch; each of
`overview`, `links`, `runs`, `orders` and `holds` turns what is stored into the values of its templates. The browser's
part (`syncd/daemon/static/page.js`) fetches the page again every few seconds and changes only what is different; where
scripts are off, a reload does the same.

The Content-Security-Policy comes from `syncd.daemon.web`: no inline script or style, nothing from another origin.
"""

from __future__ import annotations

from starlette.routing import BaseRoute, Route

from syncd.daemon.pages import holds, links, orders, overview, runs
from syncd.daemon.pages.assets import serve_asset
from syncd.daemon.pages.glimpse import Watched
from syncd.daemon.pages.site import Site

__all__ = ["Watched", "routes"]


def routes(watched: Watched) -> list[BaseRoute]:
    """Given the daemon as it sees itself (`syncd.daemon.views.Views`), return the routes of the status page."""
    site = Site(watched)
    return [
        Route("/", site.page(overview.show)),
        Route("/links/{link}", site.page(links.show)),
        Route("/links/{link}/series.json", site.page(links.series)),
        Route("/links/{link}/holds", site.page(holds.show)),
        Route("/links/{link}/orders/{order}", site.page(orders.show)),
        Route("/holds", site.page(holds.show)),
        Route("/orders", site.page(orders.search)),
        Route("/runs", site.page(runs.listing)),
        Route("/runs/{run}", site.page(runs.show)),
        Route("/static/{name}", serve_asset),
    ]
