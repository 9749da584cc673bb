"""Server momentum (heavy ball) over sparse uploads with error feedback; with everything sent it is FedAvg's.

The server keeps a buffer, ``b+ = beta b + what was sent``, and moves by ``-a b+``. The iterate shifted by what is
still to come of the buffer, ``-a beta/(1 - beta) b``, and by the residuals moves as if everything had been sent at
the rate ``a/(1 - beta)``. So momentum is one more part of the shift of error feedback: every step of that theorem
holds with the residual of device k less ``beta b``. What is proved here is that this is so, what the shift is then at
most, and that buffers are no larger than what fills them.
"""

from __future__ import annotations

from dataclasses import replace

from kktalloc.proof import _feedback as f
from kktalloc.proof import _hypotheses as h
from kktalloc.proof._feedback import at_each_round, feedback, rate, residual, rest, shift
from kktalloc.proof._hypotheses import R, alpha, expect, f_initial, f_lower, j, k, t, w
from kktalloc.proof._language import Expr, Sign, Square, Step, Theory, Use, eq, le, total
from kktalloc.proof._sparse import change, gradient2
from kktalloc.proof._transform import copied

_signature = copied(feedback().signature)
_nonneg, _pos = Sign.NONNEGATIVE, Sign.POSITIVE
beta = _signature.parameter("beta", _nonneg, r"\beta")
co_beta = _signature.parameter("co_beta", _pos, r"(1-\beta)")
y = _signature.parameter("mix", _pos, "q_m")
buffer2_last = _signature.parameter("buffer2_last", _nonneg, r"\varsigma^R")
_sorts = (h.ROUND, h.DEVICE, h.COORDINATE, h.CHANCE)
_own = _signature.family("own", _sorts, known="round start", latex=r"\rho^{\mathrm{u}}")
_own_next = _signature.family("own_next", _sorts, known="never", latex=r"\rho^{\mathrm{u}+}")
_own2 = _signature.family("own2", (h.ROUND, h.DEVICE), _nonneg, latex=r"\varepsilon^{\mathrm{u}}")
_buffer = _signature.family("buffer", (h.ROUND, h.COORDINATE, h.CHANCE), known="round start", latex=r"\varsigma")
_buffer_next = _signature.family(
    "buffer_next", (h.ROUND, h.COORDINATE, h.CHANCE), known="never", latex=r"\varsigma^{+}"
)
buffer2 = _signature.family("buffer2", (h.ROUND,), _nonneg, latex=r"M^2")(t)

buffer, buffer_next = _buffer(t, j, w), _buffer_next(t, j, w)
_eta = at_each_round(h.eta)
_REPLACED = ("server", "residuals", "residual error")
_MOVES = "the shifted iterate moves as if all were sent"


def own(k: Expr) -> Expr:
    """What the device has not sent yet when the round starts."""
    return _own(t, k, j, w)


def own2(k: Expr) -> Expr:
    """Bound on its expected square."""
    return _own2(t, k)


def _own_after(k: Expr) -> Expr:
    return _own_next(t, k, j, w)


def _offered(k: Expr) -> Expr:
    """What the device could send, over -1: the server subtracts it."""
    return _eta * change(k) - own(k)


added = total(alpha(k) * f.sent(k) * _offered(k), k)
"""What the round adds to the buffer."""


def _given(theory: Theory) -> None:
    given = theory.given
    given("momentum share", eq(beta + co_beta, 1), "beta is below 1")
    given("shift of a device", eq(residual(k), own(k) - beta * buffer), "residual less what is to come of the buffer")
    given("next shift of a device", eq(f.residual_next(k), _own_after(k) - beta * buffer_next), "when the round ends")
    given("residuals", eq(_own_after(k), (1 - f.sent(k)) * -_offered(k)), "the device keeps what it does not send")
    given("momentum", eq(buffer_next, beta * buffer + added), "the buffer forgets by beta and takes what was sent")
    given("server", eq(f.u_next, h.u - rate * co_beta * buffer_next), "the server moves by a = rate (1 - beta) buffers")
    given("residual error", le(expect(own(k) ** 2, j), own2(k)), "A3'': squared residual when the round starts")
    given("buffer", le(expect(buffer**2, j), buffer2), "A3'': squared buffer when the round starts")
    given(
        "shift error",
        eq(rest(k), (1 + y) * own2(k) + (1 + 1 / y) * beta**2 * buffer2),
        "what this makes of the bound on the shift",
    )
    given(
        "buffers follow each other",
        eq(total(expect(buffer_next**2 - buffer**2, j), t), buffer2_last),
        "a round's last buffer is the next one's first; it starts empty",
    )


