"""One round: the descent lemma, coverage, drift and the second moment of the server's move.

A step's certificate is an identity; the comments say where its squares come from.
"""

from __future__ import annotations

from sympy import Rational

from kktalloc.proof._hypotheses import (
    L,
    aggregate,
    aggregate_noise,
    alpha,
    b,
    b2,
    before,
    co_gamma,
    co_spare,
    covered,
    delta2,
    deviation,
    displacement,
    drift,
    eta,
    expect,
    f_end,
    f_middle,
    full_grad,
    gamma,
    grad,
    grad_at,
    headroom,
    i,
    inverse,
    j,
    k,
    k2,
    k3,
    keeps,
    lean,
    mask,
    move,
    noise,
    one_lean,
    p,
    pairs,
    position,
    r,
    segment,
    segment_grad,
    share,
    spare,
    sum_sq,
    tau,
    theta,
    u,
    var_u,
    w,
    z,
)
from kktalloc.proof._language import Claim, Expr, Index, Square, Step, Use, eq, le, total

HALF = Rational(1, 2)
STEPS: list[Step] = []


def _prove(name: str, claim: Claim, text: str, uses: tuple[Use, ...] = (), squares: tuple[Square, ...] = ()) -> None:
    STEPS.append(Step(name, claim, text, uses, squares))


# -- Names that only abbreviate -------------------------------------------------------------------------
def error(k: Index, i: Index) -> Expr:
    """How far the gradient has moved since the broadcast."""
    return grad(k) - grad_at(k, i)


def drift_error(i: Index) -> Expr:
    """The part of the aggregate's error that drift and pruning make."""
    return total(share(k) * error(k, i), k)


def signal(k: Index, i: Index) -> Expr:
    """Sum of the gradients at the iterates before step i."""
    return total(before(b, i) * grad_at(k, b), b)


def past_noise(k: Index, i: Index) -> Expr:
    """Sum of the noise before step i."""
    return total(before(b, i) * noise(k, b), b)


bias = covered * full_grad - total(share(k) * grad(k), k)
gradient2 = expect(covered * full_grad**2, j)
masked_grads = total(expect(mask(k) * grad_at(k, b) ** 2, j), b)
displacements = total(alpha(k) * expect(displacement(k, i) ** 2, j), k, i)
pruned = total(alpha(k) * expect((1 - mask(k)) * u**2, j), k)
server_var = var_u * sum_sq / gamma**2
# The share f of the headroom 1 - L eta tau goes to the descent, the rest to the noise: see "server variance"
gain = spare * headroom / 2
z_best = co_spare * headroom / (L * eta)

# -- Descent --------------------------------------------------------------------------------------------


def descent(move: Expr, end: Expr = f_end, begin: Expr = f_middle) -> list[Step]:
    """The descent lemma along a move, from `moves` of `_hypotheses`."""
    move2 = total(move**2, j)
    change = total(alpha(k) * (segment(k) - grad(k)), k)
    # Pointwise, and only then the mean over z: 1/z has no mean over the segment.
    curve = 1 / (2 * L * position)
    return [
        Step(
            "smooth mean",
            le(total((segment_grad - full_grad) ** 2, j), L**2 * position**2 * move2),
            "The mean of L-smooth functions is L-smooth (Jensen over devices).",
            (
                Use("smooth on the segment", alpha(k), (k,)),
                Use("weights", L**2 * position**2 * move2 + total(change**2, j)),
            ),
            (Square(segment(k) - grad(k) - change, alpha(k), (j, k)),),
        ),
        Step(
            "descent, pointwise",
            le(total(segment_grad * move, j), total(full_grad * move, j) + L * position * move2),
            "At each point of the segment the slope along the move exceeds the first one by at most L z |move|^2.",
            (Use("smooth mean", curve),),
            # Cauchy-Schwarz and the mean inequality.
            (Square(segment_grad - full_grad - L * position * move, curve, (j,)),),
        ),
        Step(
            "descent lemma",
            le(end, begin + total(full_grad * move, j) + L / 2 * move2),
            "A smooth function lies below its tangent plus L/2 times the squared step.",
            (
                Use("calculus in u"),
                Use("descent, pointwise", over=(z,)),
                Use("position", L * move2),
            ),
        ),
    ]


