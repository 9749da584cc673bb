"""What the tests of docs/report.md share: the page, docs/results, and values as the page writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from validation.measures import mean_interval

DOCS = Path(__file__).parent.parent / "docs"
TEXT = " ".join((DOCS / "report.md").read_text(encoding="utf-8").split())
SETS = {
    "digits": "digits",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "writers": "digits in ten synthetic hands",
    "subjects": "exercises of ten subjects",
}
FILL, COVERED = "joint-fill-chosen", "joint-covered-chosen"


def results_of(name: str) -> dict[str, Any]:
    """What docs/results hold by this name."""
    found: dict[str, Any] = json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def claimed(report: dict[str, Any], name: str) -> list[Any]:
    """Per seed, of the claim of this id."""
    (found,) = [c["measured"]["per_seed"] for c in report["claims"] if c["id"] == name]
    return list(found)


def column_of(report: dict[str, Any], scheme: str, column: str) -> np.ndarray:
    """Per seed, of one scheme."""
    (row,) = [s for s in report["schemes"] if s["scheme"] == scheme]
    found = row[column]
    return np.array(found["per_seed"] if isinstance(found, dict) else found, dtype=float)


def says(*sentences: str) -> None:
    """Hold that the page has each of these, whatever its line breaks."""
    for sentence in sentences:
        assert sentence in TEXT, sentence


def entry_of(report: dict[str, Any], family: str) -> dict[str, Any]:
    """Of a family of entries the one that was chosen, whatever its rate."""
    (found,) = [of for name, of in report["entries"].items() if name.startswith(f"{family}-rate")]
    return dict(found)


def share_text(values: list[float | None], most: float = 30.0) -> str:
    """Mean, interval, and on how many seeds at most so much."""
    good = sum(value is not None and value <= most for value in values)
    if None in values:
        return f"never on {values.count(None)} of {len(values)} seeds; {good} of {len(values)}"
    low, high = mean_interval(values) or (np.nan, np.nan)
    return f"{np.mean(np.array(values, dtype=float)):.0f} ({low:.0f} to {high:.0f}); {good} of {len(values)}"
