"""The numeric bound: it is the theorem's, it refuses what the theorem excludes, and its pieces fit."""

from __future__ import annotations

import re
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from kktalloc import bound as b
from kktalloc.proof import _hypotheses as h
from kktalloc.proof._theorem import AGREEING, GENERAL, round_terms

CONSTANTS = b.Constants(
    smoothness_u=8.0,
    smoothness_v=5.0,
    gradient_noise_u_var=0.7,
    gradient_noise_v_var=0.3,
    pruning_radius=1.5,
    heterogeneity=0.4,
    coverage=0.5,
    initial_gap=2.0,
)
SCHEDULE = b.Schedule(rounds=50, local_steps=4, personal_steps=6, learning_rate_u=0.004, learning_rate_v=0.05)
RHO = np.array([0.1, 0.5, 0.3])
ALPHA = np.array([0.2, 0.3, 0.5])
TERMS = (
    "initial_gap",
    "pruning",
    "coverage_bias",
    "heterogeneity_drift",
    "variance",
    "personal_variance",
)


def fractions(low: int, high: int) -> st.SearchStrategy[sympy.Rational]:
    return st.integers(low, high).map(lambda n: sympy.Rational(n, 16))


@given(
    smooth=fractions(4, 64), lean=fractions(0, 16), spare=fractions(0, 15),
    var=fractions(0, 32), delta2=fractions(0, 32), gamma=fractions(1, 16),
    tau=st.integers(1, 7), small=st.integers(2, 9), s=fractions(4, 64), p=fractions(4, 64), r=fractions(4, 64),
    alpha=st.lists(st.integers(1, 9), min_size=1, max_size=4), data=st.data(),
)  # fmt: skip
def test_every_term_is_the_theorems(
    smooth: sympy.Rational, var: sympy.Rational, delta2: sympy.Rational, gamma: sympy.Rational, tau: int,
    small: int, s: sympy.Rational, p: sympy.Rational, r: sympy.Rational, lean: sympy.Rational, spare: sympy.Rational,
    alpha: list[int], data: st.DataObject,
) -> None:  # fmt: skip
    """Agreement with the verified expressions at rational points, to rounding."""
    eta = gamma / (smooth * tau * small * (1 + p) * (1 + r) * (1 + 1 / r) * (1 + 1 / s) * (1 + lean))
    weights = [sympy.Rational(a, sum(alpha)) for a in alpha]
    rho = [data.draw(fractions(0, 16)) for _ in alpha]
    rounds, tau_v, eta_v, radius, gap = 7, 3, 1 / (smooth + 1), sympy.Rational(5, 4), sympy.Rational(9, 8)
    pairs = sympy.Rational(tau * (tau - 1), 2)
    values = {
        h.L: smooth, h.L_v: smooth, h.var_u: var, h.var_v: var, h.delta2: delta2, h.gamma: gamma,
        h.co_gamma: 1 - gamma, h.tau: tau, h.tau_v: tau_v, h.eta: eta, h.eta_v: eta_v, h.s: s, h.p: p, h.r: r,
        h.pairs: pairs, h.sum_sq: sum(w**2 for w in weights), h.headroom: 1 - smooth * eta * tau,
        h.lean: lean, h.one_lean: 1 + lean, h.spare: spare, h.co_spare: 1 - spare,
        h.theta: 1 - (1 + p) * (1 + 1 / r) * eta**2 * smooth**2 * pairs,
    }  # fmt: skip
    exact = round_terms(AGREEING if gamma == 1 else GENERAL).at(values)
    ratio = sum(w * x for w, x in zip(weights, rho, strict=True))
    expected: dict[str, sympy.Rational] = {field.name: getattr(exact, field.name) for field in fields(exact)}
    expected["pruning"] *= radius**2 * ratio
    expected["initial_gap"] = gap / rounds
    expected["gradient_weight"] = expected.pop("gradient")
    expected["personal_weight"] = expected.pop("personal")

    found = b.bound(
        b.Constants(*map(float, (smooth, smooth, var, var, radius, delta2, gamma, gap))),
        b.Schedule(rounds, tau, tau_v, float(eta), float(eta_v)),
        [float(x) for x in rho],
        [float(w) for w in weights],
        young=b.Young(*map(float, (s, p, r, lean, spare))),
    )
    for name, value in asdict(found).items():
        assert expected[name].is_Rational
        assert value == pytest.approx(float(expected[name]), rel=1e-12, abs=1e-300), name


