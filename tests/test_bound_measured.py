"""Bounds from measured errors: they are the theorems', the lesser is reported, and preconditions are checked."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import sympy

from kktalloc import bound as b
from kktalloc.proof import _feedback, _measured, _sparse
from kktalloc.proof import _hypotheses as h

CONSTANTS = b.Constants(
    smoothness_u=8.0, smoothness_v=5.0, gradient_noise_u_var=0.7, gradient_noise_v_var=0.3, pruning_radius=1.5,
    heterogeneity=0.4, coverage=0.5, initial_gap=2.0,
)  # fmt: skip
SCHEDULE = b.Schedule(rounds=50, local_steps=4, personal_steps=6, learning_rate_u=0.004, learning_rate_v=0.05)
RHO = np.array([0.1, 0.5, 0.3])
ALPHA = np.array([0.2, 0.3, 0.5])
GRADIENTS = b.GradientErrors(np.array([0.1, 0.5, 0.2]), 0.05, 0.3, participation=0.5, participation_spread=0.7)
UPLOADS = b.UploadErrors(np.array([0.1, 2.0, 0.3]), 0.3, 0.1, server_rate=1.5)
FEEDBACK = b.FeedbackErrors(np.array([1e-4, 2e-4, 1e-4]), 0.3, 3.0, server_rate=1.5)


def _rationals(rng: np.random.Generator, names: str) -> dict[str, sympy.Rational]:
    return {name: sympy.Rational(int(rng.integers(1, 33)), 16) for name in names.split()}


@pytest.mark.parametrize("kind", ["gradients", "uploads", "feedback", "momentum"])
@pytest.mark.parametrize("seed", range(12))
def test_every_term_is_the_theorems(kind: str, seed: int) -> None:
    """Agreement with the verified expressions at rational points, to rounding."""
    rng = np.random.default_rng(seed)
    at = _rationals(rng, "L L_v var_u var_v delta2 s p r lean rate charge2 nu2 chi2 kappa2 v q L_uv error gap")
    gamma, spare = sympy.Rational(int(rng.integers(1, 17)), 16), sympy.Rational(int(rng.integers(1, 16)), 16)
    tau, tau_v, rounds = int(rng.integers(1, 6)), int(rng.integers(0, 4)), 7
    room = (1 + at["p"]) * (1 + at["r"]) * (1 + 1 / at["r"]) * (1 + at["lean"]) * (1 + 1 / at["v"])
    eta = gamma / (at["L"] * at["rate"] * tau * 16 * room * (1 + at["q"]) * (1 + 1 / at["s"]))
    eta_v = 1 / (at["L_v"] + 1) / 2
    pairs = sympy.Rational(tau * (tau - 1), 2)
    chance = sympy.Rational(1, 4)
    step = at["L"] * eta * tau
    values: dict[Any, Any] = {
        h.L: at["L"], h.L_v: at["L_v"], h.var_u: at["var_u"], h.var_v: at["var_v"], h.delta2: at["delta2"],
        h.gamma: gamma, h.tau: tau, h.tau_v: tau_v, h.eta: eta, h.eta_v: eta_v, h.s: at["s"], h.p: at["p"],
        h.r: at["r"], h.pairs: pairs, h.lean: at["lean"], h.one_lean: 1 + at["lean"], h.spare: spare,
        h.co_spare: 1 - spare,
        h.theta: 1 - (1 + at["p"]) * (1 + 1 / at["r"]) * eta**2 * at["L"] ** 2 * pairs,
    }  # fmt: skip
    theory: Any
    if kind == "gradients":
        theory = _measured
        values |= {
            h.headroom: 1 - step, theory.v: at["v"], theory.q: at["q"], theory.charge2: at["charge2"],
            theory.nu2: at["nu2"], theory.chi2: at["chi2"], theory.absence: 1 / chance - 1,
        }  # fmt: skip
        errors: b.GradientErrors | b.UploadErrors | b.FeedbackErrors = b.GradientErrors(
            [float(at["error"])], float(at["charge2"]), float(at["nu2"]), float(chance), float(at["chi2"])
        )
        young = b.Young(*(float(at[n]) for n in ("s", "p", "r", "lean")), float(spare), float(at["v"]), float(at["q"]))
        per_error = ("pruning",)
    elif kind == "uploads":
        theory = _sparse
        values |= {
            h.headroom: 1 - step * at["rate"] / gamma, theory.rate: at["rate"], theory.n: 1, theory.co_n: 0,
            theory.nu2: at["nu2"], theory.kappa2: at["kappa2"],
        }  # fmt: skip
        errors = b.UploadErrors(
            [float(at["error"])], float(at["nu2"]), float(at["kappa2"]), server_rate=float(at["rate"])
        )
        young = b.Young(1, float(at["p"]), float(at["r"]), float(at["lean"]), float(spare), float(at["s"]))
        per_error = ("unsent",)
    else:
        theory = _feedback
        if kind == "momentum":  # the corollary: its shift, and the rate that momentum amounts to
            beta = sympy.Rational(int(rng.integers(1, 8)), 8)
            at["buffer"] = sympy.Rational(int(rng.integers(1, 33)), 16) ** 2
            at["own"], slow = at["error"] ** 2, at["rate"] * (1 - beta)
            mix = beta * sympy.sqrt(at["buffer"] / at["own"])  # Young's parameter at its best
            at["error"] = (1 + mix) * at["own"] + (1 + 1 / mix) * beta**2 * at["buffer"]
        values |= {
            h.headroom: 1 - step * at["rate"], theory.rate: at["rate"], theory.L_uv: at["L_uv"], theory.nu2: at["nu2"],
        }  # fmt: skip
        errors = b.FeedbackErrors([float(at["error"])], float(at["nu2"]), float(at["L_uv"]), float(at["rate"]))
        if kind == "momentum":
            errors = replace(
                errors, residual=[float(at["own"])], server_rate=float(slow), momentum=float(beta),
                buffer=float(at["buffer"]),
            )  # fmt: skip
        young = b.Young(1, float(at["p"]), float(at["r"]), 0, float(spare))
        per_error = ("residual", "personal_residual")
    terms = theory.round_terms()
    exact = {field.name: getattr(terms, field.name).subs(values) for field in fields(terms)}
    expected = {
        "initial_gap": at["gap"] / rounds,
        "pruning": sum(exact[name] for name in per_error) * at["error"],
        "gradient_weight": exact["gradient"],
        "personal_weight": exact["personal"],
        "selection_noise": exact.get("selection", 0),
        **{
            name: exact.get(name, 0)
            for name in ("coverage_bias", "heterogeneity_drift", "variance", "personal_variance", "participation")
        },
    }
    constants = b.Constants(
        *map(float, (at["L"], at["L_v"], at["var_u"], at["var_v"], 1, at["delta2"], gamma, at["gap"]))
    )
    found = b.bound(constants, b.Schedule(rounds, tau, tau_v, float(eta), float(eta_v)), young=young, errors=errors)
    assert isinstance(found, b.MeasuredTerms)
    assert (found.rounds, found.server_rate) == (rounds, pytest.approx(_rate(errors), rel=1e-12))
    for name, value in vars(found).items():
        if name not in ("theorem", "rounds", "server_rate"):
            assert value == pytest.approx(float(expected[name]), rel=1e-11, abs=1e-300), name
    parts = [name for name in expected if not name.endswith("weight")]
    assert found.total == pytest.approx(float(sum(expected[name] for name in parts)), rel=1e-11)


def _rate(errors: b.Errors) -> float:
    if isinstance(errors, b.GradientErrors):
        return 1.0
    momentum = errors.momentum if isinstance(errors, b.FeedbackErrors) else 0.0
    return float(np.asarray(errors.server_rate)) / (1 - float(np.asarray(momentum)))


def test_the_lesser_of_both_theorems_entry_by_entry() -> None:
    """Where pruning hardly changes the gradient the second theorem is sharper, where it changes it a lot the first."""
    error = np.array([[1e-6], [1e3]]) * np.ones(3)
    errors = replace(GRADIENTS, gradient_error=error, participation=1.0)
    found = b.bound(CONSTANTS, SCHEDULE, RHO, ALPHA, young="best", errors=errors)
    assert found.theorem.tolist() == ["gradient errors", "norms"]
    alone = b.bound(CONSTANTS, SCHEDULE, young="best", weight=ALPHA, errors=errors)
    first = b.bound(CONSTANTS, SCHEDULE, RHO, ALPHA, young="best")
    assert found.gradient_bound == pytest.approx(np.minimum(alone.gradient_bound, first.gradient_bound), rel=1e-14)
    assert found.total[1] == pytest.approx(first.total, rel=1e-14)
    # Both sides are of one theorem: no term is mixed with another's weight.
    assert found.gradient_weight[1] == first.gradient_weight


def test_where_one_theorem_does_not_apply_the_other_counts() -> None:
    """So little coverage that drift takes all of the first theorem's gradient weight at plain parameters."""
    constants, schedule = replace(CONSTANTS, coverage=0.1), replace(SCHEDULE, learning_rate_u=0.0065)
    with pytest.raises(ValueError, match="gradient condition"):
        b.bound(constants, schedule, RHO)
    young = b.Young(coverage=1.0, start=8.0, noise=0.01, kept=0.1)
    found = b.bound(constants, schedule, RHO, young=young, errors=GRADIENTS)
    assert found.theorem == "gradient errors"
    with pytest.raises(ValueError, match="neither theorem"):
        b.bound(replace(CONSTANTS, coverage=1e-3), schedule, RHO, young="best", errors=GRADIENTS)
    with pytest.raises(ValueError, match="step condition"):
        b.bound(constants, replace(SCHEDULE, learning_rate_u=0.04), RHO, young="best", errors=GRADIENTS)


