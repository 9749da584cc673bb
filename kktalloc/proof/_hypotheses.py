"""The federated setting: every name and every named hypothesis of the convergence theorem.

Notation of one round t: device k trains from the masked model ``m_k u``; after ``before(b, i)``-many
steps it stands at ``x_k^i``. ``grad`` is the gradient of F_k in u at u, ``grad_at`` at x_k^i, both with
the personal parts already updated; ``noise`` is the stochastic gradient minus ``grad_at``. All are
families over rounds t, coordinates j and chance w, so that what is random shows.
"""

from __future__ import annotations

import sympy

from kktalloc.proof._language import Expr, Index, Same, Sign, Sort, Theory, eq, le, total

THEORY = Theory("Convergence of pruned, personalised federated learning")
_sig = THEORY.signature
_given = THEORY.given
_real, _nonneg, _pos, _01 = Sign.REAL, Sign.NONNEGATIVE, Sign.POSITIVE, Sign.INDICATOR

# Sizes and constants
K = _sig.parameter("K", _pos)
tau = _sig.parameter("tau", _pos, r"\tau")
R = _sig.parameter("R", _pos)
tau_v = _sig.parameter("tau_v", _nonneg, r"\tau_v")
dim_u = _sig.parameter("dim_u", _pos, "d_u")
dim_v = _sig.parameter("dim_v", _pos, "d_v")
eta = _sig.parameter("eta", _pos, r"\eta")
eta_v = _sig.parameter("eta_v", _pos, r"\eta_v")
L = _sig.parameter("L", _pos, "L_u")
L_v = _sig.parameter("L_v", _pos)
gamma = _sig.parameter("gamma", _pos, r"\Gamma")
var_u = _sig.parameter("var_u", _nonneg, r"\sigma_u^2")
var_v = _sig.parameter("var_v", _nonneg, r"\sigma_v^2")
delta2 = _sig.parameter("delta2", _nonneg, r"\delta^2")
radius2 = _sig.parameter("radius2", _nonneg, "D^2")
sum_sq = _sig.parameter("sum_sq", _nonneg, "A_2")
f_initial = _sig.parameter("f_initial", _real, "F^0")
f_final = _sig.parameter("f_final", _real, "F^R")
f_lower = _sig.parameter("f_lower", _real, "F^*")
# Free parameters: the theorem holds for all positive s, p, r, all lean >= 0 and 0 <= spare < 1.
s = _sig.parameter("s", _pos)
p = _sig.parameter("p", _pos)
r = _sig.parameter("r", _pos)
lean = _sig.parameter("lean", _nonneg, "y")
spare = _sig.parameter("spare", _nonneg, "f")
# Slacks: names for differences that the step-size and coverage conditions keep non-negative.
pairs = _sig.parameter("pairs", _nonneg, r"\tbinom{\tau}{2}")
co_gamma = _sig.parameter("co_gamma", _nonneg, r"(1-\Gamma)")
theta = _sig.parameter("theta", _pos, r"\theta")
headroom = _sig.parameter("headroom", _pos, "w")
one_lean = _sig.parameter("one_lean", _pos, "(1+y)")
co_spare = _sig.parameter("co_spare", _pos, "(1-f)")

DEVICE, STEP, ROUND = Sort("device", K), Sort("step", tau), Sort("round", R)
COORDINATE, _PSTEP, _PCOORD = (
    Sort("coordinate", dim_u),
    Sort("personal step", tau_v),
    Sort("coordinate of v", dim_v),
)
_ONE = sympy.S.One
CHANCE, _SEGMENT = Sort("chance", _ONE, expectation=True), Sort("point on the segment", _ONE)

k, k2, k3 = (_sig.index(name, DEVICE, tex) for name, tex in (("k", "k"), ("k2", "k'"), ("k3", "k''")))
i, b, b2 = (_sig.index(name, STEP, tex) for name, tex in (("i", "i"), ("b", r"\ell"), ("b2", r"\ell'")))
t = _sig.index("t", ROUND, understood=True)
j = _sig.index("j", COORDINATE)
e = _sig.index("e", _PSTEP)
c = _sig.index("c", _PCOORD)
w = _sig.index("w", CHANCE, r"\omega", understood=True)
z = _sig.index("z", _SEGMENT)

