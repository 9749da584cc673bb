"""`python -m paper`: check the proofs, write what the paper takes from results, set the PDF."""

from __future__ import annotations

import sys

from kktalloc._command import Parser, emit, run


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 if the paper is set, 2 with the reason on standard error if not, 130 if interrupted."""

    def body() -> int:
        parser = Parser(prog="python -m paper", description=__doc__)
        parser.add_argument("--generate-only", action="store_true", help="write numbers, tables, figures; set no PDF")
        arguments = parser.parse_args(argv)
        from . import make, results  # here, so that an interrupt while it loads is told in one line too

        make.generate(results.load())
        if not arguments.generate_only:
            emit(f"{make.compile_pdf(make.HERE, make.HERE / 'build').relative_to(results.ROOT)}\n")
        return 0

    return run("paper", body)


if __name__ == "__main__":
    sys.exit(main())
