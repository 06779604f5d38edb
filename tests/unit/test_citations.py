"""Every page that the code, the tests and the build cite is in the repository, and has the section that is named.

A citation is the name of a page and, where one is meant, a section: its number, a numbered item below it, or its heading
in quotation marks. A page is named by its path, or by its file name alone where only one page in docs/ has that name.
"""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from syncd.core.guards import GuardLimits
from syncd.core.model import HoldKind

ROOT = Path(__file__).parents[2]
PLACES = ("syncd", "tests", "migrations", "deploy", "Makefile", "pyproject.toml")
KINDS = {"", ".py", ".toml", ".sh", ".service", ".timer", ".yaml", ".yml", ".j2", ".html"}
_NUMBER = r"\d+(?:\.\d+)*"
_CITATION = re.compile(
    r"(?<![\w./-])(?P<page>[\w./-]+?\.md\b)"
    rf'(?:,?\s+"(?P<heading>[A-Z][^"\n]*)"|(?P<numbers>(?:(?:,|,? and| to)?\s+{_NUMBER})*))'
)
_HEADING = re.compile(rf"^#+ (?:(?P<number>{_NUMBER})\.? )?(?P<title>.*)$")
_ITEM = re.compile(r"^(\d+)\. ")


def files() -> list[Path]:
    found = [path for place in PLACES for path in [ROOT / place, *(ROOT / place).rglob("*")] if path.is_file()]
    return [path for path in found if path.suffix in KINDS and path != Path(__file__)]


def page_named(name: str) -> Path | None:
    if (ROOT / name).is_file():
        return ROOT / name
    same = [path for path in (ROOT / "docs").rglob("*.md") if path.name == name]
    return same[0] if len(same) == 1 else None


@cache
def sections(page: Path) -> frozenset[str]:
    """Return the numbers of a page's sections, of the items below them, and the titles of its headings."""
    found, number = set[str](), ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if heading := _HEADING.match(line):
            number = heading["number"] or ""
            found |= {number, heading["title"]}
        elif item := _ITEM.match(line):
            found.add(f"{number}.{item[1]}".lstrip("."))
    return frozenset(found)


def cited(numbers: str) -> list[str]:
    """Given "4, 6.3 and 14 to 16", return each number that is named, those of a range included."""
    found = re.findall(_NUMBER, numbers)
    for first, last in re.findall(r"(\d+) to (\d+)", numbers):
        found += [str(number) for number in range(int(first), int(last))]
    return found


def dangling(text: str) -> list[str]:
    """Return the citations in a text that lead nowhere."""
    lost = []
    for citation in _CITATION.finditer(text):
        page = page_named(citation["page"])
        wanted = [citation["heading"]] if citation["heading"] else cited(citation["numbers"] or "")
        if page is None or not set(wanted) <= sections(page):
            lost.append(" ".join(citation[0].split()))
    return lost


_MODULE = re.compile(
    r"\b(?P<path>(?:[a-z]\w*/)+\w+\.py)\b|`(?:[a-z]\w*\.)*(?P<module>[a-z]\w*)\.(?P<name>[A-Z]\w+|\w+_\w+)`"
)