_alpha = _sig.family("alpha", (DEVICE,), _nonneg, latex=r"\alpha")
_rho = _sig.family("rho", (ROUND, DEVICE), _nonneg, latex=r"\rho")
_before = _sig.family("before", (STEP, STEP), _01, latex=r"\chi")
_position = _sig.family("position", (_SEGMENT,), _pos, latex=r"\zeta")
_u = _sig.family("u", (ROUND, COORDINATE, CHANCE), known="round start")
_mask = _sig.family("mask", (ROUND, DEVICE, COORDINATE, CHANCE), _01, "round start", "m")
_covered = _sig.family("covered", (ROUND, COORDINATE, CHANCE), _01, "round start", "h")
_inverse = _sig.family("inverse", (ROUND, COORDINATE, CHANCE), _pos, "round start", "q")
_grad = _sig.family("grad", (ROUND, DEVICE, COORDINATE, CHANCE), known="round start", latex="b")
_grad_at = _sig.family("grad_at", (ROUND, DEVICE, STEP, COORDINATE, CHANCE), known="before step", latex="a")
_noise = _sig.family("noise", (ROUND, DEVICE, STEP, COORDINATE, CHANCE), known="drawn at step", latex="n")
_segment = _sig.family("segment", (ROUND, DEVICE, _SEGMENT, COORDINATE, CHANCE), known="never", latex=r"\tilde b")
_f_start = _sig.family("f_start", (ROUND, DEVICE, CHANCE), known="never", latex=r"F^{\mathrm{start}}")
_f_middle = _sig.family("f_middle", (ROUND, DEVICE, CHANCE), known="never", latex=r"F^{\mathrm{mid}}")
_f_end = _sig.family("f_end", (ROUND, CHANCE), known="never", latex=r"F^{\mathrm{end}}")
_personal_sorts = (ROUND, DEVICE, _PSTEP, _PCOORD, CHANCE)
_pgrad = _sig.family("pgrad", _personal_sorts, known="before personal step", latex="g")
_pnoise = _sig.family("pnoise", _personal_sorts, known="drawn at personal step", latex=r"\xi")
_psegment = _sig.family(
    "psegment", (ROUND, DEVICE, _PSTEP, _SEGMENT, _PCOORD, CHANCE), known="never", latex=r"\tilde g"
)
_value = _sig.family("value", (ROUND, DEVICE, _PSTEP, CHANCE), known="never", latex=r"\phi")
_value_next = _sig.family("value_next", (ROUND, DEVICE, _PSTEP, CHANCE), known="never", latex=r"\phi^{+}")

# Short forms: round, coordinate and chance are understood.
u, covered, inverse = _u(t, j, w), _covered(t, j, w), _inverse(t, j, w)


def alpha(k: Index) -> Expr:
    """Aggregation weight."""
    return _alpha(k)


def rho(k: Index) -> Expr:
    """Pruning ratio of a device in the round."""
    return _rho(t, k)


def before(b: Index, i: Index) -> Expr:
    """1 when step b comes before step i."""
    return _before(b, i)


def keeps(k: Index) -> Expr:
    """1 where the device keeps the coordinate."""
    return _mask(t, k, j, w)


def mask(k: Index) -> Expr:
    """The same, said so that it shows that a kept coordinate is covered."""
    return keeps(k) * covered


def share(k: Index) -> Expr:
    """Weight of the device in the mean over those that keep the coordinate."""
    return alpha(k) * mask(k) * inverse


def grad(k: Index) -> Expr:
    """Gradient of F_k at the broadcast model."""
    return _grad(t, k, j, w)


def grad_at(k: Index, i: Index) -> Expr:
    """Gradient of F_k at the device's iterate before step i."""
    return _grad_at(t, k, i, j, w)


def noise(k: Index, i: Index) -> Expr:
    """Stochastic gradient at step i minus its mean."""
    return _noise(t, k, i, j, w)


def expect(body: Expr, *indices: Index) -> Expr:
    """Expectation of a total over the indices."""
    return total(body, w, *indices)


full_grad = total(alpha(k) * grad(k), k)


def deviation(k: Index) -> Expr:
    """Gradient of one device minus the gradient of the mean."""
    return grad(k) - full_grad


def aggregate(i: Index) -> Expr:
    """What the server averages at step i, without noise."""
    return total(share(k) * grad_at(k, i), k)


def aggregate_noise(i: Index) -> Expr:
    """The noise of what the server averages at step i."""
    return total(share(k) * noise(k, i), k)


move = -eta * total(aggregate(i) + aggregate_noise(i), i)


