"""The machine-checked proofs for print: statement and certificate of every step, by the step's label."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kktalloc import proof
from kktalloc._durable import write_durably
from kktalloc.proof._report import COROLLARIES

from .tex import GENERATED, Macros, escape, fixed, table

_STEP = re.compile(
    r"\\paragraph\{.*?\}\\label\{proof:(?P<label>[^}]*)\}.*?\n"
    r"\\begin\{flushleft\}\$\\displaystyle (?P<claim>.*?)\$\\end\{flushleft\}\n"
    r"\\begin\{proof\}\[Proof\]\n(?P<certificate>.*?)\\end\{proof\}",
    flags=re.DOTALL,
)
_FACT = re.compile(
    r"\\item\[(?P<name>[^\]]*)\] [^\n]*:\n\\begin\{flushleft\}\$\\displaystyle (?P<claim>.*?)\$\\end\{flushleft\}"
)
_LONE_FACTOR = re.compile(r"\$\\left\((?P<factor>(?:(?! [+-] |\$).)*)\\right\)\$ times")
_LOGARITHM = re.compile(r"\\ln (2|X(?:_2)?)(?= [A-Za-z])")  # a factor after it would read as part of its argument
_ITEM = re.compile(r"(\\item (?:the non-negative term )?)\$(?!.*\\to )")
_TITLES = {
    "lemmas": "Lemmas",
    "convergence": "Theorem, both cases",
    "target": "Corollary, round constants",
    "one_step": "Corollary, one step",
    "measured": "Theorem, measured gradient errors",
    "linear_rate": "Corollary, linear rate",
    "sparse": "Theorem, sparse uploads",
    "feedback": "Theorem, error feedback",
    "momentum": "Corollary, server momentum",
    "implied": "Hypotheses from norms",
    "allocation": "Allocation problem",
    "clock": "Clock and electronics",
    "priced": "Energy with a price",
}


@dataclass(frozen=True)
class Printed:
    """A theory's statements in LaTeX: facts by name, steps as (claim, certificate) by label."""

    facts: dict[str, str]
    steps: dict[str, tuple[str, str]]


@cache  # the proofs are code: within a process they stay what they were
def check() -> tuple[dict[str, Any], dict[str, Printed]]:
    """Check every step; the report as `kktalloc verify --json` gives it, and every theory as it is printed.

    Raises
    ------
    ValueError
        A step fails, or what is printed of one cannot be read back.
    """
    with tempfile.TemporaryDirectory() as folder:
        console = io.StringIO()
        with contextlib.redirect_stdout(console):
            failed = proof.run(as_json=True, latex_dir=Path(folder))
        report = json.loads(console.getvalue())
        if failed:
            raise ValueError(f"steps of the proof fail: {', '.join(report['failed'])}")
        found = {}
        for theory in report["theories"]:
            text = (Path(folder) / f"{theory['key']}.tex").read_text(encoding="utf-8")
            printed = _read(text)
            if text.count(r"\begin{proof}") != len(printed.steps):
                raise ValueError(f"a printed step of {theory['key']!r} cannot be read back")
            found[theory["key"]] = printed
    return report, found


def _read(text: str) -> Printed:
    return Printed(
        {fact["name"]: breakable(fact["claim"]) for fact in _FACT.finditer(text)},
        {step["label"]: (breakable(step["claim"]), _certificate(step["certificate"])) for step in _STEP.finditer(text)},
    )


def _certificate(text: str) -> str:
    """A list whose formulas stand at full size, without brackets around a factor that is alone."""
    text = _LONE_FACTOR.sub(lambda found: f"${found['factor']}$ times", text)
    lines = []
    for line in text.splitlines():
        line = line.replace("the square", "the non-negative term")
        lines.append(_ITEM.sub(lambda found: found[1] + r"$\displaystyle ", line, count=1))
    return breakable("\n".join(lines))


def breakable(formula: str) -> str:
    """Brackets that let a line end between them, of the size that what they hold asks for."""
    formula = _LOGARITHM.sub(lambda found: rf"(\ln {found[1]})", formula)
    marks = list(re.finditer(r"\\(left|right)([()\[\]])", formula))
    sizes, opened = {}, []
    for mark in marks:
        if mark[1] == "left":
            opened.append(mark)
            continue
        begin = opened.pop()
        inside = formula[begin.end() : mark.start()]
        tall = r"\frac" in inside or r"\binom" in inside
        sizes[begin.start()] = sizes[mark.start()] = "Big" if tall else "big" if r"\left" in inside else ""
    return re.sub(
        r"\\(left|right)([()\[\]])",
        lambda m: (f"\\{sizes[m.start()]}{m[1][0]}" if sizes[m.start()] else "") + m[2],
        formula,
    )


def write_steps(path: Path, theories: dict[str, Printed]) -> None:
    """Write ``\\stepclaim{label}`` and ``\\stepcertificate{label}`` of every step."""
    lines = [GENERATED]
    for printed in theories.values():
        for label, (claim, certificate) in printed.steps.items():
            lines.append(rf"\definestep{{{label}}}{{{claim}}}{{{certificate}}}")
    write_durably(path, "\n".join(lines) + "\n")


def facts_list(printed: Printed) -> str:
    """The facts of a theory, one line each: name and formula."""
    lines = [rf"\item[{name}] ${claim}$" for name, claim in printed.facts.items()]
    return GENERATED + "\n".join([r"\begin{factlist}", *lines, r"\end{factlist}"]) + "\n"


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
    steps = {theory["key"]: {step["name"] for step in theory["steps"]} for theory in report["theories"]}
    # A corollary checks its theorem's steps again.
    own = [names - steps.get(COROLLARIES.get(key, ""), set()) for key, names in steps.items()]
    macros.update("Proof", {
        "Steps": fixed(report["steps"]),
        "Distinct": fixed(sum(map(len, own))),
        "Killed": fixed(mutations[0]),
        "Mutants": fixed(mutations[1]),
    })  # fmt: skip
    return macros
