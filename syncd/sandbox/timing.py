"""The `time` part of an answer (bitrix24-rest.md 2): on a NEW portal `start` and `processing` are cut to integers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

from syncd.sandbox.answers import Version
from syncd.sandbox.phpjson import Rendered, encode

ZONE = timezone(timedelta(hours=3))
"""The portal's zone, on purpose not UTC."""


@lru_cache(maxsize=64)
def local_time(second: int) -> str:
    """Given seconds since the epoch, return the portal's ISO 8601 time with offset."""
    return datetime.fromtimestamp(second, UTC).astimezone(ZONE).isoformat()


class Timing(Rendered):
    """One `time` object.

    Args:
        version: Which portal is played.
        start, finish: Seconds since the epoch.
        processing: Seconds the method itself took.
        operating: (seconds used, reset at), or None where the load limiter is off.
    """

    __slots__ = ("_finish", "_operating", "_processing", "_start")

    def __init__(
        self, version: Version, start: float, finish: float, processing: float, operating: tuple[float, int] | None
    ) -> None:
        whole = version is Version.NEW
        self._start = int(start) if whole else start
        self._finish = finish
        self._processing = int(processing) if whole else processing
        self._operating = operating

    def json(self) -> str:
        """Return the JSON text."""
        start, finish = self._start, self._finish
        text = (
            f'{{"start":{start},"finish":{finish!r},"duration":{encode(float(finish - start))},'
            f'"processing":{encode(self._processing)},"date_start":"{local_time(int(start))}",'
            f'"date_finish":"{local_time(int(finish))}"'
        )
        if self._operating is None:
            return text + "}"
        seconds, reset_at = self._operating
        return f'{text},"operating_reset_at":{reset_at},"operating":{encode(float(seconds))}}}'

    def value(self) -> dict[str, Any]:
        """Return the same as plain values, for `$result` references."""
        plain: dict[str, Any] = {
            "start": self._start,
            "finish": self._finish,
            "duration": self._finish - self._start,
            "processing": self._processing,
            "date_start": local_time(int(self._start)),
            "date_finish": local_time(int(self._finish)),
        }
        if self._operating is not None:
            plain |= {"operating_reset_at": self._operating[1], "operating": self._operating[0]}
        return plain