def test_the_first_theorems_constants_give_measured_errors_too() -> None:
    """Steps "gradient error, smooth" and "coverage charge from the least coverage": at tau = 1 nothing is lost."""
    schedule = replace(SCHEDULE, local_steps=1)
    error = 8.0**2 * 1.5**2 * RHO / 0.5
    errors = b.GradientErrors(error, (1 - 0.5) / 0.5 * 0.4, (ALPHA @ ALPHA) * 0.7 / 0.5**2)
    first = b.bound(CONSTANTS, schedule, RHO, ALPHA)
    second = b.bound(CONSTANTS, schedule, weight=ALPHA, errors=errors, young=b.Young(start=1e-9))
    assert second.gradient_bound == pytest.approx(first.gradient_bound, rel=1e-6)


@pytest.mark.parametrize("errors", [GRADIENTS, UPLOADS, FEEDBACK], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("steps", [1, 4])
def test_best_young_is_best_in_its_closed_forms(errors: Any, steps: int) -> None:
    schedule = replace(SCHEDULE, local_steps=steps)
    best = b.best_young(CONSTANTS, schedule, weight=ALPHA, errors=errors)
    if isinstance(errors, b.GradientErrors):  # s = sqrt(e)/beta
        best = replace(best, coverage=np.sqrt(ALPHA @ errors.gradient_error / errors.coverage_charge))
    least = b.bound(CONSTANTS, schedule, weight=ALPHA, young=best, errors=errors).gradient_bound
    auto = b.bound(CONSTANTS, schedule, weight=ALPHA, young="best", errors=errors).gradient_bound
    assert auto == pytest.approx(least, rel=1e-12)
    nearby = np.geomspace(0.5, 2, 101)
    for name in ("coverage", "start", "lean"):
        others = replace(best, **{name: getattr(best, name) * nearby})
        found = b.bound(CONSTANTS, schedule, weight=ALPHA, young=others, errors=errors).gradient_bound
        assert least <= np.min(found) * (1 + 1e-7), name


def test_constants_of_each_round() -> None:
    """Decaying steps: the mean over rounds, each with its own step, is between the best and the worst round."""
    rate = 0.004 / np.sqrt(np.arange(1, 51))
    each = b.bound(CONSTANTS, replace(SCHEDULE, learning_rate_u=rate), errors=UPLOADS, young="best")
    assert isinstance(each, b.MeasuredTerms)
    whole = each.over_rounds()
    assert whole.total == pytest.approx(each.total.mean(), rel=1e-12)
    assert whole.gradient_bound == pytest.approx(each.total.sum() / each.gradient_weight.sum(), rel=1e-12)
    same = b.bound(CONSTANTS, replace(SCHEDULE, learning_rate_u=np.full(50, 0.004)), errors=UPLOADS)
    once = b.bound(CONSTANTS, SCHEDULE, errors=UPLOADS)
    assert isinstance(same, b.MeasuredTerms)
    assert same.over_rounds().gradient_bound == pytest.approx(once.gradient_bound, rel=1e-12)


def test_over_rounds_asks_for_its_rounds_and_one_rate_with_feedback() -> None:
    """A server rate per round: uploads may have it, error feedback not."""

    def terms(rounds: int, errors: b.Errors) -> b.MeasuredTerms:
        found = b.bound(CONSTANTS, replace(SCHEDULE, rounds=rounds), errors=errors, young=b.Young(spare=0.5))
        assert isinstance(found, b.MeasuredTerms)
        return found

    three = np.array([1.0, 1.5, 0.5])
    assert terms(3, replace(UPLOADS, server_rate=three)).over_rounds().total > 0
    assert terms(3, replace(FEEDBACK, server_rate=np.full(3, 0.5))).over_rounds().total > 0
    with pytest.raises(ValueError, match=r"^over_rounds: rounds must be the 3 of .* at index \(0,\): value 50$"):
        terms(50, replace(UPLOADS, server_rate=three)).over_rounds()
    with pytest.raises(ValueError, match=r"^over_rounds: server_rate must be the same .* at index \(1,\): value 1.5$"):
        terms(3, replace(FEEDBACK, server_rate=three)).over_rounds()
    with pytest.raises(ValueError, match=r"^over_rounds: server_rate .* at index \(1,\): value 2$"):
        terms(2, replace(FEEDBACK, server_rate=1.0, momentum=[0.0, 0.5])).over_rounds()
    with pytest.raises(ValueError, match=r"^over_rounds: needs a last axis of rounds"):
        terms(3, UPLOADS).over_rounds()


@pytest.mark.parametrize(
    ("message", "errors"),
    [
        (r"gradient_error: .* at least 0; violated at index \(1,\)", replace(GRADIENTS, gradient_error=[1, -1, 1])),
        ("gradient_error: needs a last axis", replace(GRADIENTS, gradient_error=1.0)),
        ("coverage_charge: .* at least 0", replace(GRADIENTS, coverage_charge=-1)),
        ("server_noise_var: must be finite", replace(GRADIENTS, server_noise_var=np.nan)),
        ("participation: .* at most 1", replace(GRADIENTS, participation=1.5)),
        ("participation: .* positive", replace(GRADIENTS, participation=0)),
        ("upload_error: .* at least 0", replace(UPLOADS, upload_error=[-1.0])),
        ("server_rate: .* positive", replace(UPLOADS, server_rate=0)),
        ("step condition: .* violated", replace(UPLOADS, server_rate=4)),
        ("selection_noise_var: .* at least 0", replace(UPLOADS, selection_noise_var=-1)),
        ("residual: .* at least 0", replace(FEEDBACK, residual=[-1.0])),
        ("smoothness_uv: .* at least 0", replace(FEEDBACK, smoothness_uv=-1)),
        ("momentum: .* below 1", replace(FEEDBACK, momentum=1)),
        ("buffer: .* at least 0", replace(FEEDBACK, buffer=-1)),
        ("step condition: .* violated", replace(FEEDBACK, momentum=0.9)),
    ],
)
def test_refusals_name_what_is_violated(message: str, errors: Any) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        b.bound(CONSTANTS, SCHEDULE, errors=errors, young=b.Young(spare=0.5))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("errors", "step", "personal", "steps"),
    [
        (GRADIENTS, "1 - eta L_u tau", "1 - eta_v L_v / 2", (1.0, 0.5)),
        (UPLOADS, "1 - a eta L_u tau/Gamma", "1 - eta_v L_v / 2", (1.5 / 0.5, 0.5)),
        (replace(FEEDBACK, server_rate=1.5, momentum=0.5), "1 - a eta L_u tau/(1 - beta)", "1 - eta_v L_v", (3.0, 1.0)),
    ],
)
def test_preconditions_are_those_of_the_theorem(
    errors: Any, step: str, personal: str, steps: tuple[float, float]
) -> None:
    """Text and value: each names its own theorem's condition, and the value is what stands before "> 0"."""
    constants, young = replace(CONSTANTS, coverage=0.5), b.Young(spare=0.5)
    large, personal_large = replace(SCHEDULE, learning_rate_u=0.1), replace(SCHEDULE, learning_rate_v=0.5)
    product = 0.1 * 4 * float(np.asarray(CONSTANTS.smoothness_u))
    value = 1 - steps[0] * product
    with pytest.raises(b.PreconditionError) as caught:
        b.bound(constants, large, errors=errors, young=young)
    assert str(caught.value).startswith(f"step condition: {step} > 0 violated: value ")
    assert float(str(caught.value).split()[-1]) == pytest.approx(value, rel=1e-12)
    with pytest.raises(b.PreconditionError) as caught:
        b.bound(constants, personal_large, errors=errors, young=young)
    assert str(caught.value).startswith(f"personal step condition: {personal} > 0 violated: value ")
    value = 1 - steps[1] * 0.5 * float(np.asarray(CONSTANTS.smoothness_v))
    assert float(str(caught.value).split()[-1]) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("^young = 'worst': must be a Young, or 'best'$", {"young": "worst"}),
        ("^young: expected Young, got dict$", {"young": {}}),
        ("^constants: expected Constants, got dict$", {"constants": {"coverage": 1}}),
        ("^schedule: expected Schedule, got int$", {"schedule": 3}),
        (r"^pruning_ratio: .*; violated at index \(0,\): value nan$", {"pruning_ratio": [np.nan, 9, -3]}),
        ("^heterogeneity: expected real numbers, got 'much'$", {"constants": replace(CONSTANTS, heterogeneity="much")}),
        ("^coverage: expected real numbers, got '1'$", {"constants": replace(CONSTANTS, coverage="1")}),
        ("^rounds: expected real numbers, got 1j$", {"schedule": replace(SCHEDULE, rounds=1j)}),
        (
            r"^local_steps: expected real numbers, got \[\[1\]",
            {"schedule": replace(SCHEDULE, local_steps=[[1], [1, 2]])},
        ),
        (
            r"^heterogeneity: shape \(2,\) does not fit \(3,\) of the other fields$",
            {"constants": replace(CONSTANTS, smoothness_u=[8.0, 8.0, 8.0], heterogeneity=[0.4, 0.4])},
        ),
        (
            r"^initial_gap: shape \(2,\) does not fit|^rounds: shape \(3,\) does not fit",
            {"constants": replace(CONSTANTS, initial_gap=[1, 2]), "schedule": replace(SCHEDULE, rounds=[1, 2, 3])},
        ),
        (
            r"^upload_error: shape \(2,\) does not fit \(3,\) of the other fields$",
            {"constants": replace(CONSTANTS, coverage=[1, 1, 1]), "errors": replace(UPLOADS, upload_error=[[1], [1]])},
        ),
        (
            r"^weight: shape \(2, 3\) does not fit \(4, 3\)",
            {"errors": replace(UPLOADS, upload_error=np.ones((4, 3))), "weight": np.ones((2, 3))},
        ),
    ],
)
def test_bad_input_is_named(message: str, arguments: dict[str, Any]) -> None:
    given = {"constants": CONSTANTS, "schedule": SCHEDULE, "errors": UPLOADS} | arguments
    with pytest.raises((TypeError, ValueError), match=message):
        b.bound(**given)


