"""`make figures`: counts this tree and watches a pass, beside what was counted before the house was put in order.

python -m tests.figures [--tree CHECKOUT] [--suite SECONDS] [--page docs/figures.md] [--keep tests/figures/before.json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from tests.figures.counting import class_names_used_twice, count
from tests.figures.page import page
from tests.figures.passing import ways

ROOT = Path(__file__).parents[2]
BEFORE = Path(__file__).with_name("before.json")


def main() -> None:
    options = _options()
    tree = options.tree.resolve()
    with tempfile.TemporaryDirectory() as folder:
        walked = ways(tree, Path(folder))
    figures = count(tree / "syncd")
    for what, way in walked.items():
        figures[f"frames from main() to the first {what}"] = way.frames
        figures[f"files from main() to the first {what}"] = way.files
    if options.suite is not None:
        figures["test suite, seconds"] = options.suite
    if options.keep:
        options.keep.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    text = page(
        json.loads(BEFORE.read_text(encoding="utf-8")),
        figures,
        packages={
            path.name: count(path) for path in sorted((tree / "syncd").iterdir()) if (path / "__init__.py").is_file()
        },
        twice=class_names_used_twice(tree / "syncd"),
        walked=walked,
    )
    if options.page:
        options.page.write_text(text, encoding="utf-8")
    print(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.figures", description=__doc__)
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout to count")
    parser.add_argument("--suite", type=float, help="seconds that `make test` took, measured apart")
    parser.add_argument("--page", type=Path, help="write the page here")
    parser.add_argument("--keep", type=Path, help="write the figures here, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
