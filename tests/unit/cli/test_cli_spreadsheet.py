"""Held orders as a spreadsheet, there and back."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from syncd.cli import spreadsheet
from syncd.core.model import Action, Change, Facts, Hold, HoldKind, Outcome, Owner, Reason, Side
from syncd.core.records import PortalNames, RunRow, StoredChange, StoredHold
from syncd.errors import UsageError
from syncd.status.owners import NO_LABELS, Labels

NOW = 1_800_000_000.0


def held(order: int, *, crm: int = 11, table: int | None = 12, detail: str = "Both changed it.") -> StoredHold:
    facts = Facts(Owner(2, crm), None if table is None else Owner(2, table), None)
    return StoredHold(Hold(order, HoldKind.EDIT_EDIT, facts, detail, since=NOW), sticky=False)


def written(*holds: StoredHold, labels: Labels = NO_LABELS) -> str:
    return "".join(spreadsheet.csv_lines(spreadsheet.rows_of_holds({"shop": holds}, {"shop": labels})))


def _file(folder: Path, text: str) -> Path:
    path = folder / "holds.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_given_holds_then_each_is_a_row_with_what_the_sides_say_and_two_columns_to_fill_in() -> None:
    rows = list(csv.DictReader(io.StringIO(written(held(5), held(6, table=None)))))
    assert [(row["order_id"], row["crm"], row["table"], row["decision"]) for row in rows] == [
        ("5", "type 2: 11", "type 2: 12", ""),
        ("6", "type 2: 11", "", ""),
    ]
    assert rows[0]["since"] == "2027-01-15T08:00:00+00:00"


def test_given_a_detail_that_begins_like_a_formula_then_no_spreadsheet_takes_it_for_one() -> None:
    rows = list(csv.DictReader(io.StringIO(written(held(5, detail="=cmd|' /C calc'!A0")))))
    assert rows[0]["detail"].startswith("'=")


@pytest.mark.parametrize(
    "title", ["=1+1", "  +1", "-1", "@SUM(A1)", "Desks;=1+1", 'Desks, "=1+1', "Desks\t=1+1", "\r=1"]
)
def test_given_a_title_with_a_formula_then_no_spreadsheet_takes_it_for_one_wherever_it_divides_cells(
    title: str,
) -> None:
    labels = Labels("https://x.example", PortalNames({Owner(2, 11): title}))
    (row,) = csv.DictReader(io.StringIO(written(held(5), labels=labels)))
    cells = [cell for sign in ";,\t" for cell in row["crm_title"].replace('"', sign).split(sign)]
    assert not [cell for cell in cells if cell.strip().startswith(("=", "+", "-", "@"))]


def test_given_titles_then_they_stand_beside_the_owners_and_the_order_has_its_address() -> None:
    labels = Labels("https://x.example", PortalNames({Owner(2, 11): "Desks for Elm Bakery"}))
    (row,) = csv.DictReader(io.StringIO(written(held(5), labels=labels)))
    assert (row["crm_title"], row["table_title"]) == ("Desks for Elm Bakery", "")
    assert row["order_url"] == "https://x.example/shop/orders/details/5/"


def test_given_markdown_then_no_cell_is_taken_for_markup_and_each_row_has_all_columns() -> None:
    labels = Labels("", PortalNames({Owner(2, 11): "a | b\n<img src=x> [click](http://x) **now** @all `x`"}))
    holds = spreadsheet.rows_of_holds({"shop": [held(5)]}, {"shop": labels})
    heads, rule, row = "".join(spreadsheet.markdown_lines(holds)).splitlines()
    assert rule == "|" + " --- |" * len(spreadsheet.HEADS)
    bare = row.replace("\\\\", "").replace("\\|", "")
    assert bare.count("|") == heads.count("|") == len(spreadsheet.HEADS) + 1
    assert r"\<img src=x\> \[click\](http://x) \*\*now\*\* &#64;all \`x\`" in row


def test_given_a_run_then_each_change_and_each_held_order_is_a_row() -> None:
    change = Change(7, Side.TABLE, Action.MOVE, Owner(2, 1), Owner(2, 2), Reason.CRM_CHANGED, Facts(None, None, None))
    stored = [
        StoredChange(1, 3, change, Outcome.PLANNED),
        StoredChange(2, 3, replace(change, action=Action.AGREE, side=None), Outcome.PLANNED),
    ]
    labels = Labels("", PortalNames({Owner(2, 2): "Lamps"}))
    rows = spreadsheet.rows_of_changes(RunRow(3, "shop", 1, "plan", "planned"), stored, [held(5).hold], labels)
    assert list(csv.reader(spreadsheet.csv_lines(rows)))[1:] == [
        ["shop", "3", "7", "table", "move", "type 2: 1", "", "type 2: 2", "Lamps", "crm-changed", "planned", ""],
        ["shop", "3", "5", "", "held", "", "", "", "", "edit-edit", "held", "Both changed it."],
    ]


def test_given_what_was_written_with_decisions_filled_in_then_it_is_read_back(tmp_path: Path) -> None:
    text = written(held(5), held(6))
    lines = text.splitlines()
    lines[1] = lines[1].removesuffix(",,") + ",CRM,deal 11 has the invoice"
    (row,) = spreadsheet.read(_file(tmp_path, "\n".join(lines)))
    assert row[:5] == (2, "shop", 5, "crm", "deal 11 has the invoice")
    assert not spreadsheet.differs(row, held(5))
    assert spreadsheet.differs(row, held(5, crm=99))


def test_given_a_link_whose_name_begins_like_a_formula_then_its_rows_are_read_back_as_its_own(tmp_path: Path) -> None:
    rows = spreadsheet.rows_of_holds({"-shop": [held(5)]}, {})
    text = "".join(spreadsheet.csv_lines([*row[:-2], row[-2] or "crm", row[-1]] for row in rows))
    assert [(row.link, row.decision) for row in spreadsheet.read(_file(tmp_path, text))] == [("-shop", "crm")]


@pytest.mark.parametrize("order", [-281_474_976_710_000, 0])
def test_given_a_hold_of_rows_that_name_no_order_then_its_row_is_read_back_as_its_own(
    tmp_path: Path, order: int
) -> None:
    rows = spreadsheet.rows_of_holds({"shop": [held(order), held(6)]}, {})
    text = "".join(spreadsheet.csv_lines([*row[:-2], row[-2] or "crm", row[-1]] for row in rows))
    assert [row.order_id for row in spreadsheet.read(_file(tmp_path, text))] == [order, 6]


def test_given_semicolons_and_a_byte_order_mark_then_it_is_read_all_the_same(tmp_path: Path) -> None:
    (row,) = spreadsheet.read(_file(tmp_path, "\ufefforder_id;decision;comment\n5;table;a, b\n6;;\n"))
    assert (row.order_id, row.decision, row.comment, dict(row.facts)) == (5, "table", "a, b", {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("order;decision\n5;crm\n", "has no column order_id"),
        ("order_id,decision\n5,both\n", "line 2: the decision 'both' is not crm, table or retry"),
        ("order_id,decision\n5,crm\nx5,crm\n", "line 3: 'x5' is not an order id"),
        (f"order_id,decision\n{'9' * 5000},crm\n", "line 2: '9+' is not an order id"),
        (f"order_id,decision\n{2**63},crm\n", "is not an order id"),
        ("order_id,decision\n--5,crm\n", "'--5' is not an order id"),
        ("order_id,decision\n'=5,crm\n", "is not an order id"),
        (
            "order_id,decision\n5,crm\n5,crm\n5,table\n",
            "line 4: order 5 is decided as crm in line 2, and as table here",
        ),
        (f"order_id,decision,detail\n5,crm,{'x' * 200_000}\n", "cannot be read as CSV: field larger"),
        (f"order_id,decision,{'x' * 200_000}\n", "cannot be read as CSV: field larger"),
    ],
)
def test_given_a_file_that_cannot_be_understood_then_nothing_is_decided(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        spreadsheet.read(_file(tmp_path, text))
    assert "Nothing was decided" in str(caught.value)
