"""`auth`: the authorisation of an OAuth application."""

from __future__ import annotations
