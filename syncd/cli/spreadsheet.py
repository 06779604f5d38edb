"""Held orders and plans as tables for other programs; a spreadsheet of held orders is read back with its decisions."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from syncd.cli.screen import clean
from syncd.core.model import Hold, MaybeOwner
from syncd.core.order_ranges import parse_order_id
from syncd.core.records import RunRow, StoredChange, StoredHold
from syncd.engine import formatting
from syncd.engine.report import iso
from syncd.errors import UsageError
from syncd.status.owners import NO_LABELS, Labels

SIDES = ("crm", "table", "agreed")
HEADS = (
    "link", "order_id", "key", "kind", "crm", "crm_title", "table", "table_title", "agreed", "agreed_title",
    "order_url", "since", "detail", "decision", "comment",
)  # fmt: skip
CHANGE_HEADS = (
    "link", "run", "order_id", "side", "action", "before", "before_title", "after", "after_title", "reason", "outcome",
    "error",
)  # fmt: skip
_FORMULA = re.compile(r"""(^\s*|[;,"\t\r\n]\s*)(?=[=+\-@\t\r])""")
_MARKUP = re.compile(r"([\\`*_\[\]<>|~#!&])")
DECISIONS = ("crm", "table", "retry")


Cells: TypeAlias = Iterable[list[str]]


class DecisionRow(NamedTuple):
    """One row of a spreadsheet that decides: its line, the order, the decision, why, and what the sides said then.

    As in a hold, order 0 means rows without a readable order id, a number below 0 a key that no order has.
    """

    line: int
    link: str
    order_id: int
    decision: str
    comment: str
    facts: Mapping[str, str]


def rows_of_holds(
    by_link: Mapping[str, Iterable[StoredHold]],
    labels: Mapping[str, Labels],
    keys: Mapping[str, Mapping[int, str]] = MappingProxyType({}),
) -> Iterator[list[str]]:
    """Given the open holds of some links, yield a heading and a row for each; a person fills in decision and comment.

    Args:
        by_link: The holds.
        labels: By link, the titles and addresses that are known.
        keys: By link, the keys of held orders, where the table holds keys of the shop's own.
    """
    yield [*HEADS]
    for link, held in by_link.items():
        of_link = labels.get(link, NO_LABELS)
        for one in held:
            hold = one.hold
            said = [cell for side in SIDES for cell in _with_title(getattr(hold.facts, side), of_link)]
            url = of_link.order_url(hold.order_id)
            order = [str(hold.order_id or ""), keys.get(link, {}).get(hold.order_id, "")]
            yield [link, *order, hold.kind.value, *said, url, iso(hold.since) or "", hold.detail, one.decision, ""]


def rows_of_changes(
    row: RunRow, changes: Iterable[StoredChange], holds: Iterable[Hold], labels: Labels = NO_LABELS
) -> Iterator[list[str]]:
    """Given a run, yield a heading and a row for each of its changes, and for each order it holds.

    Args:
        row: The run.
        changes: Its changes; agreements are left out.
        holds: The orders held when it ended.
        labels: The titles that are known.
    """
    yield [*CHANGE_HEADS]
    for one in changes:
        change = one.change
        if change.side is not None:
            owners = [*_with_title(one.before, labels), *_with_title(change.after, labels)]
            what = [change.side.value, change.action.value, *owners]
            outcome = formatting.outcome(one.outcome)
            yield [row.link, str(row.id), str(change.order_id), *what, change.reason.value, outcome, one.error]
    for hold in holds:
        order = str(hold.order_id or "")
        yield [row.link, str(row.id), order, "", "held", "", "", "", "", hold.kind.value, "held", hold.detail]


def csv_lines(rows: Cells) -> Iterator[str]:
    """Given rows of cells, yield them as lines of CSV of which no spreadsheet takes a cell for a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        writer.writerow([_FORMULA.sub(r"\1'", clean(cell)) for cell in row])
        yield out.getvalue()
        out.seek(0)
        out.truncate()


def markdown_lines(rows: Cells) -> Iterator[str]:
    """Given a heading and rows of cells, yield a Markdown table of which no cell is taken for markup."""
    for number, row in enumerate(rows):
        yield f"| {' | '.join(map(_literal, row))} |\n"
        if not number:
            yield f"|{' --- |' * len(row)}\n"


FORMS = {"csv": csv_lines, "markdown": markdown_lines}


def read(path: Path) -> list[DecisionRow]:
    """Given a CSV file, return the rows that decide something. Commas or semicolons divide cells.

    Raises:
        UsageError: It cannot be read, lacks a column, or a row says what cannot be understood. Nothing was decided.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"{path} cannot be read: {why}. Nothing was decided.") from None
    head = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text), delimiter=";" if head.count(";") > head.count(",") else ",")
    try:
        missing = [name for name in ("order_id", "decision") if name not in (rows.fieldnames or ())]
        if missing:
            raise UsageError(
                f"{path} has no column {' and no column '.join(missing)}. Nothing was decided.",
                hint="`syncd holds --csv` writes a file with all columns.",
            )
        return list(_rows(path, rows))
    except csv.Error as error:
        raise UsageError(f"{path} cannot be read as CSV: {error}. Nothing was decided.") from None


def differs(row: DecisionRow, stored: StoredHold) -> bool:
    """Given a row and the hold of its order, return whether the sides said something else when the file was written."""
    facts = stored.hold.facts
    return any(said != _owner(getattr(facts, side)) for side, said in row.facts.items())


def _rows(path: Path, rows: csv.DictReader[str]) -> Iterator[DecisionRow]:
    decided: dict[tuple[str, int], tuple[int, str]] = {}
    for cells in rows:
        where = f"{path}, line {rows.line_num}"
        decision = (cells["decision"] or "").strip().lower()
        order = (cells["order_id"] or "").strip()
        if not decision:
            continue
        if decision not in DECISIONS:
            raise UsageError(f"{where}: the decision {decision!r} is not crm, table or retry. Nothing was decided.")
        number = _held_order(order)
        if number is None:
            raise UsageError(f"{where}: {order!r} is not an order id. Nothing was decided.")
        facts = {side: cells[side].strip() for side in SIDES if cells.get(side) is not None}
        # A name such as -shop was written with a ' before it, as a formula would be.
        link, comment = (cells.get("link") or "").strip().removeprefix("'"), (cells.get("comment") or "").strip()
        before = decided.setdefault((link, number), (rows.line_num, decision))
        if before[1] != decision:
            what = f"order {number} is decided as {before[1]} in line {before[0]}, and as {decision} here"
            raise UsageError(f"{where}: {what}. Nothing was decided.")
        yield DecisionRow(rows.line_num, link, number, decision, comment, facts)


def _held_order(text: str) -> int | None:
    """Given the cell of an order as `rows_of_holds` writes it, return the hold's order; None for any other text."""
    if not text:
        return 0
    # A number below zero was written with a ' before it, as a formula would be.
    plain = text.removeprefix("'")
    number = parse_order_id(plain.removeprefix("-"))
    return -number if number is not None and plain.startswith("-") else number


def _owner(owner: MaybeOwner) -> str:
    """An owner as `type:id`, which no spreadsheet takes for a number or a date; nothing where there is none."""
    return "" if owner is None else f"type {owner.owner_type_id}: {owner.owner_id}"


def _with_title(owner: MaybeOwner, labels: Labels) -> list[str]:
    return [_owner(owner), labels.names.titles.get(owner, "") if owner is not None else ""]


def _literal(text: str) -> str:
    """A text that Markdown shows as it is."""
    return _MARKUP.sub(r"\\\1", clean(text)).replace("@", "&#64;")
