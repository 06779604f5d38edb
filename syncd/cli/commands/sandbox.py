"""`sandbox` and `demo`: a portal for trials, and the whole job on one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from syncd.cli import options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.core.ports import Cancelled
    from syncd.sandbox import Faults, SandboxServer


@options.command("sandbox", short_help="Serve a sandbox portal.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port.  [default: a free one]")
@click.option("--rows", type=click.IntRange(min=0), default=0, help="Orders 1 to this number, bound to deals.")
@click.option("--tls", is_flag=True, help="Serve https, with a certificate made now.")
@click.option(
    "--ca-file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write that certificate here."
)
@click.option("--limits", is_flag=True, help="Enforce the request and operating limits of a cloud portal.")
@click.option("--bill-batches", is_flag=True, help="Charge operating time to batch, not to the methods in it.")
@click.option("--latencies", is_flag=True, help="Answer as slowly as a real portal does, by the documentation.")
@click.option(
    "--faults",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="A script of what goes wrong, as JSON.",
)
@click.option("--code", default="sandboxsecret", show_default=True, help="The webhook's code; any other is refused.")
@click.option(
    "--release",
    type=click.Choice(["new", "mid", "old"]),
    default="new",
    show_default=True,
    help="Which release of the portal to imitate.",
)
@click.option(
    "--references",
    type=click.Choice(["everywhere", "whole-values", "no-exponents"]),
    default="everywhere",
    show_default=True,
    help="Where a batch resolves $result; conditional writes need `everywhere`.",
)
@click.option("--events", default="", metavar="URL", help="Send the events of saved and deleted orders here.")
@click.option(
    "--events-token", default="sandboxeventtoken", show_default=True, help="The application token of these events."
)
def sandbox(
    app: App,
    port: int,
    rows: int,
    tls: bool,
    ca_file: Path | None,
    limits: bool,
    bill_batches: bool,
    latencies: bool,
    faults: Path | None,
    code: str,
    release: str,
    references: str,
    events: str,
    events_token: str,
) -> int:
    """Serve a portal on loopback that behaves as a real one does, until SIGINT or SIGTERM.

    The first line on stdout is the URL of its webhook.
    """
    if bill_batches and not limits:
        raise click.UsageError("--bill-batches belongs to --limits.")
    if ca_file is not None and not tls:
        raise click.UsageError("--ca-file belongs to --tls.")
    app.log()
    from syncd.cli import stopping
    from syncd.sandbox import References, ServeOptions, Version, handler_problem, serve

    if events and (problem := handler_problem(events)):
        raise click.UsageError(f"--events {problem}.")

    made = ServeOptions(
        port=port,
        rows=rows,
        tls=tls,
        limits=limits,
        latencies=latencies,
        faults=_faults(faults),
        code=code,
        version=Version(release),
        references=References(references),
        bill_batches=bill_batches,
        events=events,
        events_token=events_token,
    )

    def ready(server: SandboxServer) -> None:
        if ca_file is not None:
            ca_file.write_text(server.ca_pem, encoding="utf-8")
        click.echo(server.webhook_url)

    return stopping.serve(lambda: serve(made, ready))


def _faults(path: Path | None) -> Faults:
    from syncd.errors import UsageError
    from syncd.sandbox import Faults

    if path is None:
        return Faults()
    try:
        return Faults.load(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UsageError(f"The fault script {path} cannot be used: {error}.") from None


@options.command("demo", short_help="See the whole job on this machine; needs nothing.")
def demo(app: App) -> int:
    """Play the whole job on this machine: a portal, a table, edits on both sides, a conflict.

    The portal is a sandbox on a loopback port, spoken to over real HTTP, and the mapping table an SQLite file; both are
    gone afterwards. Needs no configuration, and leaves nothing behind.
    """
    app.log("error")
    from syncd.cli import stopping
    from syncd.cli.demo import play

    async def work(cancelled: Cancelled) -> int:
        return 0 if await play(app.screen, cancelled) else 1

    return stopping.run(work)
