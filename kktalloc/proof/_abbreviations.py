"""Short forms under which the convergence theory is printed."""

from __future__ import annotations

from kktalloc.proof._hypotheses import (
    aggregate,
    aggregate_noise,
    alpha,
    b,
    before,
    c,
    deviation,
    displacement,
    drift,
    e,
    expect,
    f_middle,
    f_start,
    full_grad,
    i,
    k,
    mask,
    move,
    pgrad,
    rho,
    t,
)
from kktalloc.proof._language import total
from kktalloc.proof._notation import Abbreviation
from kktalloc.proof._round import (
    bias,
    displacements,
    drift_error,
    error,
    gradient2,
    masked_grads,
    past_noise,
    pruned,
    signal,
)

ABBREVIATIONS = (
    Abbreviation(gradient2, "|G|^2", r"\|G\|^2", "E |grad_u F|^2 on the covered coordinates"),
    Abbreviation(
        total(alpha(k) * expect(pgrad(k, e) ** 2, c), k, e),
        "|G_v|^2",
        r"\|G_v\|^2",
        "sum over devices (weighted) and personal steps of E |grad_v F_k|^2",
    ),
    Abbreviation(displacements, "X2", r"X^2", "sum_i sum_k alpha_k E |x_k^i - u|^2"),
    Abbreviation(pruned, "Delta2", r"\Delta^2", "sum_k alpha_k E |u - m_k u|^2"),
    Abbreviation(total(alpha(k) * rho(k), t, k), "R*rho_mean", r"R\bar\rho", "sum_t sum_k alpha_k rho_k"),
    Abbreviation(total(alpha(k) * rho(k), k), "rho_mean_t", r"\bar\rho_t", "sum_k alpha_k rho_k"),
    Abbreviation(masked_grads, "Q[k]", "Q_k", "sum_i E |m_k grad F_k(x_k^i)|^2"),
    Abbreviation(bias, "bias", r"\beta", "covered gradient minus the coverage mean of the devices' gradients"),
    Abbreviation(drift_error(i), "err[i]", r"\epsilon_i", "coverage mean of grad F_k(u) - grad F_k(x_k^i)"),
    Abbreviation(full_grad, "G", "G", "grad_u F = sum_k alpha_k grad F_k(u)"),
    Abbreviation(deviation(k), "dev[k]", r"d_k", "grad F_k(u) - grad_u F"),
    Abbreviation(error(k, i), "moved[k,i]", r"e_{k,i}", "grad F_k(u) - grad F_k(x_k^i)"),
    Abbreviation(move, "move", r"\Delta u", "u^{t+1} - u^t"),
    Abbreviation(aggregate(i), "agg[i]", r"\bar a_i", "coverage mean of grad F_k(x_k^i)"),
    Abbreviation(aggregate(b), "agg[b]", r"\bar a_\ell", "the same at step b"),
    Abbreviation(aggregate_noise(i), "aggnoise[i]", r"\bar n_i", "coverage mean of the noise"),
    Abbreviation(aggregate_noise(b), "aggnoise[b]", r"\bar n_\ell", "the same at step b"),
    Abbreviation(total(before(b, i), b), "#before[i]", r"i", "the number of steps before step i"),
    Abbreviation(signal(k, i), "pastgrads[k,i]", r"A_{k,i}", "sum of the gradients before step i"),
    Abbreviation(past_noise(k, i), "pastnoise[k,i]", r"N_{k,i}", "sum of the noise before step i"),
    Abbreviation(
        total(before(b, i) * aggregate_noise(b), b), "pastaggnoise[i]", r"\bar N_i", "aggregate noise before i"
    ),
    Abbreviation(displacement(k, i), "(x[k,i] - u)", r"(x_k^i - u)", "displacement of the device's iterate"),
    Abbreviation(drift(k, i), "(x[k,i] - m_k u)", r"(x_k^i - m_k u)", "drift of the device's iterate"),
    Abbreviation(1 - mask(k), "(1 - m[k])", r"(1 - m_k)", "the pruned coordinates"),
    Abbreviation(f_middle, "F_mid", r"F(u^t, V^{t+1})", "F after the personal steps"),
    Abbreviation(f_start, "F_start", r"F(u^t, V^t)", "F at the start of the round"),
)
