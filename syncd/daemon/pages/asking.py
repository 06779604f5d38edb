"""What a request asks for: numbers and words out of its address, checked."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request

LARGEST: Final = 2**63 - 1
"""What an id may be: a 64-bit number in every database."""
_DIGITS: Final = len(str(LARGEST))

W = TypeVar("W", bound=StrEnum)


def whole(text: str) -> int | None:
    """Given a text, return the whole number it is, from 0 to `LARGEST`; None for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        return None
    number = int(text)
    return number if number <= LARGEST else None


def number_in_path(request: Request, name: str) -> int:
    """Given a request, return a number of its path.

    Raises:
        HTTPException: 404, it is none.
    """
    number = whole(request.path_params[name])
    if number is None:
        raise HTTPException(404, f"{request.path_params[name]} is no number of a {name}.")
    return number


def number_in_query(request: Request, name: str) -> int | None:
    """Given a request, return a number of its query; None where it names none.

    Raises:
        HTTPException: 400, it is none.
    """
    text = request.query_params.get(name)
    if text is None:
        return None
    number = whole(text)
    if number is None:
        raise HTTPException(400, f"{name} must be a whole number.")
    return number


def word_in_query(request: Request, name: str, words: type[W]) -> W | None:
    """Given a request, return a word of its query out of those known; None where it names none.

    Raises:
        HTTPException: 400, it is another one.
    """
    text = request.query_params.get(name)
    if text is None:
        return None
    if text not in set(words):
        raise HTTPException(400, f"{name} must be one of: {', '.join(words)}.")
    return words(text)
