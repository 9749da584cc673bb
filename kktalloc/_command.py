"""What all command lines here share: an exit code and one line on standard error, whatever stops them.

Imports nothing heavy: an interrupt while NumPy or torch load is then met by `run` like any other.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

BAD_INPUT, INTERRUPTED = 2, 130
BROKEN_PIPE = 141  # what a shell reports after SIGPIPE


def run(program: str, body: Callable[[], int], interrupted: Callable[[], str] = lambda: "interrupted") -> int:
    """Run a command's `body` and return its exit code.

    Whatever stops it is told in one line that begins with `program`: bad input, a file or stream that cannot be read
    or written, memory that runs out, a part that is not installed (2); Ctrl-C, with the words of `interrupted` (130).
    A reader of the output that leaves is no error to tell of (141). Warnings are a line each. Other exceptions are
    faults of the program: they pass, with their traceback.
    """
    if sys.stderr is None:  # closed: whoever closed it wants to hear nothing
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    try:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = partial(_warned, program)
                return body()
        finally:  # also after argparse's help, which ends by SystemExit
            _flush()
    except BrokenPipeError:
        _abandon_output()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return _stopped(program, interrupted(), INTERRUPTED)
    except OSError as error:
        named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return _stopped(program, f"error: {named}", BAD_INPUT)
    except MemoryError as error:
        return _stopped(program, f"error: out of memory ({error})" if str(error) else "error: out of memory", BAD_INPUT)
    except (ValueError, ImportError) as error:  # an import fails where a part that was asked for is not installed
        return _stopped(program, f"error: {error}", BAD_INPUT)


def emit(text: str) -> None:
    """Write `text` to standard output, nothing in it but what can be printed, and lines.

    Raises
    ------
    OSError
        Standard output is closed, full, or gone.
    """
    if sys.stdout is None:
        raise ValueError("standard output is closed")
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    shown = "\n".join(map(printable, text.split("\n")))
    try:
        sys.stdout.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


class Help(argparse.HelpFormatter):
    """Paragraphs in lines that fit the terminal, exit codes by themselves; examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return text
        what, codes, rest = text.partition("Exit code ")
        return "\n".join(super(Help, self)._fill_text(part, width, indent) for part in (what, codes + rest) if part)


def printable(text: str) -> str:
    """`text` with every control character as an escape: a file's names must not drive the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Parser(argparse.ArgumentParser):
    """argparse with one line on standard error instead of the usage and a line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments and end."""
        program = self.prog.removeprefix("python -m ").split()[0]
        self.exit(BAD_INPUT, f"{program}: error: {printable(message)} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Help and version; the inherited one keeps silent when it cannot write."""
        if file is sys.stdout:
            emit(message)
        else:
            super()._print_message(message, file)


def _warned(program: str, message: Warning | str, category: type[Warning], *where: Any) -> None:
    """In place of Python's own words, which tell a file of this program and a line of it."""
    with contextlib.suppress(OSError):  # nobody listens
        print(f"{program}: warning: {printable(str(message))}", file=sys.stderr, flush=True)


def _stopped(program: str, why: str, code: int) -> int:
    _abandon_output()
    with contextlib.suppress(OSError):  # nobody listens
        print(f"{program}: {printable(why)}", file=sys.stderr, flush=True)
    return code


def _flush() -> None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


def _abandon_output() -> None:
    """Flush what can be; Python flushes once more at exit, and where that would fail it gets somewhere to flush to."""
    try:
        _flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
