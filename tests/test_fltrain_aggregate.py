from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fltrain.aggregate import CoverageMean, refusal


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 10_000))
def test_against_a_slow_loop(devices: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    u = rng.normal(size=n).astype(np.float32)
    masks = rng.random((devices, n)) < 0.5
    dense = rng.random(devices) < 0.2
    masks[dense] = True
    values = (rng.normal(size=(devices, n)) * masks).astype(np.float32)
    alpha = rng.dirichlet(np.ones(devices))
    mean = CoverageMean(n)
    for k in range(devices):
        mask = None if dense[k] else torch.from_numpy(masks[k])
        mean.add(torch.from_numpy(values[k]), mask, alpha[k])
    expected, weights = u.astype(np.float64), np.zeros(n)
    for j in range(n):
        kept = [k for k in range(devices) if masks[k, j]]
        weights[j] = math.fsum(alpha[k] for k in kept)
        if kept:
            expected[j] = math.fsum(alpha[k] * float(values[k, j]) for k in kept) / weights[j]
    np.testing.assert_allclose(mean.result(torch.from_numpy(u)), expected, rtol=2e-7, atol=1e-7)
    uncovered = weights == 0
    np.testing.assert_array_equal(mean.result(torch.from_numpy(u)).numpy()[uncovered], u[uncovered])
    gamma, share = mean.coverage()
    assert gamma == pytest.approx(weights[~uncovered].min() if (~uncovered).any() else 0.0)
    assert share == pytest.approx(uncovered.mean())


def test_unpruned_is_the_plain_mean() -> None:
    mean = CoverageMean(2)
    for value in (1.0, 2.0, 6.0):
        mean.add(torch.tensor([value, -value]), None, 1 / 3)
    assert mean.result(torch.zeros(2)).tolist() == [3.0, -3.0]
    assert mean.coverage() == (1.0, 0.0)


@pytest.mark.parametrize(
    ("values", "mask", "reason"),
    [
        (None, None, "sent nothing"),
        (torch.zeros(4), None, "sent shape (4,), expected (3,)"),
        (torch.zeros(3, 1), None, "sent shape (3, 1), expected (3,)"),
        (torch.tensor([0.0, torch.inf, 0.0]), None, "sent values that are not finite"),
        (torch.tensor([0.0, torch.nan, 0.0]), None, "sent values that are not finite"),
        (torch.zeros(3), torch.ones(3), "sent a mask of torch.float32 (3,), expected torch.bool (3,)"),
        (torch.zeros(3), torch.ones(2, dtype=torch.bool), "sent a mask of torch.bool (2,), expected"),
        (torch.zeros(3), None, None),
        (torch.zeros(3), torch.ones(3, dtype=torch.bool), None),
    ],
)
def test_refusals(values: torch.Tensor | None, mask: torch.Tensor | None, reason: str | None) -> None:
    answer = refusal(values, mask, 1.5, 3)
    assert answer is None if reason is None else answer is not None and answer.startswith(reason)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    assert refusal(torch.zeros(3), None, math.inf, 3) == "reported the loss inf"
