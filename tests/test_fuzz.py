"""A short run of the fuzz, the same cases every time; `make fuzz` is the long one."""

from __future__ import annotations

import os
from dataclasses import replace

import fuzz_allocator
import fuzz_variants
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kktalloc as ka

pytestmark = pytest.mark.filterwarnings("ignore:devices.channel_gain")  # fields of every scale

BLOCKS = [(0, 120), (700, 60), (2200, 60)]
EXTREME = st.one_of(
    st.sampled_from([0.0, 1e-12, 1e12, 1.0, -1.0, float("nan"), float("inf"), -float("inf")]),
    st.floats(-12, 12).map(lambda e: 10.0**e),
)


@pytest.mark.parametrize(("first", "count"), BLOCKS)
def test_no_case_goes_wrong(first: int, count: int) -> None:
    tally = fuzz_allocator.run(0, first, count)
    assert tally.wrong == []
    assert tally.outcomes["optimal"] > 0.3 * count
    assert tally.outcomes["infeasible"] > 0
    assert tally.outcomes["refused by name"] > 0
    assert max(value for name, (value, _) in tally.worst.items() if name != fuzz_allocator.GAP) <= 1e-9


# Cases of seed 0 that once went wrong, by cause.
ONCE_WRONG = {
    "total power decides, bandwidth hardly": [1072, 21365, 22971, 24069, 28073],
    "a corner of the table holds the price": [3054, 10137, 35003],
    "an answer that jumps within an ulp of the price": [305, 3540, 4722],
    "computation all but spends the energy": [722, 2346, 10475, 26657, 32807],
    "overhead takes all but a little of the rate": [3641, 5315, 77318],
    "the kink lies next to the floor": [33343],
    "which limit bears the price of power": [45897],
    "an ulp of the energy budget moves the floors": [12273, 42094],
    "not heard under a cap": [12567, 24723],
    "no time left at the best keep ratio": [6000],
    "power that costs next to nothing": [10593],
    "power worth hardly more than its price": [6564],
    "a price at the very corner of a floor that fills the bandwidth": [8299],
}


