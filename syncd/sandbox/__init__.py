"""A Bitrix24 portal to try things on: faithful, stateful, fault-scriptable.

`SandboxPortal` is the machine, `SandboxServer` puts it on a TCP port. What it imitates is written down in
bitrix24-rest.md; every number and code there is one here.
"""

from __future__ import annotations

from syncd.sandbox.answers import SandboxRequest, SandboxResponse, Version
from syncd.sandbox.faults import Fault, FaultRule, Faults
from syncd.sandbox.limits import Latencies, Limits
from syncd.sandbox.oauth import Application
from syncd.sandbox.portal import SandboxPortal
from syncd.sandbox.serve import ServeOptions, serve
from syncd.sandbox.server import SandboxServer

__all__ = [
    "Application",
    "Fault",
    "FaultRule",
    "Faults",
    "Latencies",
    "Limits",
    "SandboxPortal",
    "SandboxRequest",
    "SandboxResponse",
    "SandboxServer",
    "ServeOptions",
    "Version",
    "serve",
]