def drift(k: Index, i: Index) -> Expr:
    """x_k^i - m_k u: masked steps so far (any step index but b, which is bound here)."""
    if i == b:
        raise ValueError("the step index b is bound in a drift")
    return -eta * mask(k) * total(before(b, i) * (grad_at(k, b) + noise(k, b)), b)


def displacement(k: Index, i: Index) -> Expr:
    """x_k^i - u: steps so far, and what was pruned away."""
    return drift(k, i) - (1 - mask(k)) * u


def pgrad(k: Index, e: Index) -> Expr:
    """Gradient of F_k in v before personal step e."""
    return _pgrad(t, k, e, c, w)


def pmove(k: Index, e: Index) -> Expr:
    """Personal step e."""
    return -eta_v * (_pgrad(t, k, e, c, w) + _pnoise(t, k, e, c, w))


def segment(k: Index) -> Expr:
    """Gradient of F_k at the point z of the way from the broadcast model to the next one."""
    return _segment(t, k, z, j, w)


segment_grad = total(alpha(k) * segment(k), k)
position = _position(z)
f_start, f_middle, f_end = (
    total(alpha(k) * _f_start(t, k, w), k),
    total(alpha(k) * _f_middle(t, k, w), k),
    _f_end(t, w),
)
value, value_next = _value(t, k, e, w), _value_next(t, k, e, w)
psegment, pnoise = _psegment(t, k, e, z, c, w), _pnoise(t, k, e, c, w)


# -- Sums and masks -----------------------------------------------------------------------------------
_given("weights", eq(total(alpha(k), k), 1), "the aggregation weights sum to 1")
_given("weight squares", eq(sum_sq, total(alpha(k) ** 2, k)), "A_2 is the sum of squared weights")
_given(
    "trichotomy",
    eq(before(b, b2) + before(b2, b) + Same(b, b2), 1),
    "of two steps one comes before the other, or they are the same",
)
_given("pairs", eq(pairs, tau * (tau - 1) / 2), "tau >= 1, so that tau (tau - 1) / 2 is not negative")
_given("position", eq(total(position, z), sympy.Rational(1, 2)), "the mean of z over [0, 1] is 1/2")

# -- A1, smoothness -----------------------------------------------------------------------------------
_given(
    "smooth in u",
    le(total((grad_at(k, i) - grad(k)) ** 2, j), L**2 * total(displacement(k, i) ** 2, j)),
    "A1: the gradient of F_k in u is L_u-Lipschitz, between the broadcast model and an iterate",
)


def moves(theory: Theory, move: Expr, end: Expr = f_end, begin: Expr = f_middle) -> None:
    """A1 along a move of the server, and the fundamental theorem of calculus along it."""
    theory.given(
        "smooth on the segment",
        le(total((segment(k) - grad(k)) ** 2, j), L**2 * position**2 * total(move**2, j)),
        "A1: the same between the broadcast model and a point on the way to the next one",
    )
    theory.given(
        "calculus in u",
        eq(end - begin, total(segment_grad * move, z, j)),
        "the fundamental theorem of calculus along the server's move",
    )


moves(THEORY, move)
_given(
    "smooth in v",
    le(total((psegment - pgrad(k, e)) ** 2, c), L_v**2 * position**2 * total(pmove(k, e) ** 2, c)),
    "A1: the gradient of F_k in v_k is L_v-Lipschitz",
)
_given(
    "calculus in v",
    eq(value_next - value, total(psegment * pmove(k, e), z, c)),
    "the fundamental theorem of calculus along a personal step",
)

# -- A2, stochastic gradients --------------------------------------------------------------------------
_given("variance in u", le(expect(noise(k, i) ** 2, j), var_u), "A2: variance of a stochastic gradient in u")
_given("variance in v", le(expect(pnoise**2, c), var_v), "A2: variance of a stochastic gradient in v_k")