STEPS += descent(move)
_prove(
    "expected move",
    eq(expect(full_grad * move, j), -eta * expect(full_grad * aggregate(i), i, j)),
    "Noise drops out of the inner product of gradient and move.",
    (Use("unbiased: round", -eta * alpha(k) * alpha(k2), (i, j, k, k2)),),
)
_aggregate2, _gradient2 = aggregate(i) ** 2, covered * full_grad**2
_error2 = (covered * full_grad - aggregate(i)) ** 2
_prove(
    "polarisation",
    eq(-expect(full_grad * aggregate(i), j), HALF * expect(_error2 - _gradient2 - _aggregate2, j)),
    "-<a, b> = (|a - b|^2 - |a|^2 - |b|^2) / 2 on the covered coordinates.",
)
_prove(
    "leaning polarisation",
    le(
        -expect(full_grad * aggregate(i), j),
        expect(
            (HALF + gain * lean) * _error2 - (HALF + gain * lean / one_lean) * _gradient2 - (HALF - gain) * _aggregate2,
            j,
        ),
    ),
    "Polarisation (an identity, so the expansion sees to it) and a square: what the step size leaves of the "
    "aggregate's norm buys gradient weight, up to twice as much; y = 0 or f = 0 is polarisation itself.",
    (Use("one lean", gain * expect(_aggregate2 - lean / one_lean * _gradient2, j)),),
    (Square(lean * covered * full_grad - one_lean * aggregate(i), gain / one_lean, (w, j)),),
)

# -- Coverage -------------------------------------------------------------------------------------------
_kept = total(alpha(k) * keeps(k), k)
_kept_grad = total(alpha(k) * keeps(k) * grad(k), k)
_mean_sq = total(alpha(k) * grad(k) ** 2, k)
_prove(
    "coverage lemma",
    le(bias**2, (inverse - 1) * covered * total(alpha(k) * deviation(k) ** 2, k)),
    "The mean over the devices that keep a coordinate misses the mean over all by at most "
    "(1/alpha(j) - 1) times the weighted variance.",
    (
        Use(
            "coverage",
            inverse * _mean_sq
            - (1 + inverse * _kept) * _mean_sq
            - inverse * full_grad**2
            + 2 * inverse * full_grad * _kept_grad,
        ),
        Use(
            "weights",
            covered * (inverse**2 * _kept * _mean_sq - (inverse - 1) * full_grad**2 - inverse**2 * _kept_grad**2),
        ),
    ),
    # Lagrange's identity inside the devices that keep the coordinate, and inside those that do not.
    (
        Square(
            (1 - keeps(k3)) * (grad(k) - grad(k2)),
            HALF * covered * inverse**2 * alpha(k) * alpha(k2) * alpha(k3) * keeps(k) * keeps(k2),
            (k, k2, k3),
        ),
        Square(
            (1 - keeps(k)) * (1 - keeps(k2)) * (grad(k) - grad(k2)),
            HALF * covered * inverse**2 * alpha(k) * alpha(k2) * alpha(k3) * keeps(k3),
            (k, k2, k3),
        ),
    ),
)
_spread = total(alpha(k) * deviation(k) ** 2, k)
_prove(
    "coverage bias",
    le(expect(bias**2, j), co_gamma / gamma * delta2),
    "The coverage bias is at most (1 - Gamma)/Gamma delta^2.",
    (
        Use("coverage lemma", over=(w, j)),
        Use("coverage at least Gamma", _spread / gamma, (w, j)),
        Use("Gamma at most 1", -expect(covered * _spread, j) / gamma),
        Use("heterogeneity", co_gamma / gamma),
    ),
)

