"""The results that the paper reports: ``docs/results``, and the tables that measuring scripts write into ``docs``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from validation.measures import mean_interval
from validation.results import read_json

ROOT = Path(__file__).resolve().parent.parent
FloatArray = NDArray[np.float64]
Report = dict[str, Any]


ADAPTIVE = ("digits", "mnist", "fashion_mnist", "writers", "subjects")
CNN = ("digits", "mnist", "fashion_mnist")
"""Data sets of the planner's study."""


@dataclass(frozen=True)
class Results:
    """Reports of the studies, as their ``report.json`` has them, and measured tables as rows of text."""

    mnist: Report
    fashion: Report
    ablation: Report
    bound: Report
    ordering: Report
    tradeoff: Report
    map: Report
    scale: Report
    harder: Report
    difference: Report
    kept: Report
    earlier: Report
    """The ladder of unlike phones as it was counted first."""
    kinds: Report
    baselines: Report
    drives: Report
    adaptive: dict[str, Report]
    """Of the planner's study, by data set."""
    cnn: dict[str, Report]
    """The same with the convolutional network."""
    speed: list[list[str]]
    """What was timed, what was asked, what was measured, notes."""
    tightness: list[list[str]]
    """Instance, local steps, the theorem's value, the exact worst case, their ratio."""
    mutations: tuple[int, int]
    """Mutants that the checker refused, and all there were."""


def load(docs: Path = ROOT / "docs") -> Results:
    """Read everything; a ValueError names what is missing."""
    folder = docs / "results"
    speed, verification = ((docs / name).read_text(encoding="utf-8") for name in ("speed.md", "verification.md"))
    return Results(
        **{
            name: read_json(folder / f"{file}.json")
            for name, file in (
                ("mnist", "latency-mnist"),
                ("fashion", "latency-fashion_mnist"),
                ("ablation", "ablation-digits"),
                ("earlier", "earlier/difference"),
                ("kept", "difference-kept"),
                *(
                    (study, study)
                    for study in (
                        "bound",
                        "ordering",
                        "tradeoff",
                        "map",
                        "scale",
                        "harder",
                        "difference",
                        "kinds",
                        "baselines",
                        "drives",
                    )
                ),
            )
        },
        adaptive={name: read_json(folder / f"adaptive-{name}.json") for name in ADAPTIVE},
        cnn={name: read_json(folder / f"adaptive-{name}-cnn.json") for name in CNN},
        speed=_markdown_table(speed, "| what | asked |", "docs/speed.md"),
        tightness=_markdown_table(verification, "| instance | tau |", "docs/verification.md"),
        mutations=_mutations(verification),
    )


def _markdown_table(text: str, head: str, name: str) -> list[list[str]]:
    """The rows of the table that starts with `head`."""
    if head not in text:
        raise ValueError(f"{name} has no table that starts with {head!r}")
    rows = []
    for line in text[text.index(head) :].splitlines()[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return rows


def _mutations(text: str) -> tuple[int, int]:
    words = text.replace("*", "").replace(",", "").split()
    for at, word in enumerate(words):
        if word == "killed" and words[at - 2] == "of" and words[at - 1].isdigit():
            return int(words[at - 3]), int(words[at - 1])
    raise ValueError("docs/verification.md does not say how many mutants of how many were killed")


def claim(report: Report, name: str) -> Report:
    """The claim of this id."""
    for each in report["claims"]:
        if each["id"] == name:
            found: Report = each
            return found
    raise ValueError(f"study {report['study']['name']!r} makes no claim of id {name!r}")


def per_seed(measured: Report) -> list[float | None]:
    """One value per seed, None where a run did not get there."""
    return list(measured["per_seed"])


def complete(measured: Report) -> FloatArray:
    """One value per seed; ValueError where a seed has none, as a mean of the others would flatter."""
    values = per_seed(measured)
    if None in values:
        raise ValueError("a seed has no value where the text reports all of them")
    return np.array(values, dtype=float)


def scheme(report: Report, name: str) -> Report:
    """The row of a scheme in the table of a comparison."""
    for row in report["schemes"]:
        if row["scheme"] == name:
            found: Report = row
            return found
    raise ValueError(f"study {report['study']['name']!r} has no scheme {name!r}")


def average(report: Report, name: str, column: str) -> float:
    """Mean over seeds of a scheme's column."""
    return float(complete(scheme(report, name)[column]).mean())


def time_percent(report: Report, name: str, reference: str = "partial") -> list[float | None]:
    """Per seed: the simulated time to the target accuracy in per cent of the reference's; None if never reached."""
    mine, other = (per_seed(scheme(report, s)["time_to_target_s"]) for s in (name, reference))
    return [None if a is None or b is None else 100 * a / b for a, b in zip(mine, other, strict=True)]


def t_interval(values: FloatArray) -> tuple[float, float]:
    """Confidence interval of the mean over seeds (Student's t); the mean itself where all are the same."""
    found = mean_interval(values.tolist())
    if found is None:
        raise ValueError(f"an interval needs a number on each of two seeds or more, got {values.tolist()}")
    return found
