"""What the bounds are told: constants, schedule, what a run measures, free parameters."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Constants:
    """Constants of the problem; each a number or an array that broadcasts to the leading dimensions.

    Parameters
    ----------
    smoothness_u, smoothness_v
        Lipschitz constants L_u, L_v of the gradients of F_k in u and in v_k (A1), > 0.
    gradient_noise_u_var, gradient_noise_v_var
        Variances sigma_u^2, sigma_v^2 of one stochastic gradient (A2), >= 0.
    pruning_radius
        D in ``E|u - m_k u|^2 <= rho_k D^2`` (A3), >= 0.
    heterogeneity
        delta^2 in ``sum_k alpha_k |grad_u F_k - grad_u F|^2 <= delta^2`` (A4), >= 0; on the covered coordinates, with
        `UploadErrors` and `FeedbackErrors` on all.
    coverage
        Gamma: the least weight that keeps a covered coordinate (A5), in (0, 1]; within 1e-12 of 1 it is taken
        for 1 (masks agree, the bound is sharper), which a sum of weights may miss by rounding. With `UploadErrors`
        one over the largest factor that the server gives a coordinate: 1 for the plain sum.
    initial_gap
        F at the start minus a lower bound of F, >= 0.
    """

    smoothness_u: ArrayLike
    smoothness_v: ArrayLike
    gradient_noise_u_var: ArrayLike
    gradient_noise_v_var: ArrayLike
    pruning_radius: ArrayLike
    heterogeneity: ArrayLike
    coverage: ArrayLike
    initial_gap: ArrayLike


@dataclass(frozen=True)
class Schedule:
    """What is run; each a number or an array that broadcasts to the leading dimensions.

    Parameters
    ----------
    rounds
        R, > 0; need not be whole, so that a planner can vary it continuously.
    local_steps
        tau, the pruned steps on u per round, whole, >= 1.
    personal_steps
        tau_v, the steps on v_k per round, whole, >= 0.
    learning_rate_u, learning_rate_v
        eta, eta_v, > 0.
    """

    rounds: ArrayLike
    local_steps: ArrayLike
    personal_steps: ArrayLike
    learning_rate_u: ArrayLike
    learning_rate_v: ArrayLike


@dataclass(frozen=True)
class GradientErrors:
    """What zeroed rounds measure in place of norms (A3', A5', A2'); a frozen round has no gradient error.

    With m_k the mask of device k and alpha(j) the weight that keeps coordinate j; sums over j run over the
    coordinates that some device keeps.

    Parameters
    ----------
    gradient_error
        ``E sum_j m_kj/alpha(j) (grad_j F_k(u) - grad_j F_k(m_k u))^2``, shape ``(..., K)``, >= 0; a last axis of 1
        stands for the weighted mean over devices.
    coverage_charge
        beta^2: ``E sum_j (1 - alpha(j))/alpha(j) sum_k alpha_k (grad_j F_k - grad_j F)^2``, >= 0.
    server_noise_var
        nu^2: ``E sum_jk (alpha_k m_kj/alpha(j))^2`` times the squared noise of one step, >= 0.
    participation
        Probability with which each device takes part, in (0, 1]; the server divides by it.
    participation_spread
        chi^2: ``E sum_jk (alpha_k m_kj/alpha(j) Delta_kj)^2 / tau^2``, Delta_k the sum of a device's stochastic
        gradients, >= 0; without effect where all take part.
    """

    gradient_error: ArrayLike
    coverage_charge: ArrayLike
    server_noise_var: ArrayLike
    participation: ArrayLike = 1.0
    participation_spread: ArrayLike = 0.0


@dataclass(frozen=True)
class UploadErrors:
    """What rounds with sparse uploads measure (A3'', A2''); frozen rounds too, their virtual change unmasked.

    With Delta_k the sum of device k's stochastic gradients over a round, m_k what it sends of it, alpha(j) the weight
    that sends coordinate j, P_j what the server multiplies the sum of uploads with: 1 ("fill") or 1/alpha(j)
    ("covered").

    Parameters
    ----------
    upload_error
        ``E sum_j P_j (1 - alpha(j)) (1 - m_kj) Delta_kj^2``, shape ``(..., K)``, >= 0; for fill at most the squares
        kept back. A last axis of 1 stands for the weighted mean over devices.
    upload_noise_var
        nu_P^2: ``E sum_j P_j N_j^2 / tau`` with N the weighted sum of all noise in Delta, >= 0.
    selection_noise_var
        kappa^2: the same with P_j - 1, >= 0; 0 for fill.
    server_rate
        a, > 0.
    """

    upload_error: ArrayLike
    upload_noise_var: ArrayLike
    selection_noise_var: ArrayLike = 0.0
    server_rate: ArrayLike = 1.0


@dataclass(frozen=True)
class FeedbackErrors:
    """What sparse uploads with error feedback measure; the server takes the plain sum at a constant rate.

    Dense uploads are those with residual 0, so that this is also the theorem for FedAvg with server momentum.

    Parameters
    ----------
    residual
        ``E |r_k|^2`` at the start of a round, in units of the model: what is not sent yet, shape ``(..., K)``, >= 0.
        A last axis of 1 stands for the weighted mean over devices.
    upload_noise_var
        As in `UploadErrors` with P = 1.
    smoothness_uv
        L_uv: the gradient of F_k in v_k is L_uv-Lipschitz in u, >= 0.
    server_rate
        a, > 0; the same in every round.
    momentum
        beta, in [0, 1): the server keeps ``b+ = beta b + what arrives`` and moves by ``a b+``.
    buffer
        ``E |b|^2`` at the start of a round, in units of the model, >= 0; at most ``1/(1 - beta)^2`` times what arrives,
        squared, over all rounds. Unused without momentum.
    """

    residual: ArrayLike
    upload_noise_var: ArrayLike
    smoothness_uv: ArrayLike
    server_rate: ArrayLike = 1.0
    momentum: ArrayLike = 0.0
    buffer: ArrayLike = 0.0


Errors = GradientErrors | UploadErrors | FeedbackErrors
"""What a run measured, of whichever kind of round."""


@dataclass(frozen=True)
class Young:
    """The theorems' free parameters: they hold for every value of each in its range.

    Parameters
    ----------
    coverage
        s: weighs coverage bias ``1 + s`` against what pruning does, ``1 + 1/s``. Unused at Gamma = 1: nothing to weigh.
    noise
        p: weighs gradients against noise within the drift.
    gradient
        r: weighs gradients at the start of the local steps against what they changed since.
    lean
        y, >= 0: polarisation leans towards gradient weight, errors cost more. Needs `spare`.
    spare
        f, in [0, 1): the share of the step condition's headroom that pays for leaning; the rest damps the noise. With
        error feedback it pays for the shift instead, and must be > 0.
    start
        v: weighs errors at the start of the local steps against drift. Used where errors are measured.
    kept
        q: weighs gradients at the broadcast model against what pruning changes, within the drift. Used with
        `GradientErrors`.
    """

    coverage: ArrayLike = 1.0
    noise: ArrayLike = 1.0
    gradient: ArrayLike = 1.0
    lean: ArrayLike = 0.0
    spare: ArrayLike = 0.0
    start: ArrayLike = 1.0
    kept: ArrayLike = 1.0