@cache
def modules() -> dict[Path, frozenset[str]]:
    """Return the modules of syncd, each with the functions and classes in it."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return {
        path: frozenset(node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, kinds))
        for path in (ROOT / "syncd").rglob("*.py")
    }


def strays(text: str) -> list[str]:
    """Return the modules that a text names by their paths and that are gone, and the names that moved elsewhere."""
    lost = []
    for named in _MODULE.finditer(text):
        if named["path"]:
            gone = not any((place / named["path"]).is_file() for place in (ROOT, ROOT / "syncd", ROOT / "tests"))
        else:
            homes = [path for path, names in modules().items() if named["name"] in names]
            gone = bool(homes) and not any(named["module"] in {path.stem, path.parent.name} for path in homes)
        lost += [named[0]] if gone else []
    return lost


def test_given_the_code_then_every_module_that_its_docstrings_name_is_there() -> None:
    lost = {str(path.relative_to(ROOT)): found for path in modules() if (found := strays(path.read_text("utf-8")))}

    assert len(modules()) > 100
    assert lost == {}


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("see `keyed.open_table` and `core/order_keys.py`", []),
        ("see `syncd.core.ports.Table`", []),
        ("the option `click.command`, the key `web.user_header`", []),
        ("see `opening.open_table`", ["`opening.open_table`"]),
        ("what the portal says (`portal/order_lookup.py`)", ["portal/order_lookup.py"]),
    ],
)
def test_given_a_module_that_is_named_then_it_is_found_to_be_there_or_not(text: str, lost: list[str]) -> None:
    assert strays(text) == lost


def test_given_the_tree_then_every_page_and_section_that_it_cites_is_there() -> None:
    texts = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in files()}
    cited = {match["page"] for text in texts.values() for match in _CITATION.finditer(text)}

    assert {"portal.md", "sync-rules.md"} <= cited
    assert {name: lost for name, text in texts.items() if (lost := dangling(text))} == {}


def test_given_the_portal_page_then_every_section_it_refers_to_is_there() -> None:
    page = ROOT / "docs/reference/portal.md"
    named = set(re.findall(rf"sections? ({_NUMBER})", page.read_text(encoding="utf-8")))

    assert len(named) > 5
    assert named <= sections(page)


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("as read (portal.md 6.6)", []),
        ("as read (portal.md 13.43, 3.3.11)", []),
        ("as read (docs/reference/portal.md 4, 6.3)", []),
        ('as read (sync-rules.md, "Guards")', []),
        ("properties (sync-rules.md 14 to 20, 22 to 38)", []),
        ("as read (portal.md 6.9)", ["portal.md 6.9"]),
        ("as read (portal.md\n    99)", ["portal.md 99"]),
        ("properties (sync-rules.md 38 to 41)", ["sync-rules.md 38 to 41"]),
        ('as read (sync-rules.md, "Nothing")', ['sync-rules.md, "Nothing"']),
        ("as read (design-notes.md)", ["design-notes.md"]),
    ],
)
def test_given_a_citation_then_it_is_found_to_lead_somewhere_or_nowhere(text: str, lost: list[str]) -> None:
    assert dangling(text) == lost


def test_given_the_kinds_of_holds_then_the_page_on_the_algorithm_explains_each() -> None:
    page = (ROOT / "docs/explanation/algorithm.md").read_text(encoding="utf-8")

    assert [kind for kind in HoldKind if f"`{kind.value}`" not in page] == []


def test_given_the_guards_then_the_page_on_the_algorithm_names_each_limit() -> None:
    page = (ROOT / "docs/explanation/algorithm.md").read_text(encoding="utf-8")
    # The page explains percentages, and the limits of a day, together.
    named = [one.name for one in fields(GuardLimits) if "percent" not in one.name and "per_day" not in one.name]

    assert len(named) > 3
    assert [name for name in named if f"`{name}`" not in page] == []


def test_given_the_architecture_then_every_file_and_folder_it_names_is_there() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/.@]+(?:\.\w+|/))`", page)
    lost, folder = [], ROOT
    for name in named:
        # A bare name is in the folder of the name before it.
        places = [ROOT / name, ROOT / "syncd" / name, folder / name]
        found = next((place for place in places if place.exists()), None)
        if found is None:
            lost.append(name)
        elif "/" in name:
            folder = found if found.is_dir() else found.parent

    assert len(named) > 50
    assert lost == []


def test_given_the_architecture_then_every_test_it_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/architecture.md").read_text(encoding="utf-8")))
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))

    assert len(named) > 10
    assert {name for name in named if f"def {name}(" not in tests} == set()
