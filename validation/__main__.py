"""``python -m validation``; see `validation.command`."""

from __future__ import annotations

import argparse
import sys

from kktalloc._command import run


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code (0 done, 130 interrupted, 2 anything else that stopped it)."""
    arguments = argparse.Namespace(out=None)

    def body() -> int:
        from .command import command  # here, so that an interrupt while it loads is told in one line too

        return command(argv, arguments)

    def interrupted() -> str:
        return f"stopped; the same command continues in {arguments.out}" if arguments.out else "stopped"

    return run("validation", body, interrupted)


if __name__ == "__main__":
    sys.exit(main())
