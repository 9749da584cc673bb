"""A cap on the sum of powers, and convex pruning-error curves: certificate, CVXPY, prices, infeasibility."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
from problems import REGIMES, known_answers, random_problem
from scipy.optimize import minimize

import kktalloc as ka
from kktalloc._device import at_price
from kktalloc._problem.regime import Regime
from kktalloc._problem.variant import variant


def capped(problem: ka.Problem, total_power_w: float | None, curve: ka.PruningError | None = None) -> ka.Problem:
    """The problem with a cap on total power and another pruning error."""
    cell = {f.name: np.asarray(getattr(problem.cell, f.name))[..., 0] for f in fields(ka.Cell) if f.name[:5] != "total"}
    return ka.Problem(ka.Cell(**cell, total_power_w=total_power_w), problem.devices, curve)


def draw(seed: int) -> tuple[ka.Problem, float]:
    """A random problem and a cap between far too little and a little slack."""
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, int(rng.integers(1, 10)), REGIMES[seed % len(REGIMES)], stress=seed % 3 == 0)
    return problem, float(ka.solve(problem).tx_power_w.sum() * 10 ** rng.uniform(-1, 0.1))


def assert_certified(s: ka.Solution) -> None:
    for name, residual in s.certificate.residuals.items():
        assert residual <= 1e-9, name
    assert abs(s.certificate.duality_gap) <= 1e-9


def test_known_answer() -> None:
    (known,) = (k for k in known_answers() if k.total_power_price_per_w)
    s = ka.solve(known.problem)
    assert s.objective == pytest.approx(known.objective, abs=1e-12)
    np.testing.assert_allclose(s.tx_power_w, known.tx_power_w, rtol=1e-9)
    np.testing.assert_allclose(s.bandwidth_hz, known.bandwidth_hz, rtol=1e-9)
    assert s.prices.total_power_per_w == pytest.approx(known.total_power_price_per_w, rel=1e-9)
    assert s.prices.bandwidth_per_hz == pytest.approx(known.bandwidth_price_per_hz, rel=1e-9)
    assert s.prices.deadline_per_s == pytest.approx(known.deadline_price_per_s, rel=1e-9)


def test_every_feasible_problem_is_certified() -> None:
    feasible = bound = 0
    for seed in range(40):
        s = ka.solve(capped(*draw(seed)), throw=False)
        if s.diagnosis is None:
            feasible += 1
            bound += bool(s.prices.total_power_per_w > 0)
            assert_certified(s)
    assert feasible > 20
    assert bound > 12


def test_cvxpy_agrees() -> None:
    compared = 0
    for seed in range(1, 40, 3):
        problem = capped(*draw(seed))
        s, reference = ka.solve(problem, throw=False), ka.solve_reference(problem)
        if reference.status == "optimal":
            compared += 1
            assert s.objective == pytest.approx(float(reference.objective), abs=1e-6)
    assert compared >= 5


def test_infeasible_cap_says_what_would_do() -> None:
    seen = 0
    for seed in (1, 8, 15):
        problem, cap = draw(seed)
        s = ka.solve(capped(problem, cap), throw=False)
        if s.diagnosis is None:
            continue
        seen += 1
        assert set(s.diagnosis.resource[s.diagnosis.devices]) == {"total_power"}
        assert float(s.diagnosis.deadline_needed_s) > float(np.asarray(problem.cell.deadline_s)[0])
        needed = float(s.diagnosis.total_power_needed_w)
        assert needed > cap
        assert ka.solve(capped(problem, needed * (1 + 1e-9)), throw=False).diagnosis is None
        assert ka.solve(capped(problem, needed * (1 - 1e-6)), throw=False).diagnosis is not None
        with pytest.raises(ka.InfeasibleError, match="total_power_w"):
            ka.solve(capped(problem, cap))
    assert seen == 3


@pytest.mark.parametrize("cap_w", [0.12, 1e-4])
def test_bandwidth_that_would_do_respects_the_cap(cap_w: float) -> None:
    """Floors far beyond the bandwidth: what just carries them at full power takes more power than the cap."""
    phones = ka.Devices(
        [2e-12, 5e-12, 1e-11], 0.1, 4e6, 0.2, energy_budget_j=[0.03, np.inf, 0.05], pruning_ratio_max=0.9
    )
    d = ka.solve(ka.Problem(ka.Cell(1e3, 4e-21, 1.0, cap_w), phones), throw=False).diagnosis
    assert d is not None
    assert (d.resource == "bandwidth").all()
    needed = float(d.bandwidth_needed_hz)
    if cap_w < 0.01:  # below what the floors take in the wideband limit
        assert needed == np.inf
        assert "bandwidth_hz" not in d.message
        return
    for factor, served in ((1 + 1e-9, True), (1 - 1e-6, False)):
        again = ka.solve(ka.Problem(ka.Cell(needed * factor, 4e-21, 1.0, cap_w), phones), throw=False)
        assert (again.diagnosis is None) == served


def test_certificate_refuses_a_broken_cap() -> None:
    problem, _ = draw(3)
    s = ka.solve(problem)
    tighter = capped(problem, float(s.tx_power_w.sum()) * 0.9)
    certificate = ka.certify(tighter, s.pruning_ratio, s.bandwidth_hz, s.tx_power_w)
    assert certificate.residuals["primal_total_power"] == pytest.approx(1 / 0.9 - 1, rel=1e-9)
    assert not certificate.ok


@pytest.mark.parametrize("seed", [2, 3, 10, 40])
def test_price_of_total_power_is_the_fall_of_the_objective(seed: int) -> None:
    problem, cap = draw(seed)
    step = 1e-6
    low, here, high = (ka.solve(capped(problem, cap * (1 + d))) for d in (-step, 0.0, step))
    slope = (low.objective - high.objective) / (2 * step)
    assert here.prices.total_power_per_w * cap == pytest.approx(float(slope), rel=1e-3, abs=1e-8)
    assert here.prices.total_power_per_w >= 0


CURVES = [ka.PowerLaw(2.0), ka.PowerLaw(1.3), ka.Table(np.linspace(0, 1, 6), np.linspace(0, 1, 6) ** 1.5)]


@pytest.mark.parametrize("curve", CURVES, ids=["square", "power", "table"])
def test_convex_error_curves_are_certified(curve: ka.PruningError) -> None:
    for seed in range(14):
        problem, cap = draw(seed)
        s = ka.solve(capped(problem, cap if seed % 2 else None, curve), throw=False)
        if s.diagnosis is None:
            assert_certified(s)


def test_power_law_of_one_is_linear_and_exponents_are_per_device() -> None:
    problem, _ = draw(5)
    linear = ka.solve(problem)
    K = problem.shape[-1]
    np.testing.assert_allclose(
        ka.solve(capped(problem, None, ka.PowerLaw(np.ones(K)))).pruning_ratio, linear.pruning_ratio, atol=1e-9
    )
    two = ka.solve(capped(problem, None, ka.PowerLaw(np.linspace(1, 3, K))))
    assert_certified(two)


def test_curve_against_a_general_solver() -> None:
    """Bandwidths of a peak-limited cell with a square error, by SLSQP on the bandwidths alone."""
    problem = capped(random_problem(np.random.default_rng(1), 5, "peak", stress=False), None, ka.PowerLaw(2.0))
    s = ka.solve(problem)
    from independent import best_keep_ratio, physical

    v = physical(problem)

    def cost(share: np.ndarray) -> float:
        return float(v["alpha"] @ (1 - best_keep_ratio(v, np.abs(share) * v["B"])) ** 2)

    shares = {"type": "ineq", "fun": lambda z: 1 - z.sum()}
    found = min(
        minimize(cost, z / z.sum(), bounds=[(1e-9, 1)] * 5, constraints=shares, options={"ftol": 1e-15}).fun
        for z in (np.ones(5), s.bandwidth_hz)
    )
    assert s.objective <= found + 1e-8
    assert found == pytest.approx(float(s.objective), abs=1e-5)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ka.PowerLaw([1.0, 0.5]), r"exponent\[1\] = 0.5"),
        (lambda: ka.Table([0.0, 0.5, 0.4, 1.0], [0, 1, 2, 3]), r"pruning_ratio\[2\] = 0.4"),
        (lambda: ka.Table([0.0, 0.5, 1.0], [0, 2, 1]), r"error\[2\] = 1.0"),
        (lambda: ka.Table([0.0, 0.5, 1.0], [0, 1, np.inf]), r"^error\[2\] = inf: must be finite"),
        (lambda: ka.Table([0.0, 0.5, 1.0], [np.nan, 1, 2]), r"^error\[0\] = nan: must be finite"),
        (lambda: ka.Table([0.0, 0.5, 1.0], "a"), "^error: expected numbers, got 'a'$"),
        (lambda: ka.PowerLaw("a"), "^exponent: expected numbers, got 'a'$"),
        (lambda: ka.Table([0.1, 1.0], [0, 1]), "must cover 0 to 1"),
        (lambda: capped(draw(5)[0], None, ka.PowerLaw(np.ones(99))), "exponent: shape"),
    ],
)
def test_bad_curves_are_named(make: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()  # type: ignore[operator]


def test_who_is_held_at_a_break_is_there_to_the_last_digit() -> None:
    """An ulp beside it the slopes on both sides are those of one piece, which no price need agree with."""
    ratios = np.linspace(0.0, 1.0, 31)
    curve, held = ka.Table(ratios, ratios**2), 0
    for seed in range(20):
        problem = random_problem(np.random.default_rng(seed), 12, "mixed", stress=False)
        for share in (None, 0.7):
            total = None if share is None else share * float(ka.solve(problem).tx_power_w.sum())
            rho = ka.solve(variant(problem, pruning_error=curve, total_power_w=total), throw=False).pruning_ratio
            off = np.abs(rho[:, None] - curve.breaks).min(axis=1)
            held += (near := off < 1e-13).sum()
            assert off[near].max(initial=0.0) < 3e-16
    assert held > 50


def test_a_floor_at_a_break_is_a_corner_too(monkeypatch: pytest.MonkeyPatch) -> None:
    curve = ka.Table([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 0.02, 0.1, 0.25, 0.5, 1.0])
    devices = ka.Devices([3e-12, 5e-12, 1e-11], 0.1, 4e6, 0.2, pruning_ratio_max=0.4)
    calls = counted_marginals(monkeypatch)
    solution = ka.solve(ka.Problem(ka.Cell(1e6, 4e-21, 1.0), devices, curve))
    assert solution.certificate.ok
    assert (np.abs(solution.pruning_ratio - 0.4) < 1e-14).any()
    assert calls() < 150  # a search for it at every price took 3,400


def counted_marginals(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often marginal values have been evaluated from here on."""
    calls = 0
    evaluate = at_price.marginal

    def counted(*args: object, **kwargs: object) -> at_price.Marginal:
        nonlocal calls
        calls += 1
        return evaluate(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(at_price, "marginal", counted)
    return lambda: calls


@pytest.mark.parametrize("capped", [False, True])
def test_a_table_holds_devices_at_its_breaks_without_a_search(monkeypatch: pytest.MonkeyPatch, capped: bool) -> None:
    rng = np.random.default_rng(4)
    problem = random_problem(rng, 12, "mixed", stress=False)
    curve = ka.Table([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 0.02, 0.1, 0.25, 0.5, 1.0])
    total = 0.7 * float(ka.solve(problem).tx_power_w.sum()) if capped else None
    calls = counted_marginals(monkeypatch)
    solution = ka.solve(variant(problem, pruning_error=curve, total_power_w=total))
    assert solution.certificate.ok
    rho = solution.pruning_ratio
    off = np.abs(rho[:, None] - curve.breaks).min(axis=1)
    assert (off < 1e-14).sum() >= 3
    moving = np.isin(solution.regime, (Regime.ENERGY, Regime.PEAK, Regime.TOTAL_POWER)) & (off > 1e-6)
    assert moving.any()
    # A search for each break at each price took 19,000 and 3,500.
    assert calls() < (1000 if capped else 150)


def test_a_measured_table_is_replaced_by_its_convex_minorant() -> None:
    bumpy = ka.Table([0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 0.3, 0.32, 0.5, 1.0])
    np.testing.assert_allclose(bumpy.value(np.array([0.25, 0.5, 1.0])), [0.16, 0.32, 1.0])
    assert bumpy.hull_gap == pytest.approx(0.14)
    assert (np.diff(bumpy.slope(np.linspace(0, 0.99, 50))) >= 0).all()
