"""Each theorem's parts in numbers, from checked inputs; tests hold the formulas to those of `kktalloc.proof`."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from kktalloc._bound.checks import Array, fit, hold, numbers, per_device, positive, weights, within
from kktalloc._bound.inputs import Constants, Errors, FeedbackErrors, GradientErrors, Schedule, UploadErrors, Young
from kktalloc._bound.parts import Parts
from kktalloc._problem.arguments import expect

_AGREEING_TOL = 1e-12  # a coverage this close to 1 is 1


@dataclass(frozen=True)
class _Known:
    """Constants, schedule and free parameters, checked, and what every theorem makes of them."""

    smooth_u: Array
    smooth_v: Array
    var_u: Array
    var_v: Array
    delta2: Array
    gamma: Array
    gap: Array  # per round
    rounds: Array
    tau: Array
    tau_v: Array
    eta: Array
    eta_v: Array
    p: Array
    r: Array
    spare: Array

    @property
    def step2(self) -> Array:
        """``(eta L_u)^2``."""
        return np.asarray((self.eta * self.smooth_u) ** 2)

    @property
    def pairs(self) -> Array:
        """``tau (tau - 1) / 2``."""
        return np.asarray(self.tau * (self.tau - 1) / 2)

    @property
    def theta(self) -> Array:
        """What the drift recursion is solved with."""
        return np.asarray(1 - (1 + self.p) * (1 + 1 / self.r) * self.step2 * self.pairs)

    @property
    def spread(self) -> Array:
        """``(1 + p)(1 + r) eta^2 L_u^2 tau (tau - 1) / 2``."""
        return np.asarray((1 + self.p) * (1 + self.r) * self.step2 * self.pairs)

    @property
    def drift_noise(self) -> Array:
        """``(1 + 1/p) eta^2 L_u^2 (tau - 1) / 2 sigma_u^2``: noise within the drift, per step."""
        return np.asarray((1 + 1 / self.p) * self.step2 * (self.tau - 1) / 2 * self.var_u)

    @property
    def personal_variance(self) -> Array:
        """Of all personal steps."""
        return np.asarray(self.tau_v * self.smooth_v * self.eta_v**2 / 2 * self.var_v)

    @property
    def personal_headroom(self) -> Array:
        """``1 - eta_v L_v / 2``."""
        return np.asarray(1 - self.eta_v * self.smooth_v / 2)


def known(constants: Constants, schedule: Schedule, young: Young, **others: Array) -> _Known:
    """Check what every theorem uses, and that the fields of `others` have shapes that fit.

    ValueError names the field, the index and the value.
    """
    expect("constants", constants, Constants)
    expect("schedule", schedule, Schedule)
    expect("young", young, Young)
    gamma = numbers("coverage", constants.coverage)
    gamma = positive("coverage", np.where(np.abs(gamma - 1) <= _AGREEING_TOL, 1.0, gamma), 1.0)
    gap, rounds = within("initial_gap", constants.initial_gap, 0.0), positive("rounds", schedule.rounds)
    fit({"initial_gap": gap.shape, "rounds": rounds.shape})
    spare = within("spare", young.spare, 0.0)
    hold("spare: must be below 1", spare < 1, spare)
    found = _Known(
        smooth_u=positive("smoothness_u", constants.smoothness_u),
        smooth_v=positive("smoothness_v", constants.smoothness_v),
        var_u=within("gradient_noise_u_var", constants.gradient_noise_u_var, 0.0),
        var_v=within("gradient_noise_v_var", constants.gradient_noise_v_var, 0.0),
        delta2=within("heterogeneity", constants.heterogeneity, 0.0),
        gamma=gamma,
        gap=np.asarray(gap / rounds),
        rounds=rounds,
        tau=within("local_steps", schedule.local_steps, 1.0, whole=True),
        tau_v=within("personal_steps", schedule.personal_steps, 0.0, whole=True),
        eta=positive("learning_rate_u", schedule.learning_rate_u),
        eta_v=positive("learning_rate_v", schedule.learning_rate_v),
        p=positive("noise", young.noise),
        r=positive("gradient", young.gradient),
        spare=spare,
    )
    given = {f.name: np.shape(getattr(each, f.name)) for each in (constants, schedule) for f in fields(each)}
    given.pop("pruning_radius")  # which only the first theorem reads
    fit(given | {name: value.shape for name, value in others.items()})
    return found


def from_norms(
    constants: Constants, schedule: Schedule, pruning_ratio: ArrayLike, weight: ArrayLike | None, young: Young
) -> Parts:
    """Theory "Convergence of pruned, personalised federated learning"."""
    rho = per_device("pruning_ratio", pruning_ratio, 1.0)
    alpha = weights(weight, rho.shape[-1])
    fit({"pruning_ratio": rho.shape, "weight": alpha.shape})
    mean_ratio, weight_squares = np.sum(alpha * rho, axis=-1), np.sum(alpha**2, axis=-1)
    expect("constants", constants, Constants)
    radius = within("pruning_radius", constants.pruning_radius, 0.0)
    it = known(constants, schedule, young, pruning_radius=radius, pruning_ratio=mean_ratio)
    half_step, headroom = it.eta * it.tau / 2, 1 - it.eta * it.smooth_u * it.tau
    with np.errstate(divide="ignore", invalid="ignore"):  # the caller checks theta and headroom
        unit = half_step / (it.gamma * it.theta)
        server = _server_noise(it, headroom) * it.var_u * weight_squares / it.gamma**2
    return Parts(
        theorem="norms",
        half_step=half_step,
        gain=it.spare * headroom,
        lost=unit * it.spread,
        start={"coverage_bias": half_step * (1 - it.gamma) / it.gamma * it.delta2},
        drift={
            "pruning": unit * (it.smooth_u * radius) ** 2 * mean_ratio,
            "heterogeneity_drift": unit * it.spread * it.delta2,
            "variance": unit * it.drift_noise,
        },
        fixed={"initial_gap": it.gap, "variance": server, "personal_variance": it.personal_variance},
        personal_weight=it.eta_v * it.personal_headroom,
        personal_headroom=it.personal_headroom,
        theta=it.theta,
        rounds=it.rounds,
        headroom=headroom,
        alone=it.gamma == 1,
    )


def _server_noise(it: _Known, headroom: Array) -> Array:
    """What a unit of the server's noise per step adds, where masks do not depend on it."""
    cross = it.pairs * it.smooth_u * it.eta / ((1 - it.spare) * headroom)
    return np.asarray(it.smooth_u * it.eta**2 / 2 * (it.tau + cross))


