"""From measured curves to an allocation and a plan, for each kind of round."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from problems import REGIMES, random_problem

import kktalloc as ka
from kktalloc import bound as b
from kktalloc._problem.variant import variant
from kktalloc.plan import Candidate, choose_round, plan, time_to_target

RATIOS = np.array([0.0, 0.5, 0.8, 0.9, 1.0])
SHARES = np.array([[0.0, 0.01, 0.05, 0.2, 1.0], [0.0, 0.1, 0.3, 0.5, 1.0], [0.0, 0.02, 0.1, 0.4, 1.0]])
SIZE = np.array([1.0, 3.0, 0.5])
ALPHA = np.array([0.2, 0.3, 0.5])
CONSTANTS = b.Constants(
    smoothness_u=1.0, smoothness_v=1.0, gradient_noise_u_var=0.1, gradient_noise_v_var=0.1, pruning_radius=1.0,
    heterogeneity=0.1, coverage=1.0, initial_gap=0.05,
)  # fmt: skip
SCHEDULE = b.Schedule(rounds=1, local_steps=5, personal_steps=5, learning_rate_u=0.01, learning_rate_v=0.1)
UPLOADS = b.UploadErrors([0.0], 0.1)
ERRORS: dict[str, Any] = {
    "zeroed": b.GradientErrors([0.0], 0.01, 0.1),
    "sparse": UPLOADS,
    "feedback": b.FeedbackErrors([0.0], 0.1, 1.0),
}


def cell(seed: int = 2) -> ka.Problem:
    problem = random_problem(np.random.default_rng(seed), 3, REGIMES[seed % len(REGIMES)], stress=False)
    return variant(problem, weight=ALPHA)


def test_the_allocators_objective_is_the_bounds_sum() -> None:
    found = b.objective("sparse", RATIOS, SHARES, ALPHA, size=SIZE, factor=2.0)
    assert found.weight.sum() == pytest.approx(1.0)
    solution = ka.solve(found.problem(cell()))
    rho = np.asarray(solution.pruning_ratio)
    each = [2.0 * size * np.interp(r, RATIOS, e) for r, e, size in zip(rho, SHARES, SIZE, strict=True)]
    assert found.error(solution.objective) == pytest.approx(ALPHA @ each, rel=1e-9)
    assert found.errors(UPLOADS, solution.objective).upload_error == pytest.approx([ALPHA @ each], rel=1e-9)


def test_an_allocation_that_minimises_it_minimises_the_bound() -> None:
    """No other feasible allocation that was tried has a lesser guarantee."""
    found = b.objective("sparse", RATIOS, SHARES, ALPHA, size=SIZE)
    best = ka.solve(found.problem(cell()))
    others = [ka.solve(cell()), ka.solve(variant(cell(), ka.PowerLaw(4.0)))]

    def guarantee(solution: ka.Solution) -> float:
        each = SIZE * np.array([np.interp(r, RATIOS, e) for r, e in zip(solution.pruning_ratio, SHARES, strict=True)])
        errors = replace(UPLOADS, upload_error=each)
        return float(b.bound(CONSTANTS, SCHEDULE, weight=ALPHA, errors=errors, young="best").gradient_bound)

    assert all(guarantee(best) < guarantee(other) for other in others)


def test_a_majorant_keeps_it_a_bound() -> None:
    bumpy = np.array([[0.0, 0.4, 0.3, 0.6, 1.0], [0.0, 0.1, 0.9, 0.9, 1.0]])
    above, below = (b.objective("zeroed", RATIOS, bumpy, hull=hull) for hull in ("majorant", "minorant"))
    highest = np.maximum.accumulate(bumpy, axis=-1)
    rho = np.linspace(0, 1, 101)
    each = np.array([np.interp(rho, RATIOS, e) for e in highest])
    for curve, sign in ((above.pruning_error, 1), (below.pruning_error, -1)):
        value = np.array([curve.value(np.full(2, r)) for r in rho]).T
        assert (sign * (value - each) >= -1e-12).all()
        assert (np.diff(value, 2, axis=-1) >= -1e-12).all()


def test_a_device_that_loses_nothing_has_no_weight() -> None:
    found = b.objective("frozen", RATIOS, np.vstack([SHARES[:1], np.zeros((1, 5))]), ALPHA[:2])
    assert found.weight.tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="some device must lose something"):
        b.objective("frozen", RATIOS, np.zeros((2, 5)))


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("kind = 'dense'", {"kind": "dense"}),
        (r"error: .* at least 0; violated at index \(0, 1\)", {"error": [[0.0, -1.0, 0.1, 0.2, 1.0]]}),
        ("error: needs axes of devices and ratios", {"error": [0.0, 0.1, 0.1, 0.2, 1.0]}),
        (r"size: .* violated at index \(1,\)", {"size": [1.0, -1.0, 1.0]}),
        ("factor: .* positive", {"factor": 0.0}),
        (r"size: shape \(2,\) does not fit \(3,\)", {"size": [1.0, 2.0]}),
        ("weight: needs a last axis of 3", {"weight": [1.0, 1.0]}),
    ],
)
def test_refusals(message: str, change: dict[str, Any]) -> None:
    given: dict[str, Any] = {"kind": "sparse", "pruning_ratio": RATIOS, "error": SHARES} | change
    with pytest.raises(ValueError, match=message):
        b.objective(**given)


@pytest.mark.parametrize("kind", list(ERRORS))
def test_plans_for_each_kind_of_round(kind: str) -> None:
    name: b.RoundKind = "zeroed" if kind == "zeroed" else "sparse"
    size = SIZE * (1e-4 if kind == "feedback" else 0.01)
    curves = b.objective(name, RATIOS, SHARES, ALPHA, size=size)
    problem, errors = cell(), ERRORS[kind]
    total = 100 * float(np.asarray(problem.cell.deadline_s)[0])
    best = plan(problem, CONSTANTS, SCHEDULE, total, objective=curves, errors=errors, scan=9)
    assert best.total_time_s == pytest.approx(total)
    # Evaluated from scratch; the plan's free parameters are no better than the best.
    at = curves.errors(errors, best.pruning_error)
    schedule = replace(SCHEDULE, rounds=best.rounds)
    least = b.bound(CONSTANTS, schedule, weight=ALPHA, young="best", errors=at).gradient_bound
    assert least <= best.gradient_bound * (1 + 1e-9)
    assert best.gradient_bound <= least * 1.02
    for other in (best.rounds // 2, best.rounds * 2):
        deadline = total / other
        if deadline < float(ka.least_deadline(curves.problem(problem))):
            continue
        shifted = variant(curves.problem(problem), deadline_s=deadline)
        error = curves.errors(errors, ka.solve(shifted).objective)
        value = b.bound(
            CONSTANTS, replace(SCHEDULE, rounds=other), weight=ALPHA, young="best", errors=error
        ).gradient_bound
        assert value >= best.gradient_bound * 0.98
    if kind != "sparse":  # the search is the same, and takes seconds
        return
    back = time_to_target(problem, CONSTANTS, SCHEDULE, best.gradient_bound, objective=curves, errors=errors, scan=5)
    assert back.total_time_s <= total * 1.02
    assert back.gradient_bound <= best.gradient_bound * (1 + 1e-12)


def test_the_kind_of_round_is_chosen_and_explained() -> None:
    """Of two kinds that load the cell alike, the one that loses less; one that cannot be done says why."""
    problem = cell()
    total = 100 * float(np.asarray(problem.cell.deadline_s)[0])
    small, large = (b.objective("sparse", RATIOS, SHARES, ALPHA, size=s * SIZE) for s in (0.01, 1.0))
    candidates = {
        "large": Candidate(problem, CONSTANTS, SCHEDULE, large, UPLOADS),
        "small": Candidate(problem, CONSTANTS, SCHEDULE, small, UPLOADS),
        "norms": Candidate(problem, CONSTANTS, SCHEDULE),
        "impossible": Candidate(problem, CONSTANTS, replace(SCHEDULE, learning_rate_u=1.0)),
    }
    choice = choose_round(candidates, total_time_s=total, scan=9)
    assert choice.name == "small"
    assert choice.plan.gradient_bound == min(found.gradient_bound for found in choice.plans.values())
    assert set(choice.plans) == {"large", "small", "norms"}
    assert "step condition" in choice.refused["impossible"]
    target = 1.2 * choice.plan.gradient_bound
    without_curves = {name: candidates[name] for name in ("norms", "impossible")}
    fastest = choose_round(without_curves, gradient_bound=100 * target, scan=9)
    assert fastest.plan.total_time_s == min(found.total_time_s for found in fastest.plans.values())
    with pytest.raises(ValueError, match="impossible: step condition"):
        choose_round({"impossible": candidates["impossible"]}, total_time_s=total)
    with pytest.raises(ValueError, match="one of total_time_s and gradient_bound"):
        choose_round(candidates)


def test_bad_input_of_a_candidate_does_not_hand_the_choice_to_another() -> None:
    problem = cell()
    total = 100 * float(np.asarray(problem.cell.deadline_s)[0])
    fine = Candidate(problem, CONSTANTS, SCHEDULE)
    curves = b.objective("zeroed", RATIOS, SHARES, ALPHA)
    wrong: dict[str, tuple[type[Exception], Candidate]] = {
        "heterogeneity: .* value nan": (ValueError, replace(fine, constants=replace(CONSTANTS, heterogeneity=np.nan))),
        "rate_u: .* value -1": (ValueError, replace(fine, schedule=replace(SCHEDULE, learning_rate_u=-1))),
        "objective of zeroed rounds": (TypeError, replace(fine, objective=curves, errors=UPLOADS)),
        "errors: pass both": (ValueError, replace(fine, errors=UPLOADS)),
    }
    for message, (kind, candidate) in wrong.items():
        with pytest.raises(kind, match=rf"^candidates\['wrong'\]: .*{message}"):
            choose_round({"fine": fine, "wrong": candidate}, total_time_s=total, scan=5)
    hopeless = {"fine": fine, "mute": replace(fine, problem=variant(problem, channel_gain=0.0, pruning_ratio_max=0.5))}
    assert "peak_power" in choose_round(hopeless, total_time_s=total, scan=5).refused["mute"]
    with pytest.raises(ValueError, match="fine: gradient_bound = 1e-09: no plan gets to"):
        choose_round({"fine": fine}, gradient_bound=1e-9)


def test_objective_and_errors_belong_together() -> None:
    with pytest.raises(ValueError, match="objective and errors: pass both"):
        plan(cell(), CONSTANTS, SCHEDULE, 100.0, errors=UPLOADS)


@pytest.mark.parametrize("kind", ["zeroed", "frozen", "sparse"])
def test_objective_and_errors_are_of_one_kind_of_round(kind: b.RoundKind) -> None:
    fitting = {"zeroed": {"zeroed"}, "frozen": {"sparse"}, "sparse": {"sparse", "feedback"}}[kind]
    curves = b.objective(kind, RATIOS, SHARES, ALPHA)
    for name, errors in ERRORS.items():
        if name in fitting:
            curves.errors(errors, 0.1)
            continue
        wrong = f"^errors: objective of {kind} rounds needs .*Errors, got {type(errors).__name__}$"
        with pytest.raises(TypeError, match=wrong):
            plan(cell(), CONSTANTS, SCHEDULE, 100.0, objective=curves, errors=errors)
        with pytest.raises(TypeError, match=wrong):
            time_to_target(cell(), CONSTANTS, SCHEDULE, 1.0, objective=curves, errors=errors)


def covered_errors(alpha: Any, sends: Any, change: Any) -> tuple[float, float, float]:
    """Left side of A3'' for covered means, the plain tail sum, and Gamma."""
    held = alpha @ sends
    server = np.where(held > 0, 1 / np.where(held > 0, held, 1.0), 1.0)
    kept_back = (1 - sends) * change**2
    return float(alpha @ kept_back @ (server * (1 - held))), float(alpha @ kept_back.sum(axis=-1)), held[held > 0].min()


def test_the_factor_of_covered_means_holds_where_nobody_sends() -> None:
    """A3'' with P of covered means: (1 - Gamma)/Gamma alone is too little once a coordinate is sent by nobody."""
    alpha = np.array([0.6, 0.4])
    left, tail, gamma = covered_errors(alpha, np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[5.0, 3.0], [1.0, 2.0]]))
    assert gamma == 0.6
    assert left > (1 - gamma) / gamma * tail
    assert left <= max(1.0, (1 - gamma) / gamma) * tail
    rng = np.random.default_rng(0)
    uncovered = 0
    for _ in range(300):
        alpha = rng.dirichlet(np.ones(3))
        sends = (rng.random((3, 6)) < rng.random()).astype(float)
        if not sends.any():
            continue
        left, tail, gamma = covered_errors(alpha, sends, rng.normal(size=(3, 6)))
        uncovered += int((alpha @ sends == 0).any())
        assert left <= max(1.0, (1 - gamma) / gamma) * tail * (1 + 1e-12)
    assert uncovered > 50


def test_plans_refuse_what_is_not_one_number_or_not_theirs() -> None:
    curves, one = b.objective("sparse", RATIOS, SHARES, ALPHA), cell()
    two = b.objective("sparse", RATIOS, np.stack([SHARES, SHARES]), ALPHA)
    refused: list[tuple[str, dict[str, Any]]] = [
        ("^objective: expected Objective, got int$", {"objective": 3, "errors": UPLOADS}),
        (r"^objective: one at a time, got a batch of shape \(2,\)$", {"objective": two, "errors": UPLOADS}),
        (
            r"^heterogeneity: a plan needs one number, got shape \(2,\)$",
            {"constants": replace(CONSTANTS, heterogeneity=[1, 2])},
        ),
        (r"^learning_rate_u: a plan needs one number", {"schedule": replace(SCHEDULE, learning_rate_u=[1e-3, 1e-3])}),
        (
            r"^upload_noise_var: a plan needs one number",
            {"objective": curves, "errors": replace(UPLOADS, upload_noise_var=[1, 2])},
        ),
    ]
    for message, change in refused:
        with pytest.raises((TypeError, ValueError), match=message):
            plan(**{"problem": one, "constants": CONSTANTS, "schedule": SCHEDULE, "total_time_s": 9.0} | change)
    with pytest.raises(TypeError, match=r"^candidates: expected Mapping, got list$"):
        choose_round([1], total_time_s=1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^candidates\['a'\]: expected Candidate, got int$"):
        choose_round({"a": 3}, total_time_s=1.0)  # type: ignore[dict-item]