# -- Drift ----------------------------------------------------------------------------------------------
_prove(
    "drift error",
    le(
        expect(drift_error(i) ** 2, j),
        L**2 / gamma * total(alpha(k) * expect(displacement(k, i) ** 2, j), k),
    ),
    "Jensen over the devices that keep a coordinate, then smoothness.",
    (
        Use("smooth in u", alpha(k) / gamma, (w, k)),
        Use("coverage at least Gamma", alpha(k) * keeps(k) * error(k, i) ** 2 / gamma, (w, j, k)),
        Use("coverage", drift_error(i) ** 2, (w, j)),
    ),
    (
        Square((1 - mask(k)) * error(k, i), alpha(k) / gamma, (w, j, k)),
        Square(error(k, i) - drift_error(i), share(k), (w, j, k)),
    ),
)
_prove(
    "masked Pythagoras",
    eq(
        expect(displacement(k, i) ** 2, j),
        expect(drift(k, i) ** 2, j) + expect((1 - mask(k)) * u**2, j),
    ),
    "Drift lives on kept coordinates and pruning on the others: squares add, without a factor 2.",
)
_prove(
    "number of pairs",
    eq(total(before(b, i), i, b), pairs),
    "tau steps make tau (tau - 1) / 2 ordered pairs.",
    (Use("trichotomy", HALF, (b, b2)), Use("pairs", -1)),
)
_both = before(b, i) * before(b2, i)
_prove(
    "noise of past steps",
    le(expect(mask(k) * past_noise(k, i) ** 2, j), total(before(b, i), b) * var_u),
    "Noise of different steps is uncorrelated.",
    (
        Use("trichotomy", -_both * expect(mask(k) * noise(k, b) * noise(k, b2), j), (b, b2)),
        Use("unbiased: own past", 2 * _both, (j, b, b2)),
        Use("variance in u", before(b, i), (b,), ((i, b),)),
    ),
    (Square((1 - mask(k)) * noise(k, b), before(b, i), (w, j, b)),),
)
_prove(
    "gradients of past steps",
    le(
        expect(mask(k) * signal(k, i) ** 2, j),
        total(before(b, i), b) * total(before(b, i) * expect(mask(k) * grad_at(k, b) ** 2, j), b),
    ),
    "Cauchy-Schwarz over the steps before i (Lagrange's identity).",
    squares=(Square(grad_at(k, b) - grad_at(k, b2), HALF * mask(k) * _both, (w, j, b, b2)),),
)
_prove(
    "drift sum",
    le(
        total(expect(drift(k, i) ** 2, j), i),
        eta**2 * pairs * ((1 + p) * masked_grads + (1 + 1 / p) * var_u),
    ),
    "Young with p between gradients and noise, then a count of the pairs of steps.",
    (
        Use("gradients of past steps", eta**2 * (1 + p), (i,)),
        Use("noise of past steps", eta**2 * (1 + 1 / p), (i,)),
        Use("number of pairs", eta**2 * ((1 + p) * masked_grads + (1 + 1 / p) * var_u)),
    ),
    (
        Square(p * mask(k) * signal(k, i) - mask(k) * past_noise(k, i), eta**2 / p, (w, j, i)),
        Square((1 - before(b2, i)) * grad_at(k, b2), eta**2 * (1 + p) * mask(k) * before(b, i), (w, j, i, b, b2)),
    ),
)
_prove(
    "gradients on the way",
    le(
        total(alpha(k) * masked_grads, k),
        (1 + r) * tau * (gradient2 + delta2) + (1 + 1 / r) * L**2 * displacements,
    ),
    "Young with r between the gradients at the broadcast and what they moved since; the devices' squared "
    "gradients average to the squared mean gradient plus the heterogeneity.",
    (
        Use("smooth in u", (1 + 1 / r) * alpha(k), (w, k, i)),
        Use("heterogeneity", (1 + r) * tau),
        Use("weights", -(1 + r) * tau * gradient2),
    ),
    (
        Square(r * grad(k) + error(k, b), alpha(k) * mask(k) / r, (w, j, k, b)),
        Square((1 - mask(k)) * error(k, b), (1 + 1 / r) * alpha(k), (w, j, k, b)),
        Square((covered - mask(k)) * grad(k), (1 + r) * tau * alpha(k), (w, j, k)),
    ),
)
_prove(
    "displacement",
    le(
        displacements,
        (tau * pruned + eta**2 * pairs * ((1 + p) * (1 + r) * tau * (gradient2 + delta2) + (1 + 1 / p) * var_u))
        / theta,
    ),
    "Pythagoras (an identity) parts drift from pruning; the drift sum bounds itself and is solved, which the "
    "drift condition allows.",
    (
        Use("drift sum", alpha(k) / theta, (k,)),
        Use("gradients on the way", eta**2 * pairs * (1 + p) / theta),
        Use("drift condition", displacements / theta),
        Use("weights", eta**2 * pairs * (1 + 1 / p) * var_u / theta),
    ),
)