def from_gradients(
    constants: Constants, schedule: Schedule, errors: GradientErrors, weight: ArrayLike | None, young: Young
) -> Parts:
    """Theory "Convergence from measured gradient errors"; s at its best where `young.coverage` is NaN."""
    error = _mean("gradient_error", errors.gradient_error, weight)
    charge = within("coverage_charge", errors.coverage_charge, 0.0)
    noise = within("server_noise_var", errors.server_noise_var, 0.0)
    takes_part = positive("participation", errors.participation, 1.0)
    spread = within("participation_spread", errors.participation_spread, 0.0)
    it = known(
        constants,
        schedule,
        young,
        gradient_error=error,
        coverage_charge=charge,
        server_noise_var=noise,
        participation=takes_part,
        participation_spread=spread,
    )
    s, q = numbers("coverage", young.coverage), positive("kept", young.kept)
    half_step, headroom = it.eta * it.tau / 2, 1 - it.eta * it.smooth_u * it.tau
    with np.errstate(divide="ignore", invalid="ignore"):  # the caller checks theta and headroom
        unit = half_step / (it.gamma * it.theta)
        server = _server_noise(it, headroom) * noise
    lost = unit * it.spread * (1 + q)
    # (1 + s) beta^2 + (1 + 1/s) e is least at s = sqrt(e)/beta, where it is (beta + sqrt(e))^2.
    cross = np.sqrt(charge * error)
    best = np.isnan(s)
    of_charge = np.where(best, charge + cross, (1 + s) * charge)
    of_error = np.where(best, error + cross, (1 + 1 / s) * error)
    absent = (1 / takes_part - 1) * spread * it.tau**2
    return Parts(
        theorem="gradient errors",
        half_step=half_step,
        gain=it.spare * headroom,
        lost=lost,
        start={"coverage_bias": half_step * of_charge, "pruning": half_step * of_error},
        drift={
            "pruning": unit * it.spread * (1 + 1 / q) * error,
            "heterogeneity_drift": lost * it.delta2,
            "variance": unit * it.drift_noise,
        },
        fixed={
            "initial_gap": it.gap,
            "variance": server,
            "personal_variance": it.personal_variance,
            "participation": it.smooth_u * it.eta**2 / 2 * absent,
        },
        personal_weight=it.eta_v * it.personal_headroom,
        personal_headroom=it.personal_headroom,
        theta=it.theta,
        rounds=it.rounds,
        headroom=headroom,
    )


def from_uploads(
    constants: Constants, schedule: Schedule, errors: UploadErrors, weight: ArrayLike | None, young: Young
) -> Parts:
    """Theory "Convergence with sparse uploads", the noise's share at its best, 1."""
    error = _mean("upload_error", errors.upload_error, weight)
    noise = within("upload_noise_var", errors.upload_noise_var, 0.0)
    selection = within("selection_noise_var", errors.selection_noise_var, 0.0)
    rate = positive("server_rate", errors.server_rate)
    of_errors = {"upload_error": error, "upload_noise_var": noise, "selection_noise_var": selection}
    it = known(constants, schedule, young, **of_errors, server_rate=rate)
    step = rate * it.eta
    half_step, headroom = step * it.tau / 2, 1 - step * it.smooth_u * it.tau / it.gamma
    with np.errstate(divide="ignore", invalid="ignore"):  # the caller checks theta and headroom
        unit = half_step / (it.gamma * it.theta)
        server = _upload_noise(it, step, headroom, it.gamma) * noise
    return Parts(
        theorem="uploads",
        half_step=half_step,
        gain=it.spare * headroom,
        lost=unit * it.spread,
        start={"pruning": step / (2 * it.tau) * error},
        drift={"heterogeneity_drift": unit * it.spread * it.delta2, "variance": unit * it.drift_noise},
        fixed={
            "initial_gap": it.gap,
            "variance": server,
            "personal_variance": it.personal_variance,
            "selection_noise": step / 2 * selection,
        },
        personal_weight=it.eta_v * it.personal_headroom,
        personal_headroom=it.personal_headroom,
        theta=it.theta,
        rounds=it.rounds,
        headroom=headroom,
        step_condition="1 - a eta L_u tau/Gamma",
        server_rate=rate,
    )


