"""`sandbox`: a portal to try things on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from syncd.cli import options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.sandbox import Faults, SandboxServer


@options.command("sandbox", short_help="Serve a portal to try things on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port.  [default: a free one]")
@click.option("--rows", type=click.IntRange(min=0), default=0, help="Orders 1 to this number, bound to deals.")
@click.option("--tls", is_flag=True, help="Serve https, with a certificate made now.")
@click.option(
    "--ca-file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write that certificate here."
)
@click.option("--limits", is_flag=True, help="Keep the request and operating limits of a cloud portal.")
@click.option("--latencies", is_flag=True, help="Take as long as the documentation says a real portal does.")
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
    help="Which portal to play.",
)
def sandbox(
    app: App,
    port: int,
    rows: int,
    tls: bool,
    ca_file: Path | None,
    limits: bool,
    latencies: bool,
    faults: Path | None,
    code: str,
    release: str,
) -> int:
    """Serve a portal on loopback that behaves as a real one does, until SIGINT or SIGTERM.

    The first line on stdout is the URL of its webhook.
    """
    if ca_file is not None and not tls:
        raise click.UsageError("--ca-file belongs to --tls.")
    app.log()
    from syncd.cli import stopping
    from syncd.sandbox import ServeOptions, Version, serve

    made = ServeOptions(
        port=port,
        rows=rows,
        tls=tls,
        limits=limits,
        latencies=latencies,
        faults=_faults(faults),
        code=code,
        version=Version(release),
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