def test_terms_add_up() -> None:
    terms = b.bound(CONSTANTS, SCHEDULE, RHO, ALPHA)
    assert terms.total == pytest.approx(sum(getattr(terms, name) for name in TERMS), rel=1e-15)
    assert terms.gradient_bound == pytest.approx(terms.total / terms.gradient_weight, rel=1e-15)
    assert all(getattr(terms, name) > 0 for name in TERMS)


def test_one_step_with_full_coverage_is_the_exact_constant() -> None:
    terms = b.bound(replace(CONSTANTS, coverage=1.0), replace(SCHEDULE, local_steps=1), RHO, ALPHA)
    eta, smooth = 0.004, 8.0
    assert terms.gradient_weight == eta / 2
    assert terms.pruning == pytest.approx(eta * smooth**2 / 2 * 1.5**2 * (ALPHA @ RHO), rel=1e-14)
    assert terms.coverage_bias == terms.heterogeneity_drift == 0
    assert terms.variance == pytest.approx(smooth * eta**2 / 2 * 0.7 * (ALPHA @ ALPHA), rel=1e-14)


def test_it_is_below_the_target_with_round_constants() -> None:
    rng = np.random.default_rng(0)
    gamma = rng.uniform(0.05, 1, 500)
    tau = rng.integers(1, 9, 500)
    smooth = rng.uniform(0.1, 50, 500)
    eta = rng.uniform(0.1, 1, 500) * np.minimum(0.5, np.sqrt(gamma / 10)) / (smooth * tau)
    constants = replace(CONSTANTS, coverage=gamma, smoothness_u=smooth)
    terms = b.bound(constants, replace(SCHEDULE, local_steps=tau, learning_rate_u=eta), RHO, ALPHA)
    ratio, drift = ALPHA @ RHO, 6 * (eta * smooth) ** 2 * tau * (tau - 1)
    one = 1 + 1e-12
    assert np.all(terms.gradient_weight * one >= eta * tau / 4)
    assert np.all(terms.pruning <= one * eta * tau * smooth**2 * 1.5**2 / gamma * (1 + drift) * ratio)
    assert np.all(terms.coverage_bias <= one * eta * tau * (1 - gamma) / gamma * 0.4)
    assert np.all(terms.heterogeneity_drift <= one * eta * tau * drift / gamma * 0.4)
    most = eta * tau * 2 * (eta * smooth) ** 2 * (tau - 1) / gamma * 0.7
    most += smooth * eta**2 * tau * 0.7 * (ALPHA @ ALPHA) / gamma**2
    assert np.all(terms.variance <= one * most)


def test_leading_dimensions() -> None:
    rounds = np.array([[10.0], [100.0]])
    gamma = np.array([0.25, 0.5, 1.0])
    rho = np.random.default_rng(1).uniform(size=(4, 1, 1, 3))
    batch = b.bound(replace(CONSTANTS, coverage=gamma), replace(SCHEDULE, rounds=rounds), rho, ALPHA)
    assert batch.total.shape == (4, 2, 3)
    for index in np.ndindex(4, 2, 3):
        one = b.bound(
            replace(CONSTANTS, coverage=gamma[index[2]]),
            replace(SCHEDULE, rounds=rounds[index[1], 0]),
            rho[index[0], 0, 0],
            ALPHA,
        )
        for field in fields(one):
            assert getattr(batch, field.name)[index] == getattr(one, field.name)


