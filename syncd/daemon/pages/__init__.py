"""The status page: what a person looks at to see how the links are. Reading only, and nothing from elsewhere.

`site` renders the templates, answers errors, checks what a request asks for, and looks at the links, once for all who
watch; each of `links`, `runs` and `orders` turns what is stored into the values of its templates. The browser's
part (`syncd/daemon/static/page.js`) fetches the page again every few seconds and changes only what is different; where
scripts are off, a reload does the same.

The Content-Security-Policy of `syncd.daemon.web_server` allows no inline script or style, and nothing from another
origin.
"""

from __future__ import annotations

from starlette.routing import BaseRoute, Route

from syncd.daemon.pages import links, orders, runs
from syncd.daemon.pages.site import DaemonState, Site, serve_asset

__all__ = ["DaemonState", "routes"]


def routes(daemon: DaemonState) -> list[BaseRoute]:
    """Given the daemon as it sees itself (`syncd.daemon.web.WebViews`), return the routes of the status page."""
    site = Site(daemon)
    return [
        Route("/", site.page(links.overview)),
        Route("/links/{link}", site.page(links.show)),
        Route("/links/{link}/series.json", site.page(links.series)),
        Route("/links/{link}/holds", site.page(orders.open_holds)),
        Route("/links/{link}/orders/{order}", site.page(orders.show)),
        Route("/holds", site.page(orders.open_holds)),
        Route("/orders", site.page(orders.search)),
        Route("/runs", site.page(runs.listing)),
        Route("/runs/{run}", site.page(runs.show)),
        Route("/static/{name}", serve_asset),
    ]
