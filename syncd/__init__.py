"""Keeps Bitrix24 order bindings and an outside order system's mapping table in step."""

__version__ = "0.1.0"