def _upload_noise(it: _Known, step: Array, headroom: Array, gamma: Array) -> Array:
    """What a unit of the server's noise per step adds, where masks may depend on it."""
    cross = it.smooth_u * step * it.tau / ((1 - it.spare) * headroom * gamma)
    return np.asarray(it.smooth_u * step**2 / (2 * gamma) * (1 + cross) * it.tau)


def from_feedback(
    constants: Constants, schedule: Schedule, errors: FeedbackErrors, weight: ArrayLike | None, young: Young
) -> Parts:
    """Theory "Convergence with sparse uploads and error feedback": nothing at the start, nothing to lean on.

    Its corollary with server momentum has the same terms at the rate a/(1 - beta), with the residual less beta buffers.
    """
    beta = within("momentum", errors.momentum, 0.0)
    hold("momentum: must be below 1", beta < 1, beta)
    buffer = within("buffer", errors.buffer, 0.0)
    # (1 + y) residual + (1 + 1/y) beta^2 buffer at its least
    each = _mean("residual", errors.residual, weight)
    fit({"residual": each.shape, "momentum": beta.shape, "buffer": buffer.shape})
    residual = (np.sqrt(each) + beta * np.sqrt(buffer)) ** 2
    noise = within("upload_noise_var", errors.upload_noise_var, 0.0)
    across = within("smoothness_uv", errors.smoothness_uv, 0.0)
    server_rate = positive("server_rate", errors.server_rate)
    fit({"momentum": beta.shape, "server_rate": server_rate.shape})
    rate = server_rate / (1 - beta)
    of_errors = {"residual": residual, "upload_noise_var": noise, "smoothness_uv": across, "server_rate": rate}
    it = known(constants, schedule, young, **of_errors)
    hold("spare: must be above 0 with error feedback", it.spare > 0, it.spare)
    one = np.ones(())
    step = rate * it.eta
    half_step, headroom = step * it.tau / 2, 1 - step * it.smooth_u * it.tau
    personal_headroom = 1 - it.eta_v * it.smooth_v
    with np.errstate(divide="ignore", invalid="ignore"):  # the caller checks theta and headroom
        unit = half_step / it.theta
        server = _upload_noise(it, step, headroom, one) * noise
        shift = half_step * (it.smooth_u * rate) ** 2 / (it.spare * headroom)
    personal_shift = it.tau_v * it.eta_v / 2 * (across * rate) ** 2
    return Parts(
        theorem="error feedback",
        half_step=half_step,
        gain=np.zeros(()),
        lost=unit * it.spread,
        start={},
        drift={"heterogeneity_drift": unit * it.spread * it.delta2, "variance": unit * it.drift_noise},
        fixed={
            "initial_gap": it.gap,
            "pruning": (shift + personal_shift) * residual,
            "variance": server,
            "personal_variance": it.personal_variance,
        },
        personal_weight=it.eta_v / 2 * personal_headroom,
        personal_headroom=personal_headroom,
        personal_condition="1 - eta_v L_v",
        theta=it.theta,
        rounds=it.rounds,
        headroom=headroom,
        step_condition="1 - a eta L_u tau/(1 - beta)",
        server_rate=rate,
        alone=np.array(True),
    )


def measured(constants: Constants, schedule: Schedule, errors: Errors, weight: ArrayLike | None, young: Young) -> Parts:
    """The parts of the theorem that these errors belong to."""
    if isinstance(errors, GradientErrors):
        return from_gradients(constants, schedule, errors, weight, young)
    if isinstance(errors, UploadErrors):
        return from_uploads(constants, schedule, errors, weight, young)
    if isinstance(errors, FeedbackErrors):
        return from_feedback(constants, schedule, errors, weight, young)
    raise TypeError(f"errors: expected GradientErrors, UploadErrors or FeedbackErrors, got {type(errors).__name__}")


def _mean(name: str, value: ArrayLike, weight: ArrayLike | None) -> Array:
    """The weighted mean over devices."""
    each = per_device(name, value)
    alpha = weights(weight, each.shape[-1])
    fit({name: each.shape, "weight": alpha.shape})
    return np.asarray(np.sum(alpha * each, axis=-1))
