"""What the measured hypotheses follow from: smoothness of several kinds, and independent noise."""

from __future__ import annotations

from kktalloc.proof import _hypotheses as h
from kktalloc.proof._hypotheses import (
    L,
    alpha,
    b,
    b2,
    covered,
    expect,
    gamma,
    grad,
    i,
    inverse,
    j,
    k,
    k2,
    keeps,
    mask,
    noise,
    sum_sq,
    t,
    tau,
    u,
    var_u,
    w,
)  # fmt: skip
from kktalloc.proof._language import Expr, Sign, Square, Theory, Use, le, total
from kktalloc.proof._sparse import extra, learned_noise, scale
from kktalloc.proof._transform import copied

_FACTS = ("weights", "trichotomy", "weight squares", "variance in u", "coverage at least Gamma", "Gamma at most 1")


def implied() -> Theory:
    """Bounds on the measured quantities in terms of the first theorem's constants."""
    signature = copied(h.THEORY.signature)
    facts = [fact for fact in h.THEORY.facts if fact.name in _FACTS]
    theory = Theory("What the measured hypotheses follow from", signature, facts)
    _gradient_errors(theory)
    _noise(theory)
    return theory


def _gradient_errors(theory: Theory) -> None:
    declare, given, prove = theory.signature, theory.given, theory.prove
    start = declare.family("start", (h.ROUND, h.DEVICE, h.COORDINATE, h.CHANCE), known="round start", latex="b^0")(
        t, k, j, w
    )
    other = declare.index("j2", h.COORDINATE, "j'")
    curvature = declare.family("curvature", (h.COORDINATE,), latex=r"\lambda")(j)
    matrix = declare.family("matrix", (h.COORDINATE, h.COORDINATE), latex="M")(j, other)

    def pruned(j: Expr) -> Expr:
        return ((1 - mask(k)) * u).xreplace({h.j: j})

    changed = grad(k) - start
    kinds = {
        "smooth": (L**2 * (1 - mask(k)) * u**2, (j,), "A1, by one constant"),
        "smooth by coordinate": (curvature**2 * (1 - mask(k)) * u**2, (j,), "A1, by a constant for each coordinate"),
        "smooth by a matrix": (matrix * pruned(j) * pruned(other), (j, other), "A1, by a matrix M"),
    }
    for name, (bound, indices, text) in kinds.items():
        given(name, le(total(changed**2, j), total(bound, *indices)), text)
        prove(
            f"gradient error, {name}",
            le(expect(inverse * mask(k) * changed**2, j), expect(bound, *indices) / gamma),
            "A3' with what pruning removes, over the least coverage.",
            (
                Use(name, 1 / gamma, (w,)),
                Use("coverage at least Gamma", keeps(k) * changed**2 / gamma, (w, j)),
            ),
            (Square((1 - mask(k)) * changed, 1 / gamma, (w, j)),),
        )
    spread = total(alpha(k) * h.deviation(k) ** 2, k)
    prove(
        "coverage charge from the least coverage",
        le(expect(covered * (inverse - 1) * spread, j), h.co_gamma / gamma * expect(covered * spread, j)),
        "A5' from A4 and A5.",
        (
            Use("coverage at least Gamma", spread / gamma, (w, j)),
            Use("Gamma at most 1", -expect(covered * spread, j) / gamma),
        ),
    )


def _noise(theory: Theory) -> None:
    signature, given, prove = theory.signature, theory.given, theory.prove
    signature.family("extra", (h.ROUND, h.COORDINATE, h.CHANCE), Sign.NONNEGATIVE, "never", "(P-1)")
    given("largest step", le(gamma * scale, 1), "A5'': P is at most 1/Gamma")
    h.unbiased("unbiased: two steps", noise(k, b), noise(k2, b2), "A2: noise against all earlier noise", theory)
    h.unbiased("unbiased: two devices", noise(k, i), noise(k2, i), "A2: noise of one device against another's", theory)
    variance = tau * sum_sq * var_u
    step = total(alpha(k) * noise(k, i), k)
    prove(
        "noise of one step",
        le(expect(step**2, j), sum_sq * var_u),
        "Noise of different devices is uncorrelated.",
        (
            Use("unbiased: two devices", alpha(k) * alpha(k2), (j, k, k2)),
            Use("variance in u", alpha(k) ** 2, (k,)),
            Use("weight squares", -var_u),
        ),
    )
    first, second = step.xreplace({i: b}), step.xreplace({i: b2})
    prove(
        "noise of all steps",
        le(expect(learned_noise**2, j), variance),
        "Nor is that of different steps.",
        (
            Use("trichotomy", -expect(first * second, j), (b, b2)),
            Use("unbiased: two steps", 2 * alpha(k) * alpha(k2), (j, b, b2, k, k2)),
            Use("noise of one step", over=(i,)),
        ),
    )
    prove(
        "upload noise from the variance",
        le(expect(scale * learned_noise**2, j), variance / gamma),
        "A2'' in the norm of P,",
        (Use("largest step", learned_noise**2 / gamma, (w, j)), Use("noise of all steps", 1 / gamma)),
    )
    prove(
        "selection noise from the variance",
        le(expect(extra * learned_noise**2, j), h.co_gamma / gamma * variance),
        "and in that of P - 1.",
        (
            Use("largest step", learned_noise**2 / gamma, (w, j)),
            Use("noise of all steps", h.co_gamma / gamma),
            Use("Gamma at most 1", -expect(learned_noise**2, j) / gamma),
        ),
    )
