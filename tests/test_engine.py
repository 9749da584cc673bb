"""The compiled kernel against the NumPy engine, which is the reference, and the choice between them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from problems import REGIMES, infeasible_problem, known_answers, random_problem

import kktalloc as ka
from kktalloc._certificate.prices import prices
from kktalloc._engine import compiled as compiled_engine
from kktalloc._problem import kernel as loader
from kktalloc._problem.fields import CLOCKED
from kktalloc._problem.variant import variant
from kktalloc._questions.solution import _judged, _priced_anew

pytestmark = pytest.mark.skipif(loader.kernel() is None, reason="the compiled kernel is not built, or not asked")


@contextmanager
def engine(name: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KKTALLOC_ENGINE", name)
        yield


def both(problem: ka.Problem, throw: bool = True) -> tuple[ka.Solution, ka.Solution]:
    with engine("compiled"):
        compiled = ka.solve(problem, throw)
    with engine("numpy"):
        return compiled, ka.solve(problem, throw)


def own_verdict(s: ka.Solution) -> ka.Certificate:
    """The certificate without the claimed prices but bandwidth's: where two limits tie, rounding alone decides them."""
    return ka.certify(
        s.problem, s.pruning_ratio, s.bandwidth_hz, s.tx_power_w, bandwidth_price_per_hz=s.prices.bandwidth_per_hz,
        upload_s=s.upload_s, latency_s=s.latency_s, energy_j=s.energy_j, objective=s.objective, regime=s.regime,
    )  # fmt: skip


def stacked(problems: list[ka.Problem]) -> ka.Problem:
    cell = {
        f.name: np.array([np.asarray(getattr(p.cell, f.name))[0] for p in problems])
        for f in fields(ka.Cell)
        if f.name != "total_power_w"
    }
    devices = {f.name: np.stack([getattr(p.devices, f.name) for p in problems]) for f in fields(ka.Devices)}
    return ka.Problem(ka.Cell(**cell), ka.Devices(**devices))


@pytest.fixture(scope="module")
def pairs() -> list[tuple[ka.Solution, ka.Solution]]:
    rng = np.random.default_rng(71)
    return [both(random_problem(rng, regime=REGIMES[i % len(REGIMES)])) for i in range(140)]


def test_objectives_agree_and_each_certificate_accepts_the_other(pairs: list[tuple[ka.Solution, ka.Solution]]) -> None:
    for compiled, reference in pairs:
        # A price of lam B > 1 blows rounding up: floors that leave next to nothing to share.
        scale = 1.0 + float(reference.prices.bandwidth_per_hz * np.ravel(reference.problem.cell.bandwidth_hz)[0])
        assert float(compiled.objective) == pytest.approx(float(reference.objective), abs=1e-12 * scale)
        for solution, judge in ((compiled, "numpy"), (reference, "compiled")):
            with engine(judge):
                assert own_verdict(solution).ok, own_verdict(solution).worst


def test_known_answers_come_from_the_kernel_itself() -> None:
    for known in known_answers():
        if known.total_power_price_per_w:
            continue
        with engine("compiled"):
            answer = compiled_engine.solve(known.problem)
        assert answer is not None
        found = answer.allocation()
        assert found.solved, known.name
        assert answer.certified, known.name
        assert float(found.objective) == pytest.approx(known.objective, abs=1e-13)


def test_certificates_agree_on_wrong_allocations(pairs: list[tuple[ka.Solution, ka.Solution]]) -> None:
    rng = np.random.default_rng(3)
    for compiled, _ in pairs[::4]:
        for name in ("pruning_ratio", "bandwidth_hz", "tx_power_w", "upload_s", "energy_j"):
            wrong = getattr(compiled, name) * (1 + 1e-3 * rng.choice([-1, 1]))
            verdicts = []
            for which in ("compiled", "numpy"):
                with engine(which):
                    verdicts.append(own_verdict(replace(compiled, **{name: wrong})))
            mine, reference = verdicts
            assert mine.ok == reference.ok
            assert set(mine.residuals) == set(reference.residuals)
            for residual, value in reference.residuals.items():
                np.testing.assert_allclose(mine.residuals[residual], value, rtol=1e-6, atol=1e-9, err_msg=residual)
            np.testing.assert_allclose(mine.duality_gap, reference.duality_gap, rtol=1e-6, atol=1e-9)


