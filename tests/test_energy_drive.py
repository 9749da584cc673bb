"""The queue on a drive: between the same budget in every round and an oracle, and the excess falls with the rounds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_queue_lies_between_the_same_budget_and_the_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    found = import_module("energy_drive").drive(30, seed=301)
    assert found.oracle_bound < found.queue < found.every_round
    # Of what the oracle gains the queue gains more than half, and it is within a few percent of its budgets.
    assert found.every_round - found.queue > 0.5 * (found.every_round - found.oracle_bound)
    assert found.queue_over_percent < 5.0


def test_the_page_shows_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    example = import_module("energy_drive")
    found = example.drive(100, seed=example.SEED)
    page = (ROOT / "docs" / "allocator.md").read_text()
    assert "\n".join(example.shown(100, found)) in page
    worth = (found.every_round - found.queue) / (found.every_round - found.oracle_bound)
    assert f"worth {['', 'one', 'two', 'three', 'four'][round(5 * worth)]} fifths of knowing the future" in page
