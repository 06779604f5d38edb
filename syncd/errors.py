"""Every error syncd raises on purpose, with its exit code and a hint for the operator.

    SyncdError                      1   (a bug when raised bare)
    ├── UsageError                 64   the command's words are off
    ├── ConfigError                78   configuration, columns, fingerprint, schema version
    ├── AuthError                  77   the portal or a database refuses these credentials or this right
    ├── UnavailableError           69   portal or database cannot be reached, or answers what cannot be used
    │   ├── IncompleteListing      69   a listing could not be proved complete; nothing was written
    │   ├── PortalBlocked          69   OVERLOAD_LIMIT: only the vendor's support lifts it
    │   └── StateUnavailable       69   the state database: locked, full, read-only, corrupt
    ├── LeaseHeld                  75   another process works on this link
    ├── LeaseLost                  75   our lease ended; nothing more is written
    ├── GuardRefusal                4   a guard refused the plan; nothing was written
    ├── StalePlan                   5   the stored plan is too old, spent, or made for other ends
    └── Stopped               130/143   a signal asked for the stop; what was in flight is kept

A message says what happened and what was not done; the hint says what to do. Neither may ever hold a secret: they
take ready sentences, and the code that builds them masks URLs with `syncd.obs.redact`.
"""

from __future__ import annotations

from typing import ClassVar


class SyncdError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: One or two sentences: what happened, what was not done.
        hint: What the operator can do next, as a sentence or a command; empty when there is nothing to say.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SyncdError):
    """The command line cannot be carried out as written."""

    exit_code = 64


class ConfigError(SyncdError):
    """The configuration, or what it points to, does not fit.

    Args:
        message: The summary.
        hint: See `SyncdError`.
        problems: Every problem found, each a full sentence with its key, so that all are reported at once.
    """

    exit_code = 78

    def __init__(self, message: str, *, hint: str = "", problems: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class AuthError(SyncdError):
    """Credentials or a right are missing or refused; sending again cannot heal it."""

    exit_code = 77


class UnavailableError(SyncdError):
    """The portal or a database is out of reach, or answers what cannot be used; a later try may succeed."""

    exit_code = 69


class IncompleteListing(UnavailableError):
    """A side could not be proved to be read completely. Nothing was written."""


class PortalBlocked(UnavailableError):
    """The portal answers OVERLOAD_LIMIT: the vendor blocked this webhook or application until support lifts it."""


class StateUnavailable(UnavailableError):
    """The state database is locked, full, read-only or corrupt."""


class LeaseHeld(SyncdError):
    """Another process holds the lease of this link."""

    exit_code = 75


class LeaseLost(SyncdError):
    """This process's lease ended or was taken over; nothing more may be written under it."""

    exit_code = 75


class GuardRefusal(SyncdError):
    """A guard refused the plan before its first write."""

    exit_code = 4


class StalePlan(SyncdError):
    """The stored plan cannot be applied: too old, already applied, or made for other ends."""

    exit_code = 5


class Stopped(SyncdError):
    """A signal asked for the stop; what was in flight is finished and recorded. 143 for TERM; the CLI knows INT."""

    exit_code = 143
