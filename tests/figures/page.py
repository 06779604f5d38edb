"""The page of figures: before and after, the packages, and the way of a pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tests.figures.passing import Way

_SHARES = {
    "import lines": "lines",
    "docstring lines": "lines",
    "modules with one importer": "files",
    "lines in modules with one importer": "lines",
}
"""Figures that say more as a part of another one: the tree has grown in between."""
_MODULES = ("median module, lines", "longest module, lines")
_HEAD = """# Figures

Made by `make figures`. "Before" is commit a6ee058, which was compared with other projects of the field. syncd does more
since then (order numbers, partitions, windows, titles), so compare the shares rather than the sums.

The test suite was timed in `make test` of either tree, one after the other on the same two quiet cores, on 2026-12-01:
5,264 tests one by one (521 s), and 8,852 by four workers (349 s, commit 4b890f5 with `WORKERS=4`): 33 % less.
"""


def page(
    before: Mapping[str, float],
    now: Mapping[str, float],
    *,
    packages: Mapping[str, Mapping[str, float]],
    twice: Sequence[str],
    walked: Mapping[str, Way],
) -> str:
    """Return the page as Markdown."""
    names = [*before, *(name for name in now if name not in before)]
    parts = [
        _HEAD,
        _table(["figure", "before", "now"], ([name, _shown(before, name), _shown(now, name)] for name in names)),
        "## Packages\n",
        _table(
            ["package", "files", "lines", "median module", "longest module"],
            (
                [f"`{name}`", *(f"{figures[key]:,.0f}" for key in ("files", "lines", *_MODULES))]
                for name, figures in packages.items()
                if figures
            ),
        ),
        f"Class names used twice: {', '.join(f'`{name}`' for name in twice) or 'none'}.\n",
        *(part for what, way in walked.items() for part in _way(what, way)),
    ]
    return "\n".join(parts)


def _shown(figures: Mapping[str, float], name: str) -> str:
    if name not in figures:
        return "not measured"
    value = f"{figures[name]:,.0f}"
    return f"{value} ({figures[name] / figures[_SHARES[name]]:.1%})" if name in _SHARES else value


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:" for _ in head[1:]]], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _way(what: str, way: Way) -> list[str]:
    kind = {"request": "request", "write": "write in the portal"}[what]
    return [f"## From `main()` to the first {kind}\n", "```", *way.calls, "```\n"]
