"""Command line: `kktalloc solve scenario.toml`, `kktalloc verify`.

Exit codes of `solve`: 0 solved; 1 the certificate refused the answer; 2 what stopped it is one line on standard
error; 3 infeasible; 130 interrupted. Of `verify`: 0 every step holds; 1 one does not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from kktalloc._command import Parser, emit, run

SOLVED, REFUSED, INFEASIBLE = 0, 1, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; `argv` without the program name, None for `sys.argv`."""

    def body() -> int:
        args = _parser().parse_args(argv)
        return int(args.run(args))

    return run("kktalloc", body)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="kktalloc", description="Joint pruning, bandwidth and power allocation for federated learning."
    )
    parser.add_argument("--version", action="version", version=f"kktalloc {version('kktalloc')}")
    commands = parser.add_subparsers(required=True, metavar="command")

    solve = commands.add_parser(
        "solve",
        help="solve a scenario file",
        description="Solve a scenario file. Exit code 0: solved; 1: the certificate refused the answer; 2: bad input; "
        "3: infeasible.",
    )
    solve.add_argument(
        "scenario",
        help="a .toml or .json file with the tables cell and devices; - for JSON on standard input",
    )
    solve.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object with the solution's field names, SI units; null: not a finite number",
    )
    solve.add_argument(
        "--out", type=Path, metavar="FILE", help="write there, all or nothing, instead of standard output"
    )
    solve.set_defaults(run=_solve)

    verify = commands.add_parser(
        "verify",
        help="check the convergence bound's derivation, step by step",
        description="Check every step of the convergence bound's derivation, or of one's own, exactly. "
        "Exit code 0: all hold; 1: one does not; 2: a file cannot be read or written.",
    )
    verify.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE.py",
        help="check the theories in these Python files instead (see docs/proof-tutorial.md)",
    )
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    verify.add_argument("--latex", type=Path, metavar="DIR", help="also write the derivation there as LaTeX")
    verify.add_argument("--html", type=Path, metavar="FILE", help="also write the derivation there as one page")
    verify.set_defaults(run=_verify)
    return parser


def _solve(args: argparse.Namespace) -> int:
    import numpy as np

    from kktalloc import Status, load_scenario, solve
    from kktalloc._cli.plain import solution_object
    from kktalloc._cli.table import solution_table
    from kktalloc._durable import write_durably

    solution = solve(load_scenario(args.scenario), throw=False)
    statuses = set(np.atleast_1d(np.asarray(solution.status, dtype=object)).flat)
    if args.json:
        text = json.dumps(solution_object(solution), indent=2, allow_nan=False) + "\n"
    else:
        text = "" if solution.diagnosis is None else f"{solution.diagnosis.message}\n"
        text += solution_table(solution)
    if args.out is None:
        emit(text)
    else:
        write_durably(args.out, text)
    if Status.INFEASIBLE in statuses:
        return INFEASIBLE
    if Status.UNCERTIFIED in statuses:
        name, value = solution.certificate.worst
        print(f"kktalloc: error: the certificate refuses the allocation: {name} = {value:.3g}", file=sys.stderr)
        return REFUSED
    return SOLVED


def _verify(args: argparse.Namespace) -> int:
    from kktalloc import proof

    return int(proof.run(args.json, args.latex, args.files, args.html))


if __name__ == "__main__":
    sys.exit(main())
