"""Short runs of the evidence; the full ones are `bound_evidence.py` and `bound_tightness.py`."""

from __future__ import annotations

from dataclasses import replace
from itertools import repeat

import bound_adversary
import bound_evidence
import bound_tightness
import numpy as np
import pytest

from kktalloc.bound import Constants, Schedule, bound


def test_bound_is_never_below_the_algorithm_on_quadratics() -> None:
    ratios = [bound_evidence.random_quadratic(seed).ratio for seed in range(80)]
    assert min(ratios) >= 1
    assert np.median(ratios) < 10  # nor is it idle


@pytest.mark.parametrize("rule", list(bound_evidence.RULES))
@pytest.mark.parametrize("batch", [None, 32])
def test_bound_is_never_below_the_algorithm_on_digits(rule: str, batch: int | None) -> None:
    assert bound_evidence.digits(rule, batch, ratio=0.3, local_steps=2, rounds=2).ratio >= 1


@pytest.mark.parametrize("kind", bound_adversary.KINDS)
def test_a_search_for_the_worst_case_stays_below_the_bound(kind: str) -> None:
    found = [bound_adversary.search(seed, kind, 4) for seed in range(4)]
    assert max(found) <= 1 + 1e-9
    assert max(found) > 0.3  # nor is it idle


def test_the_search_finds_a_wrong_theorem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of the charge for what is kept back, and masks that matter refute it."""
    honest = bound_adversary.UploadErrors

    def lying(error: np.ndarray, *rest: float) -> object:
        return honest(error / 3, *rest)

    monkeypatch.setattr(bound_adversary, "UploadErrors", lying)
    assert max(bound_adversary.search(seed, "fill", 6) for seed in range(6)) > 1


def test_the_worst_case_is_attained_by_a_run() -> None:
    """F = L u_1 u_2, the second coordinate pruned: the step is blind, and the bound is exact."""
    zero = np.zeros((1, 2, 1))
    problem = bound_evidence.Quadratics(
        weight=np.ones(1), hessian_u=3.0 * np.array([[[0, 1], [1, 0]]]), hessian_v=np.ones((1, 1, 1)), cross=zero,
        linear=np.zeros((1, 2)), noise_u=np.zeros((1, 2)), noise_v=np.zeros((1, 1)), signs=repeat(np.ones(1)),
        u0=np.array([5.0, 2.0]), v0=np.zeros((1, 1)),
    )  # fmt: skip
    run = bound_evidence.compare(
        problem, np.random.default_rng(0), np.array([0.5]), bound_evidence.by_magnitude,
        rounds=3, local_steps=1, personal_steps=0, step=0.2, samples=1,
    )  # fmt: skip
    assert run.ratio == pytest.approx(1, rel=1e-12)


def test_the_comparison_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a quarter of the smoothness constant the 'bound' is no bound, and the evidence says so."""
    quartered = property(lambda self: float(np.abs(np.linalg.eigvalsh(self.hessian_u)).max()) / 4)
    monkeypatch.setattr(bound_evidence.Quadratics, "smoothness_u", quartered)
    assert min(bound_evidence.random_quadratic(seed).ratio for seed in range(40)) < 1


@pytest.mark.parametrize(
    "instance", [i for i in bound_tightness.INSTANCES if i.tight], ids=lambda i: f"{i.theorem}: {i.name}"
)
def test_one_step_is_the_exact_worst_case(instance: bound_tightness.Instance) -> None:
    value, weight = bound_tightness.theorem(instance)
    assert value == pytest.approx(bound_tightness.worst_case(instance, weight), rel=bound_tightness.TIGHT_TOL)


def test_two_steps_are_close_to_the_worst_case() -> None:
    two = next(i for i in bound_tightness.INSTANCES if i.steps == 2)
    value, weight = bound_tightness.theorem(two)
    exact = bound_tightness.worst_case(two, weight)
    assert exact * (1 - 1e-5) <= value <= 1.2 * exact


def test_pruning_constant_is_half_eta_l_squared() -> None:
    """Gamma = 1 and one step: exactly eta L^2 |u - m u|^2 / 2, in theorem and semidefinite programme."""
    instance = bound_tightness.INSTANCES[0]
    for error in (0.5, 2.0):
        one = replace(instance, pruning_error=error)
        assert bound_tightness.worst_case(one, one.learning_rate / 2) == pytest.approx(0.2 * error / 2, rel=1e-5)
    constants = Constants(1.0, 1.0, 0.0, 0.0, np.sqrt(2.0), 0.0, 1.0, 0.0)
    assert bound(constants, Schedule(1, 1, 0, 0.2, 1.0), np.ones(1)).pruning == pytest.approx(0.2, rel=1e-14)