def test_shadow_prices_agree(pairs: list[tuple[ka.Solution, ka.Solution]]) -> None:
    for compiled, _ in pairs:
        p = compiled.problem
        with engine("numpy"):
            own = prices(
                p, compiled.pruning_ratio, compiled.bandwidth_hz, compiled.tx_power_w,
                compiled.prices.bandwidth_per_hz, np.zeros(()),
            )  # fmt: skip
        for name, budget in (
            ("deadline_per_s", np.ravel(p.cell.deadline_s)[0]),
            ("energy_per_j", np.minimum(p.devices.energy_budget_j, 1e300)),
            ("peak_power_per_w", np.asarray(p.devices.tx_power_max_w)),
        ):
            # Per relative change of the budget, so that the objective's own rounding is the measure.
            got, want = getattr(compiled.prices, name) * budget, getattr(own, name) * budget
            np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("regime", REGIMES)
def test_prices_of_one_engine_pass_the_other(regime: str) -> None:
    """Also of a limit that is next to free: its price is what rounding leaves of the price of power."""
    for seed in range(6):
        problem = random_problem(np.random.default_rng(seed), 400, regime, stress=False)
        for solution, judge in zip(both(problem), ("numpy", "compiled"), strict=True):
            names = ("energy_per_j", "peak_power_per_w", "deadline_per_s")
            claims = {name: getattr(solution.prices, name) for name in names}
            with engine(judge):
                assert accepted(solution, claims), (seed, judge)
                for name in names[:2]:
                    wrong = claims[name].copy()
                    dearest = int(np.argmax(wrong))
                    wrong[dearest] *= 1.0 + 1e-6
                    assert not wrong[dearest] or not accepted(solution, claims | {name: wrong}), (seed, judge, name)


def accepted(solution: ka.Solution, claims: dict[str, np.ndarray]) -> bool:
    allocation = solution.pruning_ratio, solution.bandwidth_hz, solution.tx_power_w
    price = solution.prices.bandwidth_per_hz
    return bool(ka.certify(solution.problem, *allocation, bandwidth_price_per_hz=price, **claims).ok)


