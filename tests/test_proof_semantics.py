"""Do the theories speak of the algorithms? Every hypothesis and every step of each, evaluated on real runs.

Each hypothesis must hold there (so that they are consistent and say what was meant) and then each step must (so that
the checker's axioms are sound). Nothing here uses the checker.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache, partial

import pytest
from theory_worlds import ONES, MaskedRun, UploadRun, World

from kktalloc.proof._language import Theory
from kktalloc.proof._report import theories

Made = Callable[[Theory], World]
SMALL = Fraction(1, 256)
MASKED: dict[str, dict[str, Made]] = {
    "convergence": {
        "three steps": partial(MaskedRun, seed=0, rounds=1, steps=3),
        "two steps": partial(MaskedRun, seed=2, rounds=1, steps=2),
        "two steps, masks agree": partial(MaskedRun, seed=3, rounds=1, steps=2, agreeing=True),
        "two rounds": partial(MaskedRun, seed=5, rounds=2, steps=1),
    },
    "target": {"two steps": partial(MaskedRun, seed=2, rounds=1, steps=2, eta=SMALL, young=ONES)},
    "one_step": {"masks agree": partial(MaskedRun, seed=3, rounds=1, steps=1, agreeing=True, young=ONES)},
    "measured": {
        "two steps, absent devices": partial(MaskedRun, seed=2, rounds=1, steps=2, absent=True),
        "two rounds": partial(MaskedRun, seed=5, rounds=2, steps=1),
    },
    "linear_rate": {"two rounds": partial(MaskedRun, seed=5, rounds=2, steps=1, eta=Fraction(1, 64))},
    "implied": {"two steps": partial(MaskedRun, seed=2, rounds=1, steps=2)},
}
UPLOADS: dict[str, dict[str, Made]] = {
    "sparse": {
        "covered, two steps": partial(UploadRun, seed=1, rounds=1, steps=2, averaging="covered"),
        "fill, two rounds": partial(UploadRun, seed=2, rounds=2, steps=1, averaging="fill"),
    },
    "feedback": {"two rounds": partial(UploadRun, seed=2, rounds=2, steps=1, averaging="fill", feedback=True)},
    "momentum": {
        "two rounds": partial(
            UploadRun, seed=2, rounds=2, steps=1, averaging="fill", feedback=True, momentum=Fraction(1, 2)
        )
    },
}
RUNS = MASKED | UPLOADS
CASES = [(key, name) for key, made in RUNS.items() for name in made]


@cache
def theory(key: str) -> Theory:
    """One of the package's."""
    return theories()[key]


@cache  # a run takes seconds
def run_of(key: str, name: str) -> World:
    """A theory's run."""
    return RUNS[key][name](theory(key))


@pytest.mark.parametrize(("key", "name"), CASES)
def test_hypotheses_hold_on_a_run_and_so_do_all_steps(key: str, name: str) -> None:
    its = theory(key)
    run = run_of(key, name)
    for positive in ("gamma", "theta", "headroom"):
        assert run.parameters.get(positive, 1) > 0
    needs_agreement = {"agreement", "agreeing weights"}
    needs_agreement |= {step.name for step in its.steps if step.name.endswith("agreeing masks")}
    for statement in (*its.facts, *its.steps):
        if "agree" not in name and statement.name in needs_agreement:
            continue
        gaps = list(run.gaps(statement.claim))
        assert gaps
        if statement.claim.relation == "==":
            assert not any(gaps), statement.name
        else:
            assert min(gaps) >= 0, statement.name


def test_masked_runs_are_not_special() -> None:
    for key, made in MASKED.items():
        for name in made:
            if key == "one_step" or "agree" in name:
                continue
            run = run_of(key, name)
            assert run.parameters["gamma"] < 1, key
            assert len({m for (t, k, j, w), m in run.values["mask"].items() if (k, j) == (0, 0)}) == 2, key
    uncovered = [run_of("convergence", name) for name in ("two steps", "two rounds")]
    assert any(0 in run.values["covered"].values() for run in uncovered)
    assert all(run.parameters["delta2"] > 0 and any(run.values["rho"].values()) for run in uncovered)
    absent = run_of("measured", "two steps, absent devices")
    assert set(absent.values["part"].values()) == {0, 2}
    assert absent.parameters["chi2"] > 0


def test_upload_runs_are_not_special() -> None:
    covered, fill = (run_of("sparse", name) for name in UPLOADS["sparse"])
    assert covered.parameters["gamma"] < 1
    assert covered.parameters["kappa2"] > 0
    assert fill.parameters["kappa2"] == 0
    for run in (covered, fill):  # masks know the noise of the round
        assert len({s for (t, k, j, w), s in run.values["sent"].items() if t == 0 and j == 0}) == 2
        assert any(run.values["err"].values())
    feedback, momentum = run_of("feedback", "two rounds"), run_of("momentum", "two rounds")
    assert any(feedback.values["residual"].values())
    assert any(momentum.values["buffer"].values())
    assert momentum.parameters["buffer2_last"] > 0
    assert set(RUNS) | {"lemmas", "allocation", "clock", "priced"} == set(theories())