def _shift(theory: Theory) -> None:
    prove = theory.prove
    both = own(k) - beta * buffer
    prove(
        "shift of a device, squared",
        le(expect(residual(k) ** 2, j), rest(k)),
        "Young with y between residual and buffer; at its best (sqrt(own2) + beta sqrt(buffer2))^2.",
        (
            Use("shift of a device", both + residual(k), (w, j)),
            Use("residual error", 1 + y),
            Use("buffer", (1 + 1 / y) * beta**2),
            Use("shift error", -1),
        ),
        (Square(y * own(k) + beta * buffer, 1 / y, (w, j)),),
    )
    prove(
        _MOVES + ", with momentum",
        eq(f.u_next + rate * total(alpha(k) * f.residual_next(k), k), h.u + shift + at_each_round(f.move)),
        "What is kept back, and what is to come of the buffer, is in the shift.",
        (
            Use("server"),
            Use("next shift of a device", rate * alpha(k), (k,)),
            Use("residuals", rate * alpha(k), (k,)),
            Use("shift of a device", -rate * alpha(k), (k,)),
            Use("momentum", -rate),
            Use("momentum share", -rate * buffer_next),
            Use("weights", rate * beta * (buffer - buffer_next)),
        ),
    )


def _theorem(theory: Theory) -> None:
    terms = f.round_terms()
    coefficient = at_each_round(terms.residual + terms.personal_residual) / R
    from_buffer = (1 + 1 / y) * beta**2 * buffer2
    others = f.right_side(replace(terms, residual=0, personal_residual=0))
    theory.prove(
        "theorem, momentum",
        le(
            total(at_each_round(terms.gradient * gradient2 + terms.personal * f.personal_gradient2), t) / R,
            (f_initial - f_lower) / R
            + total(coefficient * ((1 + y) * total(alpha(k) * own2(k), k) + from_buffer), t)
            + total(at_each_round(others), t) / R,
        ),
        "The theorem of error feedback with this shift.",
        (
            Use("theorem, error feedback"),
            Use("shift error", coefficient * alpha(k), (t, k)),
            Use("weights", total(coefficient * from_buffer, t)),
        ),
    )


def _buffers(theory: Theory) -> None:
    prove = theory.prove
    prove(
        "buffer of one round",
        le(expect(buffer_next**2, j), beta * expect(buffer**2, j) + expect(added**2, j) / co_beta),
        "Jensen: the buffer is a mean of the last one and of what was added, over 1 - beta.",
        (
            Use("momentum", buffer_next + beta * buffer + added, (w, j)),
            Use("momentum share", expect(beta * buffer**2 + added**2 / co_beta, j)),
        ),
        (Square(co_beta * buffer - added, beta / co_beta, (w, j)),),
    )
    prove(
        "buffers are no larger than what fills them",
        le(co_beta**2 * total(expect(buffer**2, j), t), total(expect(added**2, j), t)),
        "R rounds, telescoped.",
        (
            Use("buffer of one round", co_beta, (t,)),
            Use("buffers follow each other", -co_beta),
            Use("momentum share", co_beta * total(expect(buffer**2, j), t)),
        ),
        (Square(1, co_beta * buffer2_last),),
    )


def _taken_over(step: Step) -> Step:
    """A step of error feedback; the bound on the shift is a step here and not a hypothesis."""
    renamed = {"residual error": "shift of a device, squared"}
    return replace(step, uses=tuple(replace(use, fact=renamed.get(use.fact, use.fact)) for use in step.uses))


def momentum() -> Theory:
    """The theorem with every step from the hypotheses up."""
    parent = feedback()
    facts = [fact for fact in parent.facts if fact.name not in _REPLACED]
    theory = Theory("Corollary: sparse uploads with error feedback and server momentum", copied(_signature), facts)
    _given(theory)
    _shift(theory)
    theory.steps += [_taken_over(step) for step in parent.steps if step.name != _MOVES]
    _theorem(theory)
    _buffers(theory)
    return theory
