"""A simulated Bitrix24 portal for trials and tests: faithful, stateful, with scripted faults.

`SandboxPortal` answers requests, `SandboxServer` serves it on a TCP port. It follows portal.md, with the same
numbers and codes.
"""

from __future__ import annotations

from syncd.sandbox.faults import Fault, FaultRule, Faults
from syncd.sandbox.limits import Latencies, PortalLimits
from syncd.sandbox.oauth import Application
from syncd.sandbox.portal import SandboxPortal
from syncd.sandbox.requests import References, SandboxRequest, SandboxResponse, Version
from syncd.sandbox.server import SandboxServer, ServeOptions, handler_problem, serve

__all__ = [
    "Application",
    "Fault",
    "FaultRule",
    "Faults",
    "Latencies",
    "PortalLimits",
    "References",
    "SandboxPortal",
    "SandboxRequest",
    "SandboxResponse",
    "SandboxServer",
    "ServeOptions",
    "Version",
    "handler_problem",
    "serve",
]
