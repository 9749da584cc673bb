"""Seconds of the long fuzz of priced energy and bits, and that it would notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import fuzz_priced
import pytest

import kktalloc as ka


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_priced, "CHUNK", 6)
    monkeypatch.setattr(fuzz_priced, "OF_BITS", 6)
    monkeypatch.setattr(fuzz_priced, "SEARCHED", 2)
    monkeypatch.setattr(fuzz_priced, "COMPARED", 1)  # costs with clocks take seconds each


@pytest.mark.parametrize("number", [0, 1, 2, 4, 5])  # a shared budget alone is in the fourth
def test_it_finds_nothing(number: int) -> None:
    counts, worst, wrong = fuzz_priced.judge(17, 6 + number)
    assert wrong == []
    assert any("OPTIMAL" in name for name in counts)
    assert all(value <= 1e-9 for name, value in worst.items() if "residual" in name)


@pytest.mark.parametrize(
    ("number", "question", "wrong"),
    [
        (0, "least_cost", lambda a: replace(a, deadline_s=a.deadline_s * 1.001)),
        (2, "solve_priced", lambda a: replace(a, bandwidth_price_per_hz=a.bandwidth_price_per_hz * 1.01)),
        (5, "solve_bits", lambda a: replace(a, lower_bound=a.lower_bound - 1.0)),
    ],
)
def test_it_would_notice(
    monkeypatch: pytest.MonkeyPatch, number: int, question: str, wrong: Callable[[Any], Any]
) -> None:
    asked = getattr(ka, question)
    monkeypatch.setattr(ka, question, lambda *given, **more: wrong(asked(*given, **more)))
    assert fuzz_priced.judge(17, 6 + number)[2]


def test_input_that_is_taken_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for question in ("least_cost", "solve_priced", "solve_bits"):
        monkeypatch.setattr(ka, question, lambda *given, **more: None)
    assert fuzz_priced._accepted(fuzz_priced.np.random.default_rng(0))
