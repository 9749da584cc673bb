"""What is said of values over seeds: mean, range and interval, how far apart, on how many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .results import FloatArray, t_interval
from .tex import between, fixed


def spread(values: FloatArray, digits: int = 0) -> dict[str, str]:
    """Mean, range, and confidence interval of the mean."""
    low, high = t_interval(values)
    return {
        "": fixed(float(values.mean()), digits),
        "Range": between(fixed(values.min(), digits), fixed(values.max(), digits)),
        "Ci": between(fixed(low, digits), fixed(high, digits)),
    }


def apart(values: FloatArray, more: str = "above", less: str = "below") -> str:
    """The mean in words: ``0.21 points below``."""
    mean = float(values.mean())
    return f"{fixed(abs(mean), 2)} points {more if mean >= 0 else less}"


def of_seeds(good: NDArray[np.bool_]) -> str:
    """``4 of 5``."""
    return f"{int(good.sum())} of {len(good)}"