# -- Variance of the server's move ----------------------------------------------------------------------
_noise2 = noise(k, i) ** 2
_prove(
    "server noise",
    le(expect(aggregate_noise(i) ** 2, j), server_var),
    "Noise of different devices is uncorrelated, and a device's share is at most alpha_k / Gamma.",
    (
        Use("unbiased: devices", alpha(k) * alpha(k2), (j, k, k2)),
        Use(
            "coverage at least Gamma",
            alpha(k) ** 2 * keeps(k) * _noise2 * (inverse / gamma + 1 / gamma**2),
            (w, j, k),
        ),
        Use("variance in u", alpha(k) ** 2 / gamma**2, (k,)),
        Use("weight squares", -var_u / gamma**2),
    ),
    (Square((1 - mask(k)) * noise(k, i), alpha(k) ** 2 / gamma**2, (w, j, k)),),
)


def server_moves(variance: Expr) -> list[Step]:
    """Second moment of the server's move, from a bound on the noise of one step ("server noise")."""
    past = total(before(b, i) * aggregate_noise(b), b)
    return [
        Step(
            "server noise of all steps",
            le(expect(total(aggregate_noise(i), i) ** 2, j), tau * variance),
            "Noise of different steps is uncorrelated.",
            (
                Use("trichotomy", -expect(aggregate_noise(b) * aggregate_noise(b2), j), (b, b2)),
                Use("unbiased: past", 2 * alpha(k) * alpha(k2), (j, b, b2, k, k2)),
                Use("server noise", over=(i,)),
            ),
        ),
        Step(
            "server noise of past steps",
            le(expect(past**2, j), total(before(b, i), b) * variance),
            "The same for the steps before i.",
            (
                Use("trichotomy", -_both * expect(aggregate_noise(b) * aggregate_noise(b2), j), (b, b2)),
                Use("unbiased: past", 2 * _both * alpha(k) * alpha(k2), (j, b, b2, k, k2)),
                Use("server noise", before(b, i), (b,), ((i, b),)),
            ),
        ),
        Step(
            "noise meets later gradients only",
            eq(expect(aggregate(i) * aggregate_noise(b), j, i, b), expect(aggregate(i) * past, j, i)),
            "A gradient is uncorrelated with the noise of its own and later steps.",
            (Use("unbiased: iterates", alpha(k) * alpha(k2), (j, i, b, k, k2)),),
        ),
        Step(
            "server variance",
            le(
                expect(move**2, j),
                eta**2 * ((tau + z_best) * expect(aggregate(i) ** 2, i, j) + (tau + pairs / z_best) * variance),
            ),
            "Young with z between gradients and past noise; z is the largest that the gradients' share in the "
            "descent can pay for with what f leaves, which makes the noise's share least.",
            (
                Use("noise meets later gradients only", 2 * eta**2),
                Use("server noise of past steps", eta**2 / z_best, (i,)),
                Use("number of pairs", eta**2 * variance / z_best),
                Use("server noise of all steps", eta**2),
            ),
            (
                Square(aggregate(i) - aggregate(b), HALF * eta**2, (w, j, i, b)),
                Square(z_best * aggregate(i) - past, eta**2 / z_best, (w, j, i)),
            ),
        ),
    ]


STEPS += server_moves(server_var)
