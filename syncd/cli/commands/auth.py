"""`auth`: the authorisation of an OAuth application."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import click

from syncd.cli import options
from syncd.cli.app import App, who
from syncd.cli.streams import prompt
from syncd.errors import UnavailableError

if TYPE_CHECKING:
    import asyncio

    from syncd.config.model import PortalSettings
    from syncd.core.ports import Cancelled
    from syncd.portal.factory import Authorisation
    from syncd.wiring import AppContext


@options.command("auth", short_help="Authorise an OAuth application.")
@options.one_link
@click.option(
    "--listen",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Wait for the browser at http://127.0.0.1:PORT/, if that is the application's redirect address.",
)
def auth(app: App, link: str | None, listen: int | None) -> int:
    """Authorise a link's application, and store its tokens in the state database.

    Open the address that is shown, in a browser that is signed in to the portal. The portal then sends the browser to
    the application's own address; paste that address here, or let --listen receive it. Its code is valid for 30
    seconds. From then on tokens are renewed automatically.
    """
    from syncd.cli.screen import Line
    from syncd.wiring import named_links

    settings = app.load().settings
    (name,) = named_links(settings, [link] if link else [], one=True)
    portal = settings.links[name].portal
    _require_oauth(name, portal)
    url, state = _begin(app, name)
    # The address is for the operator's browser, so it is printed as it is; its state is useless to others.
    click.echo("Open this address in a browser that is signed in to the portal:", err=True)
    click.echo(url)
    code, server = _from_browser(app, listen, state) if listen else _pasted(state)

    async def work(context: AppContext, _: Cancelled) -> int:
        authorisation = await _authorisation(context, name)
        try:
            await authorisation.complete(code, server)
        finally:
            await authorisation.aclose()
        row = await context.store.find_link(name)
        if row is not None and row.parked:  # most likely because these tokens were missing
            await context.store.post_request(name, "trigger", who(), context.clock.now())
        app.screen.show([Line(f"Authorised; the tokens of link {name} are in the state database.", "good")])
        app.screen.show([Line("To see that it works:"), Line(f"syncd check {name}", "command", indent=2)])
        return 0

    return app.perform(work)


def _require_oauth(name: str, portal: PortalSettings) -> None:
    from syncd.errors import ConfigError

    if portal.oauth is None:
        raise ConfigError(
            f"Link {name} has a webhook, which needs no authorisation.",
            hint=f"For an application, give it [links.{name}.portal.oauth] instead.",
        )


def _begin(app: App, name: str) -> tuple[str, str]:
    """Return the address to open, and the state the redirect must bring back."""
    found: list[tuple[str, str]] = []

    async def work(context: AppContext, _: Cancelled) -> int:
        authorisation = await _authorisation(context, name)
        found.append((authorisation.url, authorisation.state))
        await authorisation.aclose()
        return 0

    app.perform(work)
    return found[0]


async def _authorisation(context: AppContext, name: str) -> Authorisation:
    from syncd.portal.factory import Authorisation

    settings = context.settings.links[name].portal
    row = await context.store.find_link(name)
    # At the same address it must be the same portal; what is at another one, the next run finds out.
    member_id = row.member_id if row is not None and row.portal == settings.address else ""
    return Authorisation(settings, link=name, hosts=context.hosts, store=context.store, member_id=member_id)


def _pasted(state: str) -> tuple[str, str]:
    """Ask for the address that the browser was sent to. Its code is valid for 30 seconds, so it may be shown."""
    text: str = prompt("The address the browser was sent to", err=True)
    return answer_in(text, state)


def _from_browser(app: App, port: int, state: str) -> tuple[str, str]:
    from syncd.cli import stopping

    found: list[tuple[str, str]] = []

    async def work() -> None:
        found.append(answer_in(await wait_for_redirect(port, lambda path: _belongs(path, state)), state))

    app.log()
    stopping.serve(work)
    if not found:
        raise click.Abort
    return found[0]


def _belongs(path: str, state: str) -> bool:
    """Whether an address is the redirect that is waited for; any page could send a browser to a listening port."""
    query = parse_qs(urlsplit(path).query)
    return bool(query.get("code")) and query.get("state") == [state]


def answer_in(text: str, state: str) -> tuple[str, str]:
    """Given the address of the redirect, or only its code, return the code and the authorisation server, if named.

    Args:
        text: The address, or the code alone.
        state: What an address must bring back.

    Raises:
        UsageError: It brings no code, or belongs to another authorisation.
    """
    from syncd.errors import UsageError

    text = text.strip()
    if "?" not in text:
        return text, ""
    query = {name: values[0] for name, values in parse_qs(urlsplit(text).query).items()}
    if not query.get("code"):
        raise UsageError("That address contains no code; nothing was stored.", hint="Paste the whole address.")
    if query.get("state") != state:
        raise UsageError(
            "That address belongs to another authorisation, since its state is not the one sent; nothing was stored.",
            hint="Run the command again, and paste the address that its own page leads to.",
        )
    return query["code"], query.get("server_domain", "")


_DONE = "Done. You can close this page and go back to the terminal."
_OTHER = "syncd waits for another address. Open the one that the terminal shows."
_PAGE = "<!doctype html><title>syncd</title><p>{}</p>"
_HEAD = "HTTP/1.1 {}\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"
_LONGEST = 64 * 1024


async def wait_for_redirect(port: int, belongs: Callable[[str], bool]) -> str:
    """Wait for the browser. Other requests are answered, and the wait continues.

    Args:
        port: Where to listen, on 127.0.0.1.
        belongs: Whether a request's path and query are the answer that is waited for.

    Returns:
        That path and query.

    Raises:
        UnavailableError: The port cannot be opened.
    """
    import asyncio

    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    served: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served[asyncio.current_task()] = writer
        try:
            line = (await reader.readline()).decode("latin-1").split()
            path = line[1] if len(line) > 1 else ""
            while (await reader.readline()).strip():
                pass
            is_it = belongs(path)
            page = _PAGE.format(_DONE if is_it else _OTHER)
            writer.write((_HEAD.format("200 OK" if is_it else "400 Bad Request", len(page)) + page).encode())
            await writer.drain()
            if is_it and not found.done():
                found.set_result(path)
        except (OSError, ValueError, asyncio.LimitOverrunError):
            pass  # a browser that went away, or another protocol: the wait continues
        finally:
            writer.close()
            del served[asyncio.current_task()]

    try:
        server = await asyncio.start_server(serve, "127.0.0.1", port, limit=_LONGEST)
    except OSError as error:
        raise UnavailableError(f"Port {port} cannot be opened: {error.strerror or error}.") from None
    try:
        return await found
    finally:
        server.close()
        for writer in served.values():  # browsers keep connections open that they never use
            writer.close()
        while served:  # noqa: ASYNC110 - each of them ends within a few turns of the loop
            await asyncio.sleep(0)