def test_an_answer_is_certified_only_within_the_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure of a verdict may exceed it: each of them alone would be enough to refuse."""
    rng = np.random.default_rng(5)
    for batch in (random_problem(rng, 5, "mixed"), stacked([random_problem(rng, 5, "mixed") for _ in range(9)])):
        found = compiled_engine.solve(batch)
        assert found is not None
        assert found.certified
        worst = max(np.max(found.verdict[:-1]), 1e-17)  # the last is the resolution
        monkeypatch.setattr(compiled_engine, "CERTIFIED", -1.0)  # beyond what rounding is worth
        refused = compiled_engine.solve(batch)
        assert refused is not None
        assert not refused.certified
        np.testing.assert_array_equal(refused.verdict, found.verdict)
        monkeypatch.setattr(compiled_engine, "CERTIFIED", 2 * worst)
        again = compiled_engine.solve(batch)
        assert again is not None
        assert again.certified
        monkeypatch.undo()


def test_what_the_certificate_refuses_of_the_kernel_is_solved_by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    batch = stacked([random_problem(rng, 5, "mixed") for _ in range(4)])
    right, kernel = ka.solve(batch), compiled_engine.solve

    def spoiled(problem: ka.Problem, threads: int | None) -> compiled_engine.Answer:
        found = kernel(problem, threads)
        assert found is not None
        found.device[1, 1] *= 0.99
        return replace(found, certified=False)  # its verdict was on what it had found

    monkeypatch.setattr(compiled_engine, "solve", spoiled)
    solution = ka.solve(batch)
    assert solution.certificate.ok
    np.testing.assert_array_equal(solution.bandwidth_hz[[0, 2, 3]], right.bandwidth_hz[[0, 2, 3]])
    np.testing.assert_allclose(solution.bandwidth_hz[1], right.bandwidth_hz[1], rtol=1e-6)


@pytest.mark.parametrize("regime", REGIMES)
def test_ordinary_problems_need_neither_a_second_engine_nor_other_prices(regime: str) -> None:
    rng = np.random.default_rng(31)
    for K in (1, 3, 10, 40):
        batch = stacked([random_problem(rng, K, regime, stress=False) for _ in range(10)])
        answer = compiled_engine.solve(batch)
        assert answer is not None
        assert answer.certified
        found = answer.allocation()
        assert found.solved.all()
        assert _judged(batch, found, None).certificate.ok


@pytest.mark.parametrize("problems", [1, 4])
def test_prices_that_do_not_suit_are_found_anew(problems: int) -> None:
    rng = np.random.default_rng(1)
    draws = [random_problem(rng, 5, "mixed") for _ in range(problems)]
    problem = stacked(draws) if problems > 1 else draws[0]
    answer = compiled_engine.solve(problem)
    assert answer is not None
    found = answer.allocation()
    spoiled = np.array(found.price_per_hz)
    spoiled.reshape(-1)[-1] *= 1.01
    refused = _judged(problem, replace(found, price_per_hz=spoiled), None)
    assert refused.certificate.passed.sum() == problems - 1
    solution = _priced_anew(refused, replace(found, price_per_hz=spoiled))
    assert solution.certificate.ok
    price = np.reshape(solution.prices.bandwidth_per_hz, -1)
    np.testing.assert_array_equal(price[:-1], np.reshape(found.price_per_hz, -1)[:-1])
    np.testing.assert_allclose(price[-1], np.reshape(found.price_per_hz, -1)[-1], rtol=1e-6)


@pytest.mark.parametrize("size", [21, 600_002])
def test_large_arrays_start_on_a_huge_page(size: int) -> None:
    array = compiled_engine._on_huge_pages(size)
    array[...] = 1.0
    assert array.shape == (size,)
    assert array.flags.c_contiguous
    assert array.ctypes.data % (1 << 21) == 0


@pytest.mark.parametrize("name", ["compiled", "numpy"])
@pytest.mark.parametrize("spoilt", [f.name for f in fields(ka.Devices) if f.name not in ("name", *CLOCKED)])
def test_what_is_not_finite_in_borrowed_arrays_is_not_certified(spoilt: str, name: str) -> None:
    given = dict.fromkeys((f.name for f in fields(ka.Devices) if f.name != "name"), 0.01)
    given |= CLOCKED | {
        "channel_gain": 1e-11,
        "payload_bits": 1e6,
        "energy_budget_j": 1.0,
        "pruning_ratio_max": 1.0,
        "overhead_bits": 0.0,
        "bandwidth_max_hz": np.inf,
    }
    devices = ka.Devices(**{field: np.full(2, value) for field, value in given.items()})
    problem = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), devices)
    with engine(name):
        s = ka.solve(problem)
        allocation = s.pruning_ratio, s.bandwidth_hz, s.tx_power_w
        arrays = {"bandwidth_price_per_hz": s.prices.bandwidth_per_hz}
        assert ka.certify(problem, *allocation, **arrays).ok
        for value in (np.nan, -np.inf, np.inf):
            problem._devices[spoilt][0] = value
            with np.errstate(all="ignore"):
                refused = not ka.certify(problem, *allocation, **arrays).ok
            assert refused or (spoilt in ("energy_budget_j", "bandwidth_max_hz") and value == np.inf)
        problem._devices[spoilt][0] = np.nan
        if spoilt == "channel_gain":  # once: a search among NaN takes all its steps
            with pytest.raises(ValueError, match=r"devices.channel_gain\[0, 0\] = nan"):
                ka.solve(problem)


def test_a_certificate_shows_its_verdict_and_no_more() -> None:
    certificate = ka.solve(stacked([random_problem(np.random.default_rng(0), 5, "peak")])).certificate
    with pytest.raises(ValueError, match="read-only"):
        certificate.passed[...] = False


def test_a_batch_is_its_problems_and_a_bad_one_spoils_no_other() -> None:
    rng = np.random.default_rng(5)
    singles = [random_problem(rng, 6, REGIMES[i % len(REGIMES)], stress=False) for i in range(30)]
    singles[11] = infeasible_problem(rng, "bandwidth", devices=6)[0]
    compiled, reference = both(stacked(singles), throw=False)
    assert (compiled.status == reference.status).all()
    assert compiled.status[11] is ka.Status.INFEASIBLE
    assert np.isnan(compiled.pruning_ratio[11]).all()
    for i, problem in enumerate(singles):
        alone = ka.solve(problem, throw=False)
        # Stacking normalises the weights once more.
        np.testing.assert_allclose(compiled.bandwidth_hz[i], alone.bandwidth_hz, rtol=1e-7)
    np.testing.assert_allclose(compiled.objective, reference.objective, atol=1e-9)


def test_batches_of_any_shape_and_fields_that_broadcast() -> None:
    rng = np.random.default_rng(8)
    gain = 10 ** rng.uniform(-13, -10, (2, 3, 5))
    cell = ka.Cell(rng.uniform(1e6, 2e6, (2, 1)), 4e-21, 1.0)
    devices = ka.Devices(gain, 0.1, rng.uniform(1e6, 3e6, 5), 0.2, energy_budget_j=rng.uniform(0.05, 1, (3, 1)))
    compiled, reference = both(ka.Problem(cell, devices))
    np.testing.assert_allclose(compiled.pruning_ratio, reference.pruning_ratio, rtol=1e-9, atol=1e-12)
    strided = ka.Problem(cell, replace(devices, channel_gain=np.repeat(gain, 2, axis=-1)[..., ::2]))
    np.testing.assert_array_equal(ka.solve(strided).pruning_ratio, compiled.pruning_ratio)


def test_a_large_problem_in_chunks_threads_and_from_a_sample() -> None:
    problem = random_problem(np.random.default_rng(2), 70_001, "mixed", stress=False)
    with engine("compiled"):
        solution = ka.solve(problem)
    assert solution.status is ka.Status.OPTIMAL
    assert solution.certificate.worst[1] <= 1e-11
    with engine("numpy"):
        assert own_verdict(solution).ok


def test_many_random_problems_need_no_help_from_numpy() -> None:
    rng = np.random.default_rng(13)
    problems = [random_problem(rng, 8, REGIMES[i % len(REGIMES)]) for i in range(700)]
    answer = compiled_engine.solve(stacked(problems))
    assert answer is not None
    assert answer.allocation().solved.mean() >= 0.99


def test_numpy_serves_where_it_is_asked_for_and_where_the_kernel_does_not_reach() -> None:
    problem = known_answers()[0].problem
    with engine("numpy"):
        assert compiled_engine.solve(problem) is None
    narrow = variant(problem, bandwidth_max_hz=0.5 * problem.cell.bandwidth_hz)
    assert compiled_engine.solve(narrow) is None
    with engine("fortran"), pytest.raises(ValueError, match="KKTALLOC_ENGINE = fortran"):
        ka.solve(problem)


def test_without_the_kernel_everything_still_works() -> None:
    code = (
        "import sys; sys.modules['kktalloc._kernel'] = None\n"
        "import kktalloc as ka\n"
        "s = ka.solve(ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices([1e-10, 2e-10], 0.1, 1e6, 0.1)))\n"
        "print(s.status.name)\n"
    )
    # A user who asks for the compiled engine wants the error that test_cli sees instead.
    environment = {name: value for name, value in os.environ.items() if name != "KKTALLOC_ENGINE"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "OPTIMAL"


def test_it_builds_without_a_compiler(tmp_path: Path) -> None:
    """The extension is optional: a build whose compiler fails ends well, without the module."""
    root = Path(__file__).parents[1]
    environment = os.environ | {"CC": "false", "CXX": "false"}
    command = [
        sys.executable,
        "setup.py",
        "build_ext",
        "--build-lib",
        str(tmp_path / "lib"),
        "--build-temp",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.so"))