def test_a_planner_needs_only_the_mean_pruning_ratio() -> None:
    each = b.bound(CONSTANTS, SCHEDULE, RHO, ALPHA)
    mean = b.bound(CONSTANTS, SCHEDULE, np.array([ALPHA @ RHO]), ALPHA)
    assert mean.total == pytest.approx(each.total, rel=1e-14)


def test_weights_default_to_uniform_and_are_normalised() -> None:
    uniform = b.bound(CONSTANTS, SCHEDULE, RHO)
    assert uniform.total == b.bound(CONSTANTS, SCHEDULE, RHO, np.full(3, 1 / 3)).total
    assert b.bound(CONSTANTS, SCHEDULE, RHO, 40 * ALPHA).total == pytest.approx(
        b.bound(CONSTANTS, SCHEDULE, RHO, ALPHA).total, rel=1e-14
    )


@pytest.mark.parametrize("scale", [1e308, 5e-324])
def test_extreme_weights(scale: float) -> None:
    found = b.bound(CONSTANTS, SCHEDULE, RHO, np.full(3, scale))
    assert found.total == pytest.approx(b.bound(CONSTANTS, SCHEDULE, RHO).total, rel=1e-14)
    assert b.allocator_weights(CONSTANTS, SCHEDULE, np.full(3, scale)).sum() > 0


@pytest.mark.parametrize("gamma", [np.nextafter(1, 0), np.nextafter(1, 2), 1 - 9e-13, 1 + 9e-13])
def test_a_coverage_that_rounding_keeps_from_1_is_1(gamma: float) -> None:
    found = b.bound(replace(CONSTANTS, coverage=gamma), SCHEDULE, RHO, ALPHA)
    assert found.total == b.bound(replace(CONSTANTS, coverage=1.0), SCHEDULE, RHO, ALPHA).total
    less = b.bound(replace(CONSTANTS, coverage=1 - 1e-11), SCHEDULE, RHO, ALPHA)
    assert less.pruning == pytest.approx(2 * found.pruning, rel=1e-9)  # masks may differ: parted by Young


def test_no_personal_steps() -> None:
    found = b.bound(CONSTANTS, replace(SCHEDULE, personal_steps=0), RHO, ALPHA)
    assert found.personal_variance == 0
    assert found.pruning == b.bound(CONSTANTS, SCHEDULE, RHO, ALPHA).pruning


def test_allocator_weights_are_the_gradient_in_the_pruning_ratio() -> None:
    weights = b.allocator_weights(CONSTANTS, SCHEDULE, 3 * ALPHA)
    assert weights / weights.sum() == pytest.approx(ALPHA, rel=1e-14)
    start = b.bound(CONSTANTS, SCHEDULE, RHO, ALPHA).total
    for k in range(3):
        more = RHO + 0.25 * np.eye(3)[k]
        assert b.bound(CONSTANTS, SCHEDULE, more, ALPHA).total - start == pytest.approx(0.25 * weights[k], rel=1e-9)
    many = b.allocator_weights(replace(CONSTANTS, coverage=np.array([0.5, 1.0])), SCHEDULE, ALPHA)
    assert many.shape == (2, 3)
    assert many[0] == pytest.approx(weights)


def test_units() -> None:
    """F in other units, u in other units: the terms follow."""
    f, u = 3.0, 0.5
    scaled = b.Constants(
        smoothness_u=8.0 * f / u**2, smoothness_v=5.0 * f / u**2, gradient_noise_u_var=0.7 * (f / u) ** 2,
        gradient_noise_v_var=0.3 * (f / u) ** 2, pruning_radius=1.5 * u, heterogeneity=0.4 * (f / u) ** 2,
        coverage=0.5, initial_gap=2.0 * f,
    )  # fmt: skip
    steps = replace(SCHEDULE, learning_rate_u=0.004 * u**2 / f, learning_rate_v=0.05 * u**2 / f)
    before, after = b.bound(CONSTANTS, SCHEDULE, RHO), b.bound(scaled, steps, RHO)
    for name in TERMS:
        assert getattr(after, name) == pytest.approx(f * getattr(before, name), rel=1e-12)


