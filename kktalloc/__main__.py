"""Command line: `kktalloc solve scenario.toml`, `kktalloc verify`.

Exit codes of `solve`: 0 solved; 1 the certificate refused the answer; 2 bad input, with one line on standard
error; 3 infeasible. Of `verify`: 0 every step holds; 1 one does not.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from kktalloc._durable import write_durably

if TYPE_CHECKING:
    from kktalloc import Diagnosis, Solution

SOLVED, REFUSED, BAD_INPUT, INFEASIBLE = 0, 1, 2, 3
BROKEN_PIPE = 141  # what a shell reports after SIGPIPE

_ARRAYS = ("pruning_ratio", "bandwidth_hz", "tx_power_w", "upload_s", "latency_s", "energy_j", "objective")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; `argv` without the program name, None for `sys.argv`."""
    try:
        args = _parser().parse_args(argv)
        code = int(args.run(args))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader left. Python flushes once more at exit and would complain: give it somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        print(f"kktalloc: error: {error.filename}: cannot write: {error.strerror}", file=sys.stderr)
        return BAD_INPUT
    except (ValueError, ImportError) as error:  # an import fails where a part that was asked for is not installed
        print(f"kktalloc: error: {error}", file=sys.stderr)
        return BAD_INPUT
    return code


class _Parser(argparse.ArgumentParser):
    """argparse with one line on standard error instead of the usage and a line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"kktalloc: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
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
        description="Check every step of the convergence bound's derivation exactly. Exit code 0: all hold.",
    )
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    verify.add_argument("--latex", type=Path, metavar="DIR", help="also write the derivation there as LaTeX")
    verify.set_defaults(run=_verify)
    return parser


def _solve(args: argparse.Namespace) -> int:
    from kktalloc._problem.scenario import load_scenario
    from kktalloc._questions.solution import Status, solve

    solution = solve(load_scenario(args.scenario), throw=False)
    statuses = set(np.atleast_1d(np.asarray(solution.status, dtype=object)).flat)
    if args.json:
        text = json.dumps(_solution_object(solution), indent=2, allow_nan=False) + "\n"
    else:
        text = "" if solution.diagnosis is None else f"{solution.diagnosis.message}\n"
        text += _table(solution)
    if args.out is None:
        sys.stdout.write(text)
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

    return int(proof.run(args.json, args.latex))


def _solution_object(solution: Solution) -> dict[str, Any]:
    """The JSON object: the solution's field names, or `status` and `diagnosis` where there is none.

    In a batch every entry is an array over the problems, with null where a problem has no solution.
    """
    status = np.asarray(solution.status, dtype=object)
    found: dict[str, Any] = {"status": _plain(status)}
    if solution.diagnosis is not None:
        found["diagnosis"] = _diagnosis_object(solution.diagnosis)
    if all(s.name == "INFEASIBLE" for s in status.flat):
        return found
    found |= {name: _plain(getattr(solution, name)) for name in _ARRAYS}
    found["regime"] = _plain(np.vectorize(_regime_name, otypes=[object])(solution.regime))
    found["prices"] = _plain({f.name: getattr(solution.prices, f.name) for f in fields(solution.prices)})
    judged = solution.certificate
    found["certificate"] = {"ok": judged.ok} | _plain({f.name: getattr(judged, f.name) for f in fields(judged)})
    return found


def _diagnosis_object(diagnosis: Diagnosis) -> dict[str, Any]:
    """What a diagnosis says, `devices` as indices; null stands for "no amount would do"."""
    short = np.asarray(diagnosis.devices)
    return {
        "message": diagnosis.message,
        "devices": _plain(np.flatnonzero(short) if short.ndim == 1 else [np.flatnonzero(row) for row in _rows(short)]),
        "resource": _plain(diagnosis.resource),
        "bandwidth_needed_hz": _plain(diagnosis.bandwidth_needed_hz),
        "deadline_needed_s": _plain(diagnosis.deadline_needed_s),
        "total_power_needed_w": _plain(diagnosis.total_power_needed_w),
    }


def _rows(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, array.shape[-1])


def _regime_name(code: int) -> str | None:
    from kktalloc._problem.regime import Regime

    return Regime(code).name.lower() if code >= 0 else None


def _plain(value: Any) -> Any:
    """`value` in JSON's types: arrays as nested lists, an enum by its name, NaN and infinity as null."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


_COLUMNS: tuple[tuple[str, str, dict[str, float]], ...] = (  # heading, field, unit prefixes, largest first
    ("pruned", "pruning_ratio", {"%": 1e-2}),
    ("bandwidth", "bandwidth_hz", {"MHz": 1e6, "kHz": 1e3, "Hz": 1.0}),
    ("power", "tx_power_w", {"W": 1.0, "mW": 1e-3, "uW": 1e-6}),
    ("upload", "upload_s", {"s": 1.0, "ms": 1e-3, "us": 1e-6}),
    ("latency", "latency_s", {"s": 1.0, "ms": 1e-3, "us": 1e-6}),
    ("energy", "energy_j", {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6}),
)
_LIMITS = {
    "FLOOR": "pruning limit",
    "ENERGY": "energy",
    "KINK": "energy and peak power",
    "PEAK": "peak power",
    "SATURATED": "nothing: keeps all",
    "TOTAL_POWER": "total power",
}


def _table(solution: Solution) -> str:
    """For a human: one line per device, the objective, prices and certificate, problem by problem."""
    from kktalloc._problem.regime import Regime

    columns = []
    for heading, name, prefixes in _COLUMNS:
        values = np.asarray(getattr(solution, name))
        top = np.nanmax(np.abs(values), initial=0.0)
        shown = next((p for p, size in prefixes.items() if top >= size), list(prefixes)[-1])
        columns.append((f"{heading}/{shown}", values / prefixes[shown]))
    judged, lines = solution.certificate, []
    for index in np.ndindex(solution.problem.batch_shape):
        status: Any = np.asarray(solution.status, dtype=object)[index]
        if index:
            lines.append(f"problem {list(index)}: {status.name.lower()}")
        if status.name == "INFEASIBLE":
            continue
        lines.append("device" + "".join(f"{h:>15}" for h, _ in columns) + "  limited by")
        for k, code in enumerate(solution.regime[index]):
            lines.append(
                f"{k:6d}" + "".join(f"{v[index][k]:15.4f}" for _, v in columns) + f"  {_LIMITS[Regime(code).name]}"
            )
        lines += ["", f"weighted pruning ratio     {solution.objective[index]:.9f}"]
        lines.append("prices: fall of the objective per unit more")
        for f in fields(solution.prices):
            lines.append(f"  {f.name:<25}{_numbers(getattr(solution.prices, f.name)[index])}")
        lines.append(f"certificate: {'holds' if judged.passed[index] else 'REFUSED'} at {judged.tolerance:g}")
        for name, value in {**judged.residuals, "duality_gap": judged.duality_gap}.items():
            lines.append(f"  {name:<25}{_numbers(value[index])}")
        lines.append("")
    return "".join(f"{line}\n" for line in lines)


def _numbers(values: Any) -> str:
    return " ".join(f"{v:.4g}" for v in np.atleast_1d(values))


if __name__ == "__main__":
    sys.exit(main())
