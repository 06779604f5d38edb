"""The standard streams as programs meet them: closed, full, with a reader that leaves, or in a narrow encoding.

A result that could not be written is an error like any other: a cron job whose disk is full must not end with 0. The
work itself goes on, since bindings must not wait for a disk that a log has filled.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

LOST = 74
"""The exit code where the work was done and its output could not be written (EX_IOERR)."""
READER_GONE = 141
"""The exit code where the reader left, as if SIGPIPE had ended the command (`| head`)."""

SPELLED = {"→": "->", "…": "...", "≠": "!=", "·": "-", "×": "x", "–": "-", "—": "-", "−": "-"}  # noqa: RUF001
"""What replaces a character that the encoding of a stream lacks. Others are written as escapes."""
_HANDLER = "syncd-spelled"


class Output(io.FileIO):
    """A stream that drops what it cannot write, and remembers why. A reader who leaves raises BrokenPipeError."""

    lost = ""

    def write(self, data: Buffer, /) -> int:
        """Write what can be written; once something was lost, the rest is lost, too."""
        if not self.lost:
            try:
                return super().write(data)
            except BrokenPipeError:
                raise
            except OSError as error:
                self.lost = "it is closed" if error.errno == errno.EBADF else str(error.strerror)
        return memoryview(data).nbytes


class Diagnostics(Output):
    """Standard error, which may be lost: neither the work nor its exit code depends on who reads the log."""

    def write(self, data: Buffer, /) -> int:
        """Write what can be written; where the reader has left, too, the rest is lost without a word."""
        try:
            return super().write(data)
        except BrokenPipeError:
            self.lost = "its reader has left"
            return memoryview(data).nbytes


def prepare() -> Output | None:
    """Make all three streams usable, whatever they were started with.

    Returns:
        Standard output; None where a test has put something else in its place.
    """
    _open_closed()
    codecs.register_error(_HANDLER, _spell)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(Diagnostics(2, "w", closefd=False), sys.stderr, at_once=True)
    if sys.stdout is not sys.__stdout__:
        return None
    output = Output(1, "w", closefd=False)
    sys.stdout = _text(output, sys.stdout, at_once=False)
    return output


def _text(stream: Output, before: TextIO | None, *, at_once: bool) -> io.TextIOWrapper:
    """Return the text stream over a raw one, in the encoding of the one before; that is None where it was closed."""
    encoding = "utf-8" if before is None else before.encoding
    by_line = at_once or stream.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(stream), encoding, _HANDLER, line_buffering=by_line, write_through=at_once
    )


def discard() -> None:
    """Send what waits to be written nowhere: the interpreter would complain once more when it flushes at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _open_closed() -> None:
    """Give each closed stream a descriptor, so that no file or socket of ours gets its number.

    Standard output gets one that cannot be written: what is lost is noticed. Output to standard error may be lost.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest free number, which is this one
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(SPELLED.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking), error.end
