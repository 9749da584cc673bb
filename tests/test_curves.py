"""Curves of each device's own: the same answers as devices that are solved by hand, and hulls that hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import random_problem

import kktalloc as ka
from kktalloc._problem import kernel
from kktalloc._problem.variant import variant

RATIOS = np.linspace(0.0, 1.0, 9)


def tables(rng: np.random.Generator, K: int, n: int = 9) -> np.ndarray:
    """Measured errors of K devices at n ratios: rising, not convex."""
    return np.concatenate([np.zeros((K, 1)), np.cumsum(rng.exponential(size=(K, n - 1)), axis=1)], axis=1)


@pytest.mark.parametrize("capped", [False, True])
def test_equal_curves_of_their_own_are_the_shared_one(capped: bool) -> None:
    rng = np.random.default_rng(5)
    for _ in range(4):
        start = random_problem(rng, 6, "mixed", stress=False)
        cap = 0.4 * np.sum(start.devices.tx_power_max_w, axis=-1) if capped else None
        shared = ka.Table(RATIOS, RATIOS**3)
        own = ka.Table(RATIOS, np.tile(RATIOS**3, (6, 1)))
        also_ratios = ka.Table(np.tile(RATIOS, (6, 1)), RATIOS**3)
        try:
            a = ka.solve(variant(start, shared, total_power_w=cap))
        except ka.InfeasibleError:
            continue
        for curve in (own, also_ratios):
            b = ka.solve(variant(start, curve, total_power_w=cap))
            np.testing.assert_allclose(b.pruning_ratio, a.pruning_ratio, atol=1e-11)
            assert float(b.objective) == pytest.approx(float(a.objective), abs=1e-13)
        power = ka.solve(variant(start, ka.PowerLaw(3.0), total_power_w=cap))
        each = ka.solve(variant(start, ka.PowerLaw(np.full(6, 3.0), np.full(6, 2.0)), total_power_w=cap))
        np.testing.assert_allclose(each.pruning_ratio, power.pruning_ratio, atol=1e-8)
        assert float(each.objective) == pytest.approx(2.0 * float(power.objective), rel=1e-9)


def test_a_scale_is_a_weight() -> None:
    rng = np.random.default_rng(2)
    for regime in ("mixed", "energy", "kink"):
        problem = random_problem(rng, 7, regime, stress=False)
        weight, scale = np.asarray(problem.devices.weight), rng.uniform(0.2, 3.0, 7)
        scaled = ka.solve(variant(problem, ka.PowerLaw(2.0, scale)))
        weighted = ka.solve(variant(problem, ka.PowerLaw(2.0), weight=weight * scale))
        np.testing.assert_allclose(scaled.pruning_ratio, weighted.pruning_ratio, atol=1e-8)


def test_different_tables_against_their_pieces_by_brute_force() -> None:
    """Moving a little bandwidth between any two devices, each at its best, must not help."""
    rng = np.random.default_rng(8)
    for _ in range(3):
        problem = random_problem(rng, 4, "peak", stress=False)
        ratios = np.sort(rng.uniform(0.05, 0.95, (4, 7)), axis=1)
        ratios = np.concatenate([np.zeros((4, 1)), ratios, np.ones((4, 1))], axis=1)
        problem = variant(problem, ka.Table(ratios, tables(rng, 4)))
        solution = ka.solve(problem)
        best = float(solution.objective)
        b = np.asarray(solution.bandwidth_hz)
        for i in range(4):
            for j in range(4):
                moved = b.copy()
                moved[i] += 1e-3 * b[j]
                moved[j] -= 1e-3 * b[j]
                alone = 0.0
                feasible = True
                for k in range(4):
                    one = _single(problem, k, moved[k])
                    part = ka.solve(one, throw=False)
                    feasible &= part.status is ka.Status.OPTIMAL
                    alone += float(np.asarray(problem.devices.weight)[k] * part.objective)
                assert not feasible or alone >= best - 1e-12


def _single(problem: ka.Problem, k: int, bandwidth: float) -> ka.Problem:
    d = {n: np.asarray(getattr(problem.devices, n))[k : k + 1] for n in ("channel_gain", "tx_power_max_w",
        "payload_bits", "pruned_compute_s", "overhead_bits", "fixed_latency_s", "energy_budget_j", "pruned_compute_j",
        "fixed_energy_j", "pa_efficiency", "pruning_ratio_max")}  # fmt: skip
    curve = problem.pruning_error
    assert isinstance(curve, ka.Table)
    cell = problem.cell
    return ka.Problem(
        ka.Cell(bandwidth, np.asarray(cell.noise_psd_w_per_hz)[0], np.asarray(cell.deadline_s)[0]),
        ka.Devices(**d),
        ka.Table(np.asarray(curve.pruning_ratio)[k], np.asarray(curve.error)[k]),
    )


def test_batches_of_curves() -> None:
    rng = np.random.default_rng(4)
    single = random_problem(rng, 5, "mixed", stress=False)
    errors = tables(rng, 5)
    batch = variant(single, ka.Table(RATIOS, np.stack([errors, errors[::-1]])), bandwidth_hz=np.asarray(
        single.cell.bandwidth_hz)[..., 0] * np.array([1.0, 1.3]))  # fmt: skip
    together = ka.solve(batch)
    for i, (scale, own) in enumerate(((1.0, errors), (1.3, errors[::-1]))):
        alone = ka.solve(variant(single, ka.Table(RATIOS, own), bandwidth_hz=np.asarray(
            single.cell.bandwidth_hz)[0] * scale))  # fmt: skip
        np.testing.assert_allclose(together.pruning_ratio[i], alone.pruning_ratio, atol=1e-10)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.booleans())
def test_hulls_are_convex_and_on_their_side(seed: int, n: int, own_ratios: bool) -> None:
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(size=(3, n)), axis=1)
    x[:, 0], x[:, -1] = 0.0, 1.0
    if n > 2:
        x[:, 1:-1] = np.clip(x[:, 1:-1] + 1e-3 * np.arange(1, n - 1), 1e-4, 1 - 1e-3 / n)
        x = np.sort(x, axis=1)
        if not (np.diff(x) > 0).all():
            return
    x = x if own_ratios else x[0]
    e = np.cumsum(rng.exponential(size=(3, n)) * rng.integers(0, 2, (3, n)), axis=1)
    grid = np.linspace(0.0, 1.0, 200)
    measured = np.stack([np.interp(grid, x[k] if own_ratios else x, e[k]) for k in range(3)], axis=1)
    below, above = ka.Table(x, e), ka.Table(x, e, hull="majorant")
    for curve, sign in ((below, 1.0), (above, -1.0)):
        values = np.stack([curve.value(np.full(3, rho)) for rho in grid])
        slopes = np.stack([curve.slope(np.full(3, rho)) for rho in grid])
        assert (np.diff(slopes, axis=0) >= 0).all()
        assert (sign * (measured - values) >= -1e-12 * (1.0 + e.max())).all()
        nodes = np.abs(np.asarray(curve.error) - e).max(axis=1)
        np.testing.assert_allclose(curve.hull_gap, nodes, atol=1e-12)
    # Where the measurements are convex, both are the measurements.
    convex = np.cumsum(np.sort(rng.exponential(size=(3, n - 1)), axis=1) * np.diff(x), axis=1)
    convex = np.concatenate([np.zeros((3, 1)), convex], axis=1)
    for hull in ("minorant", "majorant"):
        assert np.max(ka.Table(x, convex, hull).hull_gap) <= 1e-12  # type: ignore[arg-type]


def test_a_shared_hull_keeps_its_corners_alone() -> None:
    bumpy = [0.0, 0.3, 0.32, 0.5, 1.0]
    below, above = (ka.Table([0.0, 0.25, 0.5, 0.75, 1.0], bumpy, hull) for hull in ("minorant", "majorant"))  # type: ignore[arg-type]
    np.testing.assert_allclose(below.error, [0.0, 0.32, 0.5, 1.0])
    assert (np.diff(above.slopes) > 0).all()
    assert (np.interp([0.0, 0.25, 0.5, 0.75, 1.0], above.pruning_ratio, above.error) >= bumpy).all()
    assert isinstance(below.hull_gap, float)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ka.Table(RATIOS, RATIOS, hull="left"), "hull = 'left': one of 'minorant', 'majorant'"),
        (
            lambda: ka.Table(RATIOS, np.stack([RATIOS, RATIOS[::-1]])),
            r"error\[1, 1\] = 0.875: must be finite and non-d",
        ),
        (lambda: ka.Table(np.ones((2, 3)), np.ones((2, 3))), r"pruning_ratio\[0\] from 1.0 to 1.0: must cover 0 to 1"),
        (lambda: ka.Table(np.tile([0, 0.5, 1.0], (3, 1)), np.ones((2, 3))), "do not broadcast"),
        (lambda: ka.PowerLaw(2.0, [1.0, 0.0]), r"scale\[1\] = 0.0: must be > 0 and finite"),
    ],
)
def test_what_is_no_curve_is_named(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()


def test_curves_must_fit_the_devices() -> None:
    start = random_problem(np.random.default_rng(0), 4, "peak")
    with pytest.raises(ValueError, match=r"pruning_error.error: shape \(3, 9\) does not fit \(4, 9\)"):
        variant(start, ka.Table(RATIOS, tables(np.random.default_rng(0), 3)))
    with pytest.raises(ValueError, match=r"pruning_error.scale: shape \(3,\) does not fit \(4,\)"):
        variant(start, ka.PowerLaw(2.0, np.ones(3)))


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
@pytest.mark.parametrize("own", [True, False])
def test_bandwidth_to_spare_leaves_devices_at_the_break_where_more_is_worth_nothing(
    engine: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last digit: the next ratio that a double can tell lies on the steep piece.

    The search for the price ends with one side alone, whose devices must not forget the break that holds them.
    """
    if engine == "compiled" and kernel._KERNEL is None:
        pytest.skip("installed without a C compiler")
    monkeypatch.setenv("KKTALLOC_ENGINE", engine)
    rng = np.random.default_rng(6)
    for _ in range(100):
        K = int(rng.integers(1, 5))
        corner = np.sort(rng.uniform(0.1, 0.9, (K, 2) if own else 2), axis=-1)
        ends = np.zeros((*corner.shape[:-1], 1))
        ratio = np.concatenate([ends, corner, ends + 1.0], axis=-1)
        table = ka.Table(ratio, np.broadcast_to([0.0, 0.0, 0.2, 0.6], ratio.shape))
        gain, window = 10.0 ** rng.uniform(-12.0, -4.0, K), 10.0 ** rng.uniform(-1.0, 1.0)
        devices = ka.Devices(
            channel_gain=gain,
            tx_power_max_w=0.1,
            payload_bits=rng.uniform(1e5, 1e6, K) * window,
            overhead_bits=rng.uniform(0.0, 1e6, K) * window,
            pruned_compute_s=rng.uniform(0.0, 0.9, K) * window,
            energy_budget_j=rng.uniform(1e-4, 1.0, K) * window,
            pruned_compute_j=rng.uniform(0.0, 1e-4, K) * window,
        )
        try:
            least = ka.least_bandwidth(ka.Problem(ka.Cell(1e9, 4e-21, window), devices, table), ratio[..., 1])
        except ka.InfeasibleError:
            continue
        problem = ka.Problem(ka.Cell(1.1 * float(least), 4e-21, window), devices, table)
        solution = ka.solve(problem)
        assert solution.certificate.ok
        assert solution.objective <= 1e-15


@pytest.mark.parametrize("engine", ["compiled", "numpy"])
@pytest.mark.parametrize("clocked", [{}, {"circuit_power_w": 0.02}], ids=["plain", "electronics"])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e8, 1e10])
def test_a_curve_may_begin_far_above_0(
    engine: str, clocked: dict[str, float], offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The objective then has fewer digits than the range that the gap is relative to: that is no gap."""
    if engine == "numpy":
        monkeypatch.setenv("KKTALLOC_ENGINE", engine)
    devices = ka.Devices([2e-12, 5e-12, 1e-11], 0.1, 4e6, 0.2, **clocked)
    curve = ka.Table([0.0, 0.3, 0.8, 1.0], np.array([0.0, 0.1, 0.5, 1.0]) + offset)
    solution = ka.solve(ka.Problem(ka.Cell(1e6, 4e-21, 1.0), devices, curve))
    assert solution.status is ka.Status.OPTIMAL
    assert solution.certificate.resolution >= 1e-15 * max(offset, 1.0)
    np.testing.assert_allclose(solution.pruning_ratio[1:], 0.3, rtol=1e-6)
