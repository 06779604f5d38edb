"""Prints what is made from the settings' classes: `python -m syncd.config example|reference|schema`."""

from __future__ import annotations

import json
import sys

from syncd.config.render import example, reference, schema


def page(name: str) -> str:
    """Given `example`, `reference` or `schema`, return that page's text."""
    if name == "schema":
        return json.dumps(schema(), indent=2) + "\n"
    return {"example": example, "reference": reference}[name]()


if __name__ == "__main__":
    sys.stdout.write(page(sys.argv[1]))
