"""Power laws and tables of each device by the compiled engine, against the NumPy engine and the NumPy certificate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from problems import REGIMES, random_problem
from test_engine import both, engine, own_verdict, pytestmark, stacked

import kktalloc as ka
from kktalloc._engine import compiled

__all__ = ["pytestmark"]  # skipped without a compiler, as the tests that these complete

KINDS = ("power laws", "a table", "tables", "flat tables")


def curve(rng: np.random.Generator, kind: str, K: int) -> ka.PruningError:
    """Exponents of 1 among others; tables of few and many points, on ratios of each device, that may start flat."""
    scale = 10.0 ** rng.uniform(-2.0, 2.0, (K, 1))
    if kind == "power laws":
        return ka.PowerLaw(1.0 + rng.uniform(1.0, 15.0, K) * rng.choice([0.0, 1.0], K), scale[:, 0])
    ratio = np.unique(np.concatenate([[0.0, 1.0], rng.random(rng.integers(0, 10))]))
    if kind == "a table":
        return ka.Table(ratio, ratio ** rng.uniform(1.0, 6.0))
    ratios = np.sort(np.concatenate([np.zeros((K, 1)), rng.random((K, 6)), np.ones((K, 1))], axis=-1), axis=-1)
    if kind == "tables":
        return ka.Table(ratios, scale * ratios ** rng.uniform(1.0, 6.0, (K, 1)))
    return ka.Table(ratio, np.maximum(ratio - 0.3, 0.0) ** rng.uniform(1.0, 3.0))


def draw(rng: np.random.Generator, kind: str, regime: str, K: int | None = None, stress: bool = True) -> ka.Problem:
    problem = random_problem(rng, int(rng.choice([1, 2, 3, 10, 40])) if K is None else K, regime, stress=stress)
    return ka.Problem(cell_of(problem), problem.devices, curve(rng, kind, problem.shape[-1]))


def cell_of(problem: ka.Problem) -> ka.Cell:
    c = problem.cell
    return ka.Cell(*(np.asarray(v)[..., 0] for v in (c.bandwidth_hz, c.noise_psd_w_per_hz, c.deadline_s)))


@pytest.mark.parametrize("kind", KINDS)
def test_engines_and_judges_agree(kind: str) -> None:
    rng = np.random.default_rng(17 + KINDS.index(kind))
    for i in range(35):
        problem = draw(rng, kind, REGIMES[i % len(REGIMES)])
        found, reference = both(problem)
        span = float(np.sum(problem.devices.weight * problem.pruning_error.value(np.ones(problem.shape))))
        blur = 1e-11 + 100.0 * float(reference.certificate.resolution)
        assert float(found.objective) == pytest.approx(float(reference.objective), abs=blur * span), i
        for solution, judge in ((found, "numpy"), (reference, "compiled")):
            with engine(judge):
                assert own_verdict(solution).ok, (i, judge, own_verdict(solution).worst)


@pytest.mark.parametrize("kind", KINDS)
def test_judges_agree_on_what_is_wrong(kind: str) -> None:
    rng = np.random.default_rng(27 + KINDS.index(kind))
    for i in range(20):
        right = ka.solve(draw(rng, kind, REGIMES[i % len(REGIMES)], stress=False))
        for name in ("pruning_ratio", "bandwidth_hz", "tx_power_w", "objective"):
            wrong = getattr(right, name) * (1.0 + 1e-3 * rng.choice([-1, 1]))
            wrong = np.minimum(wrong, 1.0) if name == "pruning_ratio" else wrong
            verdicts = []
            for judge in ("compiled", "numpy"):
                with engine(judge):
                    verdicts.append(own_verdict(replace(right, **{name: wrong})))
            mine, reference = verdicts
            assert mine.ok == reference.ok, (i, name)
            np.testing.assert_allclose(mine.duality_gap, reference.duality_gap, rtol=1e-6, atol=1e-9)
            for residual, value in reference.residuals.items():
                # Where the best answer at a price is not the only one the judges may name another.
                if residual != "stationarity":
                    np.testing.assert_allclose(mine.residuals[residual], value, rtol=1e-6, atol=1e-9, err_msg=residual)


@pytest.mark.parametrize("kind", KINDS)
def test_ordinary_problems_need_no_help(kind: str) -> None:
    """Those of one device too, whose price is anything within a step of its answer."""
    rng = np.random.default_rng(37 + KINDS.index(kind))
    for i in range(60):
        problem = draw(rng, kind, REGIMES[i % len(REGIMES)], stress=False)
        answer = compiled.solve(problem)
        assert answer is not None
        found = answer.allocation()
        if kind != "flat tables":  # whose bandwidth may be worth nothing though not all is kept
            assert found.solved.all(), i


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_problems(kind: str) -> None:
    rng = np.random.default_rng(47 + KINDS.index(kind))
    singles = [random_problem(rng, 6, REGIMES[i % len(REGIMES)], stress=False) for i in range(30)]
    batch = stacked(singles)
    if kind == "power laws":
        exponent = rng.uniform(1.0, 8.0, batch.shape)
        curves = ka.PowerLaw(exponent), [ka.PowerLaw(n) for n in exponent]
    else:
        ratio = np.linspace(0.0, 1.0, 9)
        error = ratio ** rng.uniform(1.0, 6.0, (*batch.shape, 1))
        curves = ka.Table(ratio, error), [ka.Table(ratio, e) for e in error]
    found = ka.solve(ka.Problem(cell_of(batch), batch.devices, curves[0]))
    assert found.certificate.ok
    for i, single in enumerate(singles):
        alone = ka.solve(ka.Problem(cell_of(single), single.devices, curves[1][i]))
        np.testing.assert_allclose(found.objective[i], alone.objective, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", ["power laws", "tables"])
def test_a_large_problem_in_chunks_threads_and_from_a_sample(kind: str) -> None:
    problem = draw(np.random.default_rng(2), kind, "mixed", K=40_001, stress=False)
    with engine("compiled"):
        solution = ka.solve(problem)
    assert solution.status is ka.Status.OPTIMAL
    assert solution.certificate.worst[1] <= 1e-10
    with engine("numpy"):
        assert own_verdict(solution).ok


def test_a_device_at_a_break_tells_the_limit_that_holds_there() -> None:
    """Breaks close to where the energy budget takes over from the peak: the regime is the one at the break."""
    rng = np.random.default_rng(8)
    ratio = np.linspace(0.0, 1.0, 9)
    problems = [random_problem(rng, 10, "kink", stress=False) for _ in range(300)]
    batch = stacked(problems)
    found = compiled.solve(ka.Problem(cell_of(batch), batch.devices, ka.Table(ratio, ratio**2)))
    assert found is not None
    assert found.allocation().solved.all()
    assert found.certified