@pytest.mark.parametrize("engine", ["numpy", ""], ids=["numpy", "default"])
@pytest.mark.parametrize("cause", ONCE_WRONG)
def test_what_once_went_wrong(cause: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KKTALLOC_ENGINE", engine)
    for number in ONCE_WRONG[cause]:
        assert fuzz_allocator.run(0, number, 1).wrong == []


# The same among limits of each device's own.
ONCE_WRONG_OWN = [6633, 9559, 13629, 15970, 38519, 46989]


@pytest.mark.parametrize("number", ONCE_WRONG_OWN)
def test_at_its_own_limit_the_bandwidth_tells_the_efficiency(number: int) -> None:
    """The load, next to 1, tells it no longer."""
    assert fuzz_allocator.run(0, number, 1, fuzz_allocator.DEAD, fuzz_allocator.OWN, every=number + 2).wrong == []


@pytest.mark.parametrize("engine", ["numpy", ""], ids=["numpy", "default"])
def test_one_side_of_the_price_may_be_out_of_reach(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An overhead leaves an energy branch on which an ulp of the efficiency leads beyond every bandwidth."""
    monkeypatch.setenv("KKTALLOC_ENGINE", engine)
    assert fuzz_allocator.run(900, 1491, 1, fuzz_allocator.DEAD, fuzz_allocator.OWN, every=1493).wrong == []


@pytest.mark.parametrize("engine", ["numpy", ""], ids=["numpy", "default"])
def test_of_two_prices_with_equal_bounds_the_one_that_is_the_slope_counts(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who keeps a billionth gives two such prices, 2e-9 apart, and the bound has no digits left to tell them."""
    monkeypatch.setenv("KKTALLOC_ENGINE", engine)
    assert fuzz_allocator.run(903, 4115, 1, fuzz_allocator.DEAD, fuzz_allocator.OWN, every=4117).wrong == []


# Of the other questions: seed, case, and the share of devices that cannot send.
ONCE_REFUSED = {
    "a least bandwidth whose power looked spare, so that its price was dropped, and with it the bound": (502, 100, 0.0),
    "computing leaves next to nothing of the energy, and a least bandwidth hangs on its last digits": (0, 2779, 0.0),
    "floors found anew in other units do not fit by rounding, and their power was not looked at": (0, 51879, 0.2),
    "the same, and bandwidth was missing": (0, 57839, 0.2),
    "an ulp of the least bandwidth moves the power beyond the cap": (0, 59039, 0.2),
    "an ulp of the least deadline moves the power by a millionth": (0, 70739, 0.2),
}


@pytest.mark.parametrize("engine", ["numpy", ""], ids=["numpy", "default"])
@pytest.mark.parametrize("cause", ONCE_REFUSED)
def test_a_least_budget_that_was_once_refused(cause: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KKTALLOC_ENGINE", engine)
    seed, number, share = ONCE_REFUSED[cause]
    case = fuzz_allocator.drawn(seed, number, share, share)
    problem = fuzz_allocator.single(ka.Problem(ka.Cell(**case.cell), ka.Devices(**case.devices), case.curve))
    assert fuzz_variants._least(problem, fuzz_allocator.infeasible_whole) == ""


# The same of devices with a clock and electronics, seed 20.
ONCE_WRONG_CLOCKED = {
    "so little is kept that a pruning ratio tells it to a part in ten million": [39, 1536, 3058],
    "a latency of next to nothing beside the deadline": [123],
    "an upload of next to nothing beside its window": [1502, 551],
    "time to spare next to the wideband limit": [593, 860, 1767],
    "an ulp of the pruning ratio leaves a millionth of its own bandwidth": [1137],
}


@pytest.mark.parametrize("cause", ONCE_WRONG_CLOCKED)
def test_clocks_that_once_went_wrong(cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of each by NumPy, too, which takes a second for every ten devices."""
    numbers = ONCE_WRONG_CLOCKED[cause]
    for number, engine in [*((n, "") for n in numbers), (numbers[0], "numpy")]:
        monkeypatch.setenv("KKTALLOC_ENGINE", engine)
        found = fuzz_allocator.run(20, number, 1, fuzz_allocator.DEAD, fuzz_allocator.OWN, 10**9, clock=1.0)
        assert found.wrong == []


def test_no_case_with_clocks_goes_wrong() -> None:
    tally = fuzz_allocator.run(20, 0, 60, fuzz_allocator.DEAD, fuzz_allocator.OWN, 20, 0.0, clock=1.0)
    assert tally.wrong == []
    assert tally.outcomes["optimal"] > 10
    assert tally.outcomes["infeasible"] > 10
    assert tally.outcomes["other units"] > 0


@settings(max_examples=150)
@given(
    cell=st.tuples(*[EXTREME] * 3), K=st.integers(0, 3),
    fields=st.dictionaries(st.sampled_from(list(ka.Devices.__dataclass_fields__)), st.tuples(*[EXTREME] * 3)),
)  # fmt: skip
def test_every_field_at_any_scale(
    cell: tuple[float, float, float], K: int, fields: dict[str, tuple[float, float, float]]
) -> None:
    usual = {"channel_gain": 1e-12, "tx_power_max_w": 0.1, "payload_bits": 1e6, "pruned_compute_s": 0.1}
    devices = {name: np.full(K, value) for name, value in usual.items()}
    devices |= {name: np.array(values[:K]) for name, values in fields.items()}
    case = fuzz_allocator.Case(dict(zip(fuzz_allocator.CELL, cell, strict=False)), devices)
    refusal = ""
    try:
        ka.Problem(ka.Cell(**case.cell), ka.Devices(**case.devices))
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert any(f"{table}.{name}" in refusal for table, name in fuzz_allocator._fields())
    else:
        assert fuzz_allocator.judge(case, 0, deep=False).wrong == []


@pytest.mark.skipif(ka.engine() != "compiled", reason="NumPy alone serves here")
def test_both_engines_agree_on_the_stream() -> None:
    tally = fuzz_allocator.run(0, 100, 120, every=10**9, engines="both")
    assert tally.wrong == []
    assert tally.outcomes["by compiled"] > 60
    assert tally.outcomes["apart by no more than an ulp of the data"] > 30


def test_the_fuzz_notices_engines_that_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    solve = ka.solve

    def wrong(problem: ka.Problem, throw: bool = True) -> ka.Solution:
        solution = solve(problem, throw)
        if os.environ.get("KKTALLOC_ENGINE") == "numpy":
            vars(solution)["objective"] = solution.objective * (1.0 + 1e-9)
        return solution

    monkeypatch.setattr(ka, "solve", wrong)
    found = fuzz_allocator.run(0, 0, 20, every=10**9, engines="both").wrong
    assert any("engines" in line for line in found)


def test_the_fuzz_notices_a_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    solve = ka.solve

    def wrong(problem: ka.Problem, throw: bool = True) -> ka.Solution:
        solution = solve(problem, throw)
        return replace(solution, bandwidth_hz=0.99 * solution.bandwidth_hz)

    monkeypatch.setattr(ka, "solve", wrong)
    assert fuzz_allocator.run(0, 0, 20).wrong