def unbiased(name: str, drawn: Expr, known: Expr, text: str, theory: Theory = THEORY) -> None:
    """A2 and the tower property: noise has mean zero given all that is known before it is drawn.

    ``known`` is a product of family members. Each brings in the condition under which it is known: one
    fixed before the training of the round always is; an iterate's gradient when its step is not later;
    another noise when its step is earlier, or the same on another device. Anything else is refused.
    """
    family = drawn.func.__name__
    phase = {"noise": "step", "pnoise": "personal step"}[family]
    round_, device, step = drawn.args[:3]
    when: Expr = sympy.S.One
    for factor in sympy.Mul.make_args(known):
        member = factor.as_base_exp()[0]
        status = theory.signature.families[member.func.__name__].known
        if member.args[0] != round_ or member.args[-1] != w:
            raise ValueError(f"{member} is not of the same round and chance")
        if status == "round start" and phase == "step":
            continue
        if status == f"before {phase}" and member.args[2] == step:
            continue
        if status == f"before {phase}" and phase == "step":
            when *= 1 - before(step, member.args[2])
        elif status == "drawn at step" and phase == "step" and member.args[2] == step:
            when *= 1 - Same(device, member.args[1])
        elif status == "drawn at step" and phase == "step":
            when *= before(member.args[2], step)
        else:
            raise ValueError(f"{member} ({status}) is not known when {drawn} is drawn")
    theory.given(name, eq(expect(when * drawn * known), 0), text)


_both_masks = keeps(k) * keeps(k2) * covered * inverse**2
unbiased(
    "unbiased: round",
    noise(k, i),
    grad(k2) * keeps(k) * covered * inverse,
    "A2: noise against what the round starts from",
)
unbiased(
    "unbiased: own past",
    noise(k, b),
    noise(k, b2) * keeps(k) * covered,
    "A2: noise of a step against the noise of an earlier one",
)
unbiased("unbiased: past", noise(k, b), noise(k2, b2) * _both_masks, "A2: noise against all devices' earlier noise")
unbiased(
    "unbiased: iterates",
    noise(k, b),
    grad_at(k2, i) * _both_masks,
    "A2: noise against the gradients at iterates that do not come after it",
)
unbiased(
    "unbiased: devices",
    noise(k, i),
    noise(k2, i) * _both_masks,
    "A2: noise of one device against another's in the same step",
)
unbiased("unbiased: personal", pnoise, pgrad(k, e), "A2: noise of a personal step against its gradient")

# -- A3 to A5 ------------------------------------------------------------------------------------------
_given(
    "pruning error",
    le(expect((1 - mask(k)) * u**2, j), rho(k) * radius2),
    "A3: the mean squared norm of the pruned coordinates is at most rho_k D^2",
)
_given(
    "heterogeneity",
    le(expect(covered * total(alpha(k) * deviation(k) ** 2, k), j), delta2),
    "A4: the weighted mean squared distance of the devices' gradients from their mean, on covered coordinates, "
    "is at most delta^2",
)
_given(
    "coverage",
    eq(covered * inverse * total(alpha(k) * keeps(k), k), covered),
    "on covered coordinates q is the inverse of the weight that keeps them",
)
_given(
    "coverage at least Gamma",
    le(covered * inverse * gamma, covered),
    "A5: the devices that keep a covered coordinate hold weight at least Gamma",
)
_given("Gamma at most 1", eq(gamma + co_gamma, 1), "Gamma <= 1")
_given(
    "agreement",
    eq(alpha(k) * mask(k), alpha(k) * covered),
    "only for the case Gamma = 1: every device keeps every covered coordinate",
)

# -- Step sizes ----------------------------------------------------------------------------------------
_given(
    "drift condition",
    eq(theta, 1 - (1 + p) * (1 + 1 / r) * eta**2 * L**2 * pairs),
    "step size: theta = 1 - (1 + p)(1 + 1/r) eta^2 L_u^2 tau (tau - 1) / 2 > 0",
)
_given("one lean", eq(one_lean, 1 + lean), "the name of 1 + y")
_given("spare below 1", eq(spare + co_spare, 1), "f < 1")
_given("step condition", eq(headroom, 1 - L * eta * tau), "step size: 1 - L_u eta tau > 0")


# -- Rounds --------------------------------------------------------------------------------------------
def consecutive(name: str, later: Expr, now: Expr, index: Index, last: Expr, first: Expr, text: str) -> None:
    """Telescoping: differences of consecutive values add up to the last minus the first."""
    _given(name, eq(total(later - now, index), last - first), text)


consecutive(
    "personal steps follow each other",
    value_next, value, e, _f_middle(t, k, w), _f_start(t, k, w),
    "F_k before and after each personal step; the value after one is the value before the next",
)  # fmt: skip
consecutive(
    "rounds follow each other",
    expect(f_end), expect(f_start), t, f_final, f_initial,
    "F before and after each round; the value after one is the value before the next",
)  # fmt: skip
_given("lower bound", le(f_lower, f_final), "F is bounded below by F*")
