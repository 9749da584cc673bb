"""The machine-checked proofs for print: statement and certificate of every step, by the step's label."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from kktalloc import proof
from validation.results import write_atomic

from .tex import GENERATED, Macros, escape, fixed, table

_STEP = re.compile(
    r"\\paragraph\{.*?\}\\label\{proof:(?P<label>[^}]*)\}.*?\n"
    r"\\begin\{flushleft\}\$\\displaystyle (?P<claim>.*?)\$\\end\{flushleft\}\n"
    r"\\begin\{proof\}\[Proof\]\n(?P<certificate>.*?)\\end\{proof\}",
    flags=re.DOTALL,
)
_SHORT = re.compile(r"\\paragraph\{Short forms\.\}")
_TITLES = {
    "lemmas": "Lemmas",
    "convergence": "Theorem, both cases",
    "target": "Corollary, round constants",
    "one_step": "Corollary, one step",
    "allocation": "Allocation problem",
}


def check() -> tuple[dict[str, Any], dict[str, tuple[str, str]]]:
    """Check every step; the report as `kktalloc verify --json` gives it, and (claim, certificate) by label.

    Raises
    ------
    ValueError
        A step fails, or what is printed of one cannot be read back.
    """
    with tempfile.TemporaryDirectory() as folder:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            failed = proof.run(as_json=True, latex_dir=Path(folder))
        report = json.loads(printed.getvalue())
        if failed:
            raise ValueError(f"steps of the proof fail: {', '.join(report['failed'])}")
        found = {}
        for theory in report["theories"]:
            text = (Path(folder) / f"{theory['key']}.tex").read_text(encoding="utf-8")
            for step in _STEP.finditer(text):
                found[step["label"]] = (_breakable(step["claim"]), _breakable(step["certificate"]))
            if text.count(r"\begin{proof}") != sum(label.startswith(theory["key"] + ":") for label in found):
                raise ValueError(f"a printed step of {theory['key']!r} cannot be read back")
    return report, found


def _breakable(formula: str) -> str:
    """Brackets that let a line end between them."""
    for side, mark in (("left", "("), ("right", ")"), ("left", "["), ("right", "]")):
        formula = formula.replace(rf"\{side}{mark}", rf"\big{side[0]}{mark}")
    return formula


def write_steps(path: Path, steps: dict[str, tuple[str, str]]) -> None:
    """Write ``\\stepclaim{label}`` and ``\\stepcertificate{label}`` of every step."""
    lines = [GENERATED]
    for label, (claim, certificate) in steps.items():
        lines.append(rf"\definestep{{{label}}}{{{claim}}}{{{certificate}}}")
    write_atomic(path, "\n".join(lines) + "\n")


def verification_table(report: dict[str, Any]) -> str:
    """How much of each theory is assumed, and how much is checked."""
    rows = []
    for theory in report["theories"]:
        squares = sum(len(step["squares"]) for step in theory["steps"])
        uses = sum(len(step["uses"]) for step in theory["steps"])
        numbers = (len(theory["given"]), len(theory["steps"]), uses, squares)
        rows.append([escape(_TITLES[theory["key"]]), *map(fixed, numbers)])
    return table("lrrrr", ["Theory", "Given", "Steps", "Uses", "Squares"], rows)


def numbers(report: dict[str, Any], mutations: tuple[int, int]) -> Macros:
    """Counts of the verification."""
    macros = Macros()
    names = [(theory["key"] in ("convergence", "target", "one_step"), step["name"])
             for theory in report["theories"] for step in theory["steps"]]  # fmt: skip
    of_bound = {name for bound, name in names if bound}
    macros.update("Proof", {
        "Steps": fixed(report["steps"]),
        "Distinct": fixed(len(of_bound) + sum(not bound for bound, _ in names)),
        "Killed": fixed(mutations[0]),
        "Mutants": fixed(mutations[1]),
    })  # fmt: skip
    return macros
