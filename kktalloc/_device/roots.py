"""Where falling functions of one unknown cross zero, many at a time: the one bracketed root search of the allocator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.tolerances import FILLED

ITERATIONS = 120
FIRST_STEP, GROWTH = 1.0, 4.0  # of the search for a bracket


@dataclass(frozen=True, eq=False)
class Crossing:
    """Roots of N functions.

    Parameters
    ----------
    at
        The least unknown that was seen with a value of at most 0, shape ``(N,)``; `high` where there was none.
    above
        The greatest that was seen with a value above that, shape ``(N,)``; NaN where there was none.
    found
        Whether the root is known to the tolerance, shape ``(N,)``. False where the value at `high` is still above 0,
        and where the iterations ran out.
    evaluations
        How often the function was called.
    """

    at: FloatArray
    above: FloatArray
    found: np.ndarray
    evaluations: int


def crossing(
    falling: Callable[[FloatArray, np.ndarray], FloatArray],
    start: FloatArray,
    low: float | FloatArray,
    high: float | FloatArray,
    closed: float = FILLED,
    width: float = 1e-14,
) -> Crossing:
    """The unknowns in ``[low, high]`` at which functions that fall with them have come down to 0.

    The answer is never on the high side: its value is at most 0, or at most `closed` above it. The bracket is found by
    growing steps from `start`; within it the search goes by Chandrupatla's method (Advances in Engineering Software 28,
    1997): inverse quadratic interpolation wherever that is safe, else bisection. Functions that are done are left out.

    Parameters
    ----------
    falling
        Values at unknowns of shape ``(n,)`` of the functions whose numbers are the second argument; may be infinite.
    start, low, high
        First guess, shape ``(N,)``, and the ends of the search.
    closed
        A value of at most this size is 0.
    width
        A bracket of this width, relative where the unknown is above 1, is a point; at the least two neighbouring
        doubles are.
    """
    N = start.size
    low, high = (np.broadcast_to(np.asarray(end, dtype=float), start.shape).copy() for end in (low, high))
    best, worst, found, calls = high.copy(), np.full(N, np.nan), np.zeros(N, dtype=bool), 0

    # a, b: the ends of the bracket, a the newer one; f above 0 at the lower end, not above 0 at the upper.
    a = np.clip(start, low, high)
    b, c, f_b, f_c = (np.full(N, np.nan) for _ in range(4))
    step, t = np.full(N, FIRST_STEP), np.full(N, 0.5)
    f_a = falling(a, np.arange(N)) if N else np.empty(0)
    calls += 1
    todo = np.arange(N)
    for iteration in range(ITERATIONS):
        above = f_a[todo] > closed
        best[todo] = np.where(above, best[todo], np.minimum(best[todo], a[todo]))
        worst[todo] = np.where(above, np.fmax(worst[todo], a[todo]), worst[todo])
        bracketed = ~np.isnan(b[todo])
        at_end = ~bracketed & np.where(above, a[todo] >= high[todo], a[todo] <= low[todo])
        point = np.maximum(width * np.maximum(1.0, np.abs(a[todo])), np.spacing(np.abs(a[todo])))
        narrow = bracketed & (np.abs(b[todo] - a[todo]) <= point)
        done = narrow | at_end | (np.abs(f_a[todo]) <= closed)
        found[todo] = done & ~(at_end & above)
        todo, above, bracketed = todo[~done], above[~done], bracketed[~done]
        if not todo.size or iteration == ITERATIONS - 1:
            break
        with np.errstate(all="ignore"):
            moved = a[todo] + np.where(above, 1.0, -1.0) * step[todo]
            x = np.where(
                bracketed,
                a[todo] + t[todo] * (b[todo] - a[todo]),
                np.clip(moved, low[todo], high[todo]),
            )
        f_x = falling(x, todo)
        calls += 1
        same = (f_x > closed) == above
        first = ~bracketed & same  # still no bracket
        # The end that the new point replaces, or else the one before it, is the third point.
        c[todo], f_c[todo] = np.where(same, a[todo], b[todo]), np.where(same, f_a[todo], f_b[todo])
        b[todo] = np.where(first, np.nan, np.where(same, b[todo], a[todo]))
        f_b[todo] = np.where(same, f_b[todo], f_a[todo])
        a[todo], f_a[todo] = x, f_x
        step[todo] = np.where(first, GROWTH * step[todo], step[todo])
        with np.errstate(all="ignore"):
            A, B, C, fa, fb, fc = (v[todo] for v in (a, b, c, f_a, f_b, f_c))
            xi, phi = (A - B) / (C - B), (fa - fb) / (fc - fb)
            smooth = (phi * phi < xi) & ((1.0 - phi) ** 2 < 1.0 - xi)
            inverse = fa / (fb - fa) * fc / (fb - fc) + (C - A) / (B - A) * fa / (fc - fa) * fb / (fc - fb)
            point = np.maximum(width * np.maximum(1.0, np.abs(A)), np.spacing(np.abs(A)))
            tiny = np.minimum(point / np.abs(B - A), 0.5)
            secant = fa / (fa - fb)  # where there is no third point yet
            guess = np.where(np.isnan(C), secant, np.where(smooth, inverse, 0.5))
        t[todo] = np.clip(np.where(np.isfinite(guess), guess, 0.5), tiny, 1.0 - tiny)
    return Crossing(best, worst, found, calls)