@pytest.mark.parametrize("change", [{}, {"heterogeneity": 0.0}, {"gradient_noise_u_var": 0.0, "pruning_radius": 0.0}])
@pytest.mark.parametrize("steps", [1, 4])
def test_best_young_is_best_in_its_closed_forms(change: dict[str, float], steps: int) -> None:
    constants, schedule = replace(CONSTANTS, **change), replace(SCHEDULE, local_steps=steps)
    best = b.best_young(constants, schedule, RHO, ALPHA)
    least = b.bound(constants, schedule, RHO, ALPHA, young=best).gradient_bound
    assert least <= b.bound(constants, schedule, RHO, ALPHA).gradient_bound
    nearby = np.geomspace(0.5, 2, 401)
    for name in ("coverage", "lean"):
        others = replace(best, **{name: getattr(best, name) * nearby})
        found = b.bound(constants, schedule, RHO, ALPHA, young=others).gradient_bound
        assert least <= found.min() * (1 + 1e-7), name
        if not change:
            assert least < found[[0, -1]].min(), name


def test_best_young_where_the_gap_dominates_nearly_halves_the_guarantee() -> None:
    """For small steps and a large gap the weight on the squared gradient goes from 1/2 to 1."""
    constants = replace(CONSTANTS, initial_gap=1e6)
    schedule = replace(SCHEDULE, learning_rate_u=1e-4)
    plain = b.bound(constants, schedule, RHO, ALPHA)
    best = b.bound(constants, schedule, RHO, ALPHA, young=b.best_young(constants, schedule, RHO, ALPHA))
    assert best.gradient_bound < 0.52 * plain.gradient_bound


def test_best_young_without_bias_and_in_batches() -> None:
    agreeing = replace(CONSTANTS, coverage=np.array([0.5, 1.0]))
    best = b.best_young(agreeing, SCHEDULE, RHO)
    found = b.bound(agreeing, SCHEDULE, RHO, young=best)
    assert found.total.shape == (2,)
    assert found.coverage_bias[1] == 0
    for n, gamma in enumerate((0.5, 1.0)):
        one = replace(CONSTANTS, coverage=gamma)
        alone = b.bound(one, SCHEDULE, RHO, young=b.best_young(one, SCHEDULE, RHO))
        assert found.gradient_bound[n] == pytest.approx(alone.gradient_bound, rel=1e-12)


