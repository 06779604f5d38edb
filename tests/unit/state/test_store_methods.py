"""Each method of the state database is described once: in the protocol, or else where its SQL stands."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module

import syncd.state
from syncd.core.store import Store
from syncd.state.store import SqlStore

MODULES = [import_module(f"syncd.state.{found.name}") for found in pkgutil.iter_modules(syncd.state.__path__)]
METHODS = {name: method for name, method in vars(Store).items() if inspect.isfunction(method)}


def test_given_the_protocol_then_each_of_its_methods_is_described() -> None:
    assert METHODS
    assert [name for name, method in METHODS.items() if not name.startswith("_") and not method.__doc__] == []


def test_given_a_function_without_a_docstring_then_it_is_a_method_of_the_protocol() -> None:
    undescribed = {
        name
        for module in MODULES
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
        if not function.__doc__
    }
    assert undescribed
    assert undescribed <= METHODS.keys()
    assert undescribed <= vars(SqlStore).keys()
