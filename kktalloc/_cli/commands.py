"""What each subcommand does; loaded when one is asked for, since NumPy comes with it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

import kktalloc as ka
from kktalloc._cli.table import solution_table
from kktalloc._command import emit
from kktalloc._durable import write_durably
from kktalloc._problem.tables import known, read_tables, shown, table_of
from kktalloc._questions.export import plain
from kktalloc.bound import Constants, PreconditionError, Schedule, bound

DONE, REFUSED, INFEASIBLE = 0, 1, 3
_SYMBOLS = (
    "eta is schedule.learning_rate_u, L_u constants.smoothness_u, tau schedule.local_steps; "
    "eta_v learning_rate_v, L_v smoothness_v"
)


def solve(args: argparse.Namespace) -> int:
    """Solve a scenario."""
    solution = ka.solve(ka.load_scenario(args.scenario), throw=False)
    statuses = set(np.atleast_1d(np.asarray(solution.status, dtype=object)).flat)
    if args.json:
        text = _json(solution.to_dict())
    else:
        text = "" if solution.diagnosis is None else f"{solution.diagnosis.message}\n"
        text += solution_table(solution)
    _put(args.out, text, args.scenario)
    if ka.Status.INFEASIBLE in statuses:
        return INFEASIBLE
    if ka.Status.UNCERTIFIED in statuses:
        _say_refused(solution.certificate)
        return REFUSED
    return DONE


def certify(args: argparse.Namespace) -> int:
    """Judge an allocation, whoever made it, by its optimality conditions."""
    problem = ka.load_scenario(args.scenario)
    with _about(args.allocation):
        given = _tables(args.allocation, "an allocation")
        arrays = []
        for name in ("pruning_ratio", "bandwidth_hz", "tx_power_w"):
            if name not in given:
                raise ValueError(f"missing field {name}")
            try:
                arrays.append(np.asarray(given[name], dtype=np.float64))
            except (TypeError, ValueError):
                raise ValueError(f"{name}: expected a number or an array of numbers") from None
        judged = ka.certify(problem, *arrays)
    if args.json:
        content = {f.name: getattr(judged, f.name) for f in fields(judged)}
        emit(_json({"ok": judged.ok, **plain(content)}))
    else:
        rows = {**judged.residuals, "duality_gap": judged.duality_gap}
        lines = [f"  {name:<25}{' '.join(f'{v:.4g}' for v in np.atleast_1d(value))}" for name, value in rows.items()]
        verdict = f"certificate: {'holds' if judged.ok else 'REFUSED'} at {judged.tolerance:g}"
        emit("\n".join([verdict, *lines]) + "\n")
    if not judged.ok:
        _say_refused(judged)
        return REFUSED
    return DONE


def plan(args: argparse.Namespace) -> int:
    """The deadline and number of rounds with the best guarantee in a given training time."""
    from kktalloc.plan import plan

    problem = ka.load_scenario(args.scenario)
    with _about(args.assumptions):
        constants, schedule = _assumed(_tables(args.assumptions, "an assumptions"))
    try:
        found = plan(problem, constants, schedule, args.total_time)
    except PreconditionError as error:  # as in `_assumed`, of the allocation
        raise ValueError(f"{args.assumptions}: {error} ({_SYMBOLS})") from None
    except ka.InfeasibleError as error:
        emit(_json({"status": "infeasible", "message": str(error)}) if args.json else f"{error}\n")
        return INFEASIBLE
    terms = {f.name: float(value) for f in fields(found.terms) if np.ndim(value := getattr(found.terms, f.name)) == 0}
    numbers = {
        "rounds": int(found.rounds),
        "deadline_s": float(found.deadline_s),
        "pruning_error": found.pruning_error,
        "guarantee": float(found.terms.gradient_bound),
    }
    if args.json:
        emit(_json(plain({**numbers, "terms": terms, "solution": found.solution.to_dict()})))
    else:
        emit("".join(f"{name:<25}{value:.6g}\n" for name, value in numbers.items()))
    return DONE


def schema(args: argparse.Namespace) -> int:
    """The form of scenario files."""
    _put(args.out, _json(ka.scenario_schema()))
    return DONE


def bench(args: argparse.Namespace) -> int:
    """Time to solve and certify cells of several sizes on this machine."""
    from kktalloc import channel

    rows = []
    for devices in args.devices:
        if devices < 1:
            raise ValueError(f"--devices {devices}: must be >= 1")
        rng = np.random.default_rng(args.seed)
        distance_m = channel.place_in_annulus(rng, devices, 500.0, channel.MACRO_3GPP.min_distance_m)
        gain = channel.MACRO_3GPP.gain(distance_m) * channel.rayleigh_mrc(rng, devices, antennas=4)
        cell = ka.Cell(4e5 * devices, channel.noise_psd_w_per_hz(noise_figure_db=5.0), 1.0)
        problem = ka.Problem(cell, ka.Devices(gain, channel.dbm_to_w(23.0), 4e6, rng.uniform(0.1, 0.3, devices)))
        best, solution = np.inf, ka.solve(problem)
        for _ in range(args.repeats):
            begin = time.perf_counter()
            solution = ka.solve(problem)
            best = min(best, time.perf_counter() - begin)
        gap = float(solution.certificate.duality_gap)
        rows.append({"devices": devices, "solve_s": best, "duality_gap": gap, "ok": solution.certificate.ok})
    engine = ka.engine()
    if args.json:
        emit(_json({"engine": str(engine), "why": engine.why, "runs": rows}))
    else:
        emit(f"engine: {engine} ({engine.why})\n{'devices':>9} {'solve/ms':>10} {'gap':>9}\n")
        emit("".join(f"{r['devices']:9d} {1e3 * r['solve_s']:10.3f} {r['duality_gap']:9.1e}\n" for r in rows))
    return DONE


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _put(out: Path | None, text: str, source: str | None = None) -> None:
    """Write to a file, or to standard output where none, or ``-``, is named; never over what was read."""
    if out is None or str(out) == "-":
        emit(text)
    elif source is not None and out.exists() and Path(source).exists() and out.samefile(source):
        raise ValueError(f"--out {out}: is the scenario itself")
    else:
        write_durably(out, text)


def _say_refused(judged: ka.Certificate) -> None:
    name, value = judged.worst
    print(f"kktalloc: error: the certificate refuses the allocation: {name} = {value:.3g}", file=sys.stderr)


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """What is wrong with a file's content, with the file's name before it."""
    try:
        yield
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None


def _tables(path: Path, what: str) -> dict[str, Any]:
    """Content of a TOML or JSON file whose top is a table."""
    content = read_tables(path, what)
    if not isinstance(content, dict):
        raise ValueError("expected a table of fields")
    return content


def _assumed(tables: dict[str, Any]) -> tuple[Constants, Schedule]:
    """Constants and schedule of an assumptions file, in the bound's range.

    The number of rounds is what a plan chooses: one in the file is replaced, and none need stand there.
    """
    known("table", tables, ["constants", "schedule"])
    content = {}
    for name, kind in (("constants", Constants), ("schedule", Schedule)):
        names = [f.name for f in fields(kind)]
        content[name] = table_of(tables, name, names, set(names) - {"rounds"})
    of_constants, of_schedule = content["constants"], {**content["schedule"], "rounds": 1.0}
    for table, values in content.items():
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{table}.{name}: expected a number, got {shown(value)}")
    constants, schedule = Constants(**of_constants), Schedule(**of_schedule)
    try:
        bound(constants, schedule, [0.0])
    except PreconditionError as error:
        raise ValueError(f"{error} ({_SYMBOLS})") from None
    except ValueError as error:  # begins with the field
        table = "constants" if str(error).partition(":")[0] in of_constants else "schedule"
        raise ValueError(f"{table}.{error}") from None
    return constants, schedule
