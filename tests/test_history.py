"""The history of costs: figures of calls that cost something, kept per commit, and what is slower is named."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
import history  # noqa: E402


def work(count: int) -> float:
    return sum(1.0 / (i + 1) for i in range(count))


def test_a_cost_is_how_many_yardsticks_a_call_takes() -> None:
    found = history.cost(lambda: work(6_000), lambda: work(2_000), turns=16)
    assert found == pytest.approx(3.0, rel=0.3)


def test_waiting_costs_nothing() -> None:
    """Processor time: what others do on the machine, or a sleep, is not counted."""
    assert history.cost(lambda: time.sleep(1e-3), lambda: work(2_000), turns=8) < 0.5


def test_every_call_answers() -> None:
    for name, call in history.calls().items():
        if "1,000" not in name and "100,000" not in name:
            assert call() is not None, name


def test_what_has_become_slower_is_named() -> None:
    then = {"solve": 1.0, "build": 0.5, "gone": 1.0}
    assert history.compare(then, {"solve": 1.2, "build": 0.9, "new": 9.0}, 1.3) == ["build"]
    assert history.compare({}, {"solve": 1.2}, 1.3) == []


def test_the_kept_figures_are_of_distinct_commits() -> None:
    lines = [json.loads(line) for line in history.KEPT.read_text().splitlines()]
    assert lines
    assert len({line["commit"] for line in lines}) == len(lines)
    for line in lines:
        assert len(line["commit"]) == 40
        assert all(value > 0.0 for value in line["cost"].values())
