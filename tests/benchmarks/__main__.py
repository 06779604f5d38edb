"""`make bench`: everything that is measured, in one run, into docs/benchmarks.md.

python -m tests.benchmarks [--quick] [--only portal|scale] [--rows 1000000] [--page docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from syncd import __version__
from tests.benchmarks import portal, quick_changes, scale

HEAD = """# Benchmarks

Made by `make bench` (`python -m tests.benchmarks {words}`) on {day}: syncd {version}, Python {python}, {cores} cores, load
{load:.1f} when it began. All figures of a table are from this one run; the clients and the portal are processes of their
own on the same machine, so compare the columns, not the seconds with your own.

"missed" are orders that were bound before, during and after the reading and that the client did not return. syncd may
use the portal's whole limit here (`rate_share = 1`), as the others do.

"""


def main() -> int:
    """Measure, write the page, and say whether every mark was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave out what takes minutes")
    parser.add_argument("--only", choices=["portal", "scale", "quick-changes"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    head = HEAD.format(
        words=" ".join(sys.argv[1:]),
        day=datetime.now(UTC).date(),
        version=__version__,
        python=platform.python_version(),
        cores=os.cpu_count(),
        load=os.getloadavg()[0],
    )
    pages, marks = [head], []
    if options.only in {None, "portal"}:
        page, reached = portal.run(quick=options.quick)
        pages.append("## The portal client\n\n" + page)
        marks += reached
    if options.only in {None, "scale"}:
        page, reached = scale.run(rows=options.rows)
        pages.append("## Whole passes\n\n" + page)
        marks += reached
    if options.only in {None, "quick-changes"} and not options.quick:
        page, reached = quick_changes.run()
        pages.append("## Edits beside a schedule\n\n" + page)
        marks += reached
    lines = ["## Marks", "", "| mark | reached | at most |", "|---|---:|---:|"]
    lines += [f"| {name} | {value:.3g} | {most:g} |" for name, value, most in marks]
    pages.append("\n".join([*lines, ""]))
    print(pages[-1])
    if options.page is not None:
        options.page.write_text("\n".join(pages))
    return 0 if all(value <= most for _, value, most in marks) else 1


if __name__ == "__main__":
    sys.exit(main())
