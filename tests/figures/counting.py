"""What a tree of modules is made of, counted in its syntax trees.

Lines are counted as they are in the files. A line belongs to imports or to docstrings as a whole, from the first to the
last line of the statement. Code lines are all others that are neither blank nor only a comment.
"""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Counted:
    """One module of a package."""

    name: str
    lines: int
    code: int
    imports: int
    docstrings: int
    longest: int
    classes: tuple[str, ...]
    imported: frozenset[str]


def count(package: Path) -> dict[str, float]:
    """Given the folder of a package, return its figures by name."""
    modules = [_module(path, package) for path in sorted(package.rglob("*.py"))]
    importers = Counter(name for module in modules for name in _resolved(module, modules))
    single = [module for module in modules if importers[module.name] == 1]
    classes = Counter(name for module in modules for name in module.classes)
    return {
        "files": len(modules),
        "lines": sum(module.lines for module in modules),
        "code lines": sum(module.code for module in modules),
        "import lines": sum(module.imports for module in modules),
        "docstring lines": sum(module.docstrings for module in modules),
        "median module, lines": median(module.lines for module in modules),
        "longest module, lines": max(module.lines for module in modules),
        "longest function, lines": max(module.longest for module in modules),
        "modules with one importer": len(single),
        "lines in modules with one importer": sum(module.lines for module in single),
        "class names used twice": sum(times > 1 for times in classes.values()),
    }


def class_names_used_twice(package: Path) -> list[str]:
    """Given the folder of a package, return the names that more than one of its classes has."""
    modules = [_module(path, package) for path in sorted(package.rglob("*.py"))]
    classes = Counter(name for module in modules for name in module.classes)
    return sorted(name for name, times in classes.items() if times > 1)


def _module(path: Path, package: Path) -> Counted:
    text = path.read_text(encoding="utf-8")
    lines, tree = text.splitlines(), ast.parse(text)
    nodes = list(ast.walk(tree))
    imports = {line for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for line in _lines(node)}
    docstrings = {line for node in nodes for line in _docstring(node)}
    other = {number for number, line in enumerate(lines, 1) if not line.strip() or line.lstrip().startswith("#")}
    return Counted(
        name=_name(path, package),
        lines=len(lines),
        code=len(lines) - len(imports | docstrings | other),
        imports=len(imports),
        docstrings=len(docstrings),
        longest=max((len(_lines(node)) for node in nodes if isinstance(node, _FUNCTIONS)), default=0),
        classes=tuple(node.name for node in nodes if isinstance(node, ast.ClassDef)),
        imported=frozenset(name for node in nodes for name in _imported(node)),
    )


def _name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _lines(node: ast.stmt | ast.expr) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _docstring(node: ast.AST) -> range:
    """Return the lines of a definition's docstring, those of a constant's or field's included."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return _lines(node)
    return range(0)


def _imported(node: ast.AST) -> list[str]:
    """Return what a statement may import: modules, or names in them."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def _resolved(module: Counted, modules: list[Counted]) -> set[str]:
    """Return the modules that one imports. `from a import b` is the module `a.b` where there is one, and else `a`."""
    known = {other.name for other in modules}
    deepest = {name for name in module.imported if name in known}
    return {name for name in deepest if not any(other.startswith(f"{name}.") for other in deepest)} - {module.name}
