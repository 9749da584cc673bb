"""The engine for devices that pay for energy too: the price at which the bandwidth is used up.

At a price of bandwidth each device has one cheapest answer (`kktalloc._device.priced`), and the dearer bandwidth is the
less of it they take. Where the keep ratio is free it is the one at which keeping more costs as much as it is worth,
``alpha e'(1 - q)``; both sides are monotone in q.
"""

from __future__ import annotations

import numpy as np

from kktalloc._device.clocked import Clocked, most_kept, rising_root
from kktalloc._device.priced import Paid, cheapest
from kktalloc._device.roots import crossing
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.stats import enter
from kktalloc._problem.tolerances import FILLED

FREE, DEAREST = -700.0, 700.0  # logarithms of prices, from the guess


def cleared(form: Clocked, worth: FloatArray, guess: FloatArray | None = None) -> tuple[FloatArray, Paid, FloatArray]:
    """Keep ratios that fill the bandwidth at a worth of heat, shape ``(N, K)``, the answers, and the price ``(N,)``.

    `guess` is one of the price. For clocks that stand still and without electronics; the problems must be feasible.
    """
    N = form.weight.shape[0]
    floor, top = form.q_min, most_kept(form, np.minimum(form.b_max, 2.0))
    # What is kept at the cheapest price known to be too dear, and at the dearest that is too cheap.
    less, more = floor.copy(), top.copy()

    def excess(log_price: FloatArray, part: np.ndarray) -> FloatArray:
        enter("numpy", log_price.size)
        few = form.rows(part)
        q = kept_at(few, np.exp(log_price), worth[part], less[part], more[part])
        total = cheapest(few, q, np.exp(log_price), worth[part]).b.sum(axis=1)
        with np.errstate(divide="ignore"):
            over = np.log(total)
        # Full bandwidth is the answer: what lies between others may fill it too, where the own bandwidth binds.
        cheap, dear = over > -FILLED, over <= FILLED
        more[part[cheap]], less[part[dear]] = q[cheap], q[dear]
        return over

    start = np.zeros(N) if guess is None else np.log(np.clip(guess, 1e-200, 1e200))
    root = crossing(excess, start, FREE, DEAREST)
    price, spare = np.exp(root.at), root.at <= FREE
    # Spare bandwidth holds nobody back: what a joule costs, or the own bandwidth, does.
    more[spare] = less[spare]

    def at_share(share: FloatArray, part: slice | np.ndarray = slice(None)) -> FloatArray:
        return less[part] + (1.0 - share[:, None]) * (more[part] - less[part])

    # Where the answer jumps with the price those on both sides are as good, and so is what lies between.
    def left_over(share: FloatArray, part: np.ndarray) -> FloatArray:
        at = cheapest(form.rows(part), at_share(share, part), price[part], worth[part])
        with np.errstate(divide="ignore"):
            return np.log(at.b.sum(axis=1))

    share = crossing(left_over, np.full(N, 0.5), 0.0, 1.0, FILLED, 0.0).at
    q = at_share(share)
    return q, cheapest(form, q, price, worth), np.where(spare, 0.0, price)


def kept_at(form: Clocked, price: FloatArray, worth: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """What devices keep at a price of shape ``(N,)`` and a worth of heat ``(N, K)``, between `low` and `high`."""

    def too_much(q: FloatArray) -> FloatArray:
        with np.errstate(all="ignore"):
            value = np.log(form.weight * form.error.slope(1.0 - q))
            gain = np.log(cheapest(form, q, price, worth).slope) - value
        return np.where(np.isnan(gain), 0.0, gain)

    return rising_root(too_much, low, high)