def test_best_young_finds_parameters_where_the_plain_ones_fail() -> None:
    constants, schedule = replace(CONSTANTS, coverage=0.1), replace(SCHEDULE, learning_rate_u=0.0065)
    with pytest.raises(ValueError, match="gradient condition"):
        b.bound(constants, schedule, RHO)
    assert b.bound(constants, schedule, RHO, young=b.best_young(constants, schedule, RHO)).gradient_weight > 0
    with pytest.raises(ValueError, match="gradient condition"):
        b.best_young(replace(CONSTANTS, coverage=0.001), schedule, RHO)


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("step condition: .* violated: value -0.28", {}, {"learning_rate_u": 0.04}, {}),
    ("drift condition: .* violated: value", {}, {"learning_rate_u": 0.03}, {}),
    ("gradient condition: .* violated: value", {"coverage": 0.01}, {"learning_rate_u": 0.02}, {}),
    ("personal step condition: 1 - eta_v L_v / 2 > 0 violated: value -0.25", {}, {"learning_rate_v": 0.5}, {}),
    (r"coverage: .* at most 1; violated at index \(1,\): value 1.5", {"coverage": [1, 1.5]}, {}, {}),
    ("coverage: must be finite and positive.*value 0", {"coverage": 0}, {}, {}),
    ("smoothness_u: must be finite and positive", {"smoothness_u": np.inf}, {}, {}),
    ("smoothness_v: .*value nan", {"smoothness_v": np.nan}, {}, {}),
    ("gradient_noise_u_var: .* at least 0", {"gradient_noise_u_var": -1}, {}, {}),
    ("gradient_noise_v_var: .* at least 0", {"gradient_noise_v_var": -1}, {}, {}),
    ("pruning_radius: .* at least 0", {"pruning_radius": -1}, {}, {}),
    ("heterogeneity: .* at least 0", {"heterogeneity": -1}, {}, {}),
    ("initial_gap: .* at least 0", {"initial_gap": -1}, {}, {}),
    ("rounds: .* positive", {}, {"rounds": 0}, {}),
    ("local_steps: must be whole and at least 1; violated: value 0", {}, {"local_steps": 0}, {}),
    ("personal_steps: .* at least 0", {}, {"personal_steps": -1}, {}),
    ("local_steps: must be whole and at least .; violated: value 1.5", {}, {"local_steps": 1.5}, {}),
    (
        r"personal_steps: must be whole and at least .; violated at index \(1,\): value 0.5",
        {},
        {"personal_steps": [2, 0.5]},
        {},
    ),
    ("learning_rate_u: .* positive", {}, {"learning_rate_u": 0}, {}),
    ("learning_rate_v: .* positive", {}, {"learning_rate_v": -1}, {}),
    (r"pruning_ratio: .* at most 1; violated at index \(2,\): value 1.1", {}, {}, {"pruning_ratio": [0, 1, 1.1]}),
    ("pruning_ratio: needs a last axis", {}, {}, {"pruning_ratio": 0.5}),
    (r"weight: .* at least 0; violated at index \(0,\)", {}, {}, {"weight": [-1, 1, 1]}),
    ("weight: must not be all zero", {}, {}, {"weight": [0, 0, 0]}),
    ("weight: needs a last axis of 3", {}, {}, {"weight": [1, 1]}),
    (r"weight: needs a last axis of 3 devices, got shape \(1,\)", {}, {}, {"weight": [1.0]}),
    (r"weight: needs a last axis of 3 devices, got shape \(2, 1\)", {}, {}, {"weight": [[1.0], [1.0]]}),
    (r"weight: needs a last axis of 1 devices, got shape \(0,\)", {}, {}, {"pruning_ratio": [0.5], "weight": []}),
    ("noise: .* positive", {}, {}, {"young": b.Young(noise=0)}),
    ("gradient: .* positive", {}, {}, {"young": b.Young(gradient=-1)}),
    ("coverage: .* positive", {}, {}, {"young": b.Young(coverage=0)}),
    ("lean: .* at least 0", {}, {}, {"young": b.Young(lean=-1)}),
    ("spare: must be below 1", {}, {}, {"young": b.Young(spare=1)}),
]


@pytest.mark.parametrize(("message", "constants", "schedule", "others"), REFUSED)
def test_refusals_name_what_is_violated(
    message: str, constants: dict[str, Any], schedule: dict[str, Any], others: dict[str, Any]
) -> None:
    arguments = {"pruning_ratio": RHO, **others}
    with pytest.raises(ValueError, match=message) as caught:
        b.bound(replace(CONSTANTS, **constants), replace(SCHEDULE, **schedule), **arguments)
    assert "\n" not in str(caught.value)


def test_the_snippet_of_the_page_runs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "verification.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(snippet, "verification.md", "exec"), namespace)
    constants, schedule, ratio = namespace["constants"], namespace["schedule"], np.array([0.1, 0.5, 0.3])
    sharper = b.bound(constants, schedule, ratio, young=namespace["best_young"](constants, schedule, ratio))
    assert sharper.gradient_bound < b.bound(constants, schedule, ratio).gradient_bound