def test_error_feedback_needs_spare_headroom() -> None:
    with pytest.raises(ValueError, match="spare: must be above 0 with error feedback"):
        b.bound(CONSTANTS, SCHEDULE, errors=FEEDBACK)


def test_something_to_go_by_is_needed() -> None:
    with pytest.raises(TypeError, match="pruning_ratio: the first theorem needs it"):
        b.bound(CONSTANTS, SCHEDULE)
    with pytest.raises(TypeError, match="expected GradientErrors, UploadErrors or FeedbackErrors, got dict"):
        b.bound(CONSTANTS, SCHEDULE, errors={})  # type: ignore[arg-type]


def test_error_feedback_is_of_third_order_in_the_step() -> None:
    """What is kept back enters with the step squared less: halving the step quarters the guarantee's pruning term."""
    for errors, power in ((UPLOADS, 0), (FEEDBACK, 2)):
        found = []
        for rate in (1e-5, 2e-5):
            # A residual is in units of the model: it shrinks with the step.
            at = replace(errors, residual=[1.0 * rate**2]) if isinstance(errors, b.FeedbackErrors) else errors
            schedule = replace(SCHEDULE, learning_rate_u=rate, personal_steps=0)
            terms = b.bound(CONSTANTS, schedule, errors=at, young=b.Young(spare=0.5))
            found.append(float(terms.pruning / terms.gradient_weight))
        assert found[1] / found[0] == pytest.approx(2.0**power, rel=1e-2)
