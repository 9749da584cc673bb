"""Radio channels at the edge of the toolkit: the one place where decibels live.

Everything returned is linear and in SI units, ready for `Devices.channel_gain` and `Cell.noise_psd_w_per_hz`.
What is random is drawn from the `numpy.random.Generator` that is passed in, and from nothing else.

A scenario takes four lines::

    rng = np.random.default_rng(0)
    distance_m = place_in_annulus(rng, 10, outer_m=500.0, inner_m=MACRO_3GPP.min_distance_m)
    large_scale = MACRO_3GPP.gain(distance_m) * shadowing(rng, 10, MACRO_3GPP.shadowing_std_db)
    channel_gain = large_scale * rayleigh_mrc(rng, 10, antennas=4)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chndtrix, digamma, gammaincinv, ndtri

from kktalloc._problem.arguments import FINITE, expect, expect_whole, in_range, one_number
from kktalloc._problem.arrays import FloatArray, as_float64, first_wrong

__all__ = [
    "HOTZONE_3GPP",
    "MACRO_3GPP",
    "THERMAL_NOISE_DBM_PER_HZ",
    "PathLoss",
    "db_to_linear",
    "dbm_to_w",
    "ergodic_gain",
    "estimated_gain",
    "linear_to_db",
    "noise_psd_w_per_hz",
    "outage_gain",
    "place_in_annulus",
    "rayleigh_mrc",
    "shadowing",
    "w_to_dbm",
]

Size = int | tuple[int, ...]

# An error of a channel estimate below this share of it leaves a normal distribution; beyond it the noncentral
# chi-squared quantile takes ever longer (0.1 s) and at last returns NaN.
_NEARLY_EXACT = 1e-8

THERMAL_NOISE_DBM_PER_HZ = -174.0
"""Thermal noise density at 290 K, ``10 log10(k T / 1 mW)``, rounded as 3GPP does."""


def db_to_linear(ratio_db: ArrayLike) -> FloatArray:
    """Power ratio from decibels, ``10**(x/10)``; any shape."""
    return np.asarray(10.0 ** (as_float64("ratio_db", ratio_db) / 10.0))


def linear_to_db(ratio: ArrayLike) -> FloatArray:
    """Decibels from a power ratio > 0, ``10 log10(x)``; any shape.

    Raises
    ------
    ValueError
        If a ratio is not > 0.
    """
    return np.asarray(10.0 * np.log10(_finite("ratio", ratio, open_low=True)))


def dbm_to_w(power_dbm: ArrayLike) -> FloatArray:
    """Watts from dBm; any shape. Spectral densities convert alike: dBm/Hz to W/Hz."""
    return db_to_linear(as_float64("power_dbm", power_dbm) - 30.0)


def w_to_dbm(power_w: ArrayLike) -> FloatArray:
    """Convert watts (> 0) to dBm; any shape.

    Raises
    ------
    ValueError
        If a power is not > 0.
    """
    return linear_to_db(_finite("power_w", power_w, open_low=True)) + 30.0


def noise_psd_w_per_hz(density_dbm_per_hz: float = THERMAL_NOISE_DBM_PER_HZ, noise_figure_db: float = 0.0) -> float:
    """One-sided noise power spectral density at the receiver in W/Hz.

    Parameters
    ----------
    density_dbm_per_hz
        Thermal density; -174 dBm/Hz (290 K) by default.
    noise_figure_db
        Noise figure of the receiver, >= 0 dB.

    Raises
    ------
    ValueError
        If the noise figure is negative: a receiver does not remove thermal noise.
    """
    density_dbm_per_hz = one_number("density_dbm_per_hz", density_dbm_per_hz)
    return float(dbm_to_w(density_dbm_per_hz + one_number("noise_figure_db", noise_figure_db, 0.0)))


def _finite(name: str, value: ArrayLike, low: float = 0.0, *, open_low: bool = False) -> FloatArray:
    """`value` as finite floats from `low` on, or one line that names it, the index and the value."""
    array = as_float64(name, value)
    in_range(name, array, low, open_low, FINITE)
    return array


@dataclass(frozen=True)
class PathLoss:
    """Log-distance path loss ``L(d) = intercept_db + slope_db_per_decade * log10(d / 1 km)``.

    Parameters
    ----------
    intercept_db
        Loss at 1 km in dB.
    slope_db_per_decade
        Added loss in dB per tenfold distance, > 0; ten times the path-loss exponent.
    shadowing_std_db
        Standard deviation in dB of the log-normal shadowing that belongs to the model, >= 0.
    min_distance_m
        The model does not hold closer than this, >= 0; a shorter distance is refused.

    Raises
    ------
    ValueError
        One line that names the field and its value.
    """

    intercept_db: float
    slope_db_per_decade: float
    shadowing_std_db: float = 0.0
    min_distance_m: float = 0.0

    def __post_init__(self) -> None:  # noqa: D105
        one_number("intercept_db", self.intercept_db)
        one_number("slope_db_per_decade", self.slope_db_per_decade, 0.0, True)
        one_number("shadowing_std_db", self.shadowing_std_db, 0.0)
        one_number("min_distance_m", self.min_distance_m, 0.0)

    def loss_db(self, distance_m: ArrayLike) -> FloatArray:
        """Path loss in dB at `distance_m` (metres, > 0, any shape), shadowing not included.

        Raises
        ------
        ValueError
            If a distance is not positive, or below `min_distance_m`.
        """
        distance = _finite("distance_m", distance_m, self.min_distance_m, open_low=self.min_distance_m == 0.0)
        return np.asarray(self.intercept_db + self.slope_db_per_decade * (np.log10(distance) - 3.0))

    def gain(self, distance_m: ArrayLike) -> FloatArray:
        """Linear power gain ``10**(-L/10)`` at `distance_m` (metres, any shape), shadowing not included."""
        return db_to_linear(-self.loss_db(distance_m))


MACRO_3GPP = PathLoss(128.1, 37.6, shadowing_std_db=8.0, min_distance_m=35.0)
"""Urban macro cell at 2 GHz: ``128.1 + 37.6 log10(d_km)``.

Source: 3GPP TR 36.814 V9.2.0, table A.2.1.1-3 (case 1), the same line as TR 36.942 V9.3.0, section 4.5.2 with
the antenna 15 m above the roofs.
"""

HOTZONE_3GPP = PathLoss(140.7, 36.7, shadowing_std_db=10.0, min_distance_m=10.0)
"""Outdoor hot-zone (pico) cell at 2 GHz: ``140.7 + 36.7 log10(d_km)``.

Source: 3GPP TR 36.814 V9.2.0, table A.2.1.1.2-3, outdoor RRH/hotzone, model 1.
"""


def place_in_annulus(rng: np.random.Generator, size: Size, outer_m: float, inner_m: float = 0.0) -> FloatArray:
    """Distances in metres to the centre of devices placed uniformly over a disc or an annulus.

    The area within d of the centre grows as d², hence ``d = sqrt(r² + U (R² - r²))``, U uniform on [0, 1).

    Parameters
    ----------
    rng
        Source of randomness.
    size
        Shape of the result, e.g. the number of devices.
    outer_m, inner_m
        Radii R > r >= 0 in metres.

    Raises
    ------
    ValueError
        If the radii are not finite with ``0 <= inner_m < outer_m``.
    """
    _require_source(rng, size)
    inner_m = one_number("inner_m", inner_m, 0.0)
    outer_m = one_number("outer_m", outer_m, inner_m, True)
    return np.asarray(np.sqrt(inner_m**2 + rng.random(size) * (outer_m**2 - inner_m**2)))


def shadowing(rng: np.random.Generator, size: Size, std_db: float) -> FloatArray:
    """Linear log-normal shadowing gains of median 1: ``10**(X/10)`` with ``X ~ N(0, std_db²)`` in dB.

    Parameters
    ----------
    rng
        Source of randomness.
    size
        Shape of the result.
    std_db
        Standard deviation in dB, >= 0.

    Raises
    ------
    ValueError
        If `std_db` is negative or not finite.
    """
    _require_source(rng, size)
    std_db = one_number("std_db", std_db, 0.0)
    return db_to_linear(std_db * rng.standard_normal(size))


def rayleigh_mrc(rng: np.random.Generator, size: Size, antennas: int = 1) -> FloatArray:
    """Small-scale power gains of independent Rayleigh fading after maximum-ratio combining.

    With M receive antennas the combined SNR is that of the squared channel norm ``sum_m |h_m|²``,
    ``h_m ~ CN(0, 1)``: a Gamma(M, 1) variable of mean M, so the array gain is included (Tse and Viswanath,
    *Fundamentals of Wireless Communication*, 2005, section 3.3.1). Multiply by the large-scale gain.

    Parameters
    ----------
    rng
        Source of randomness.
    size
        Shape of the result, e.g. ``(rounds, K)``.
    antennas
        Receive antennas M, an integer >= 1.

    Raises
    ------
    ValueError
        If `antennas` is not an integer >= 1.
    """
    _require_source(rng, size)
    expect_whole("antennas", antennas, 1)
    return np.asarray(rng.standard_gamma(antennas, size))


def outage_gain(mean_gain: ArrayLike, outage: ArrayLike, antennas: int = 1) -> FloatArray:
    """Gain that Rayleigh fading falls short of with a given probability: for allocations that know the mean alone.

    An upload planned at this gain is late with probability `outage`, since the rate grows with the gain. After
    maximum-ratio combining of M antennas the gain over its mean per antenna is Gamma(M, 1) (see `rayleigh_mrc`), and
    the answer its quantile ``mean_gain * P^-1(M, outage)``, P the regularised incomplete gamma function. For one
    antenna that is ``-ln(1 - outage) * mean_gain`` (Tse and Viswanath, 2005, section 5.4.1).

    Parameters
    ----------
    mean_gain
        Mean power gain of one antenna, linear, >= 0.
    outage
        Probability of a round in which the upload is late, in (0, 1); broadcasts against `mean_gain`.
    antennas
        Receive antennas M, an integer >= 1.

    Raises
    ------
    ValueError
        One line that names the argument that is out of range.
    """
    expect_whole("antennas", antennas, 1)
    gain, share = _together(mean_gain=_finite("mean_gain", mean_gain), outage=_probability("outage", outage))
    return np.asarray(gain * gammaincinv(antennas, share))


def estimated_gain(estimate_gain: ArrayLike, error_gain: ArrayLike, outage: ArrayLike, antennas: int = 1) -> FloatArray:
    """Gain that the true channel falls short of with a given probability when only an estimate of it is known.

    The channel is ``h = estimate + error`` with an error of independent ``CN(0, error_gain)`` entries, as minimum mean
    square error estimation leaves it. Given the estimate, ``2 |h|^2 / error_gain`` is noncentral chi-squared with 2 M
    degrees of freedom and noncentrality ``2 |estimate|^2 / error_gain`` (its distribution is a Marcum Q function;
    Simon and Alouini, *Digital Communication over Fading Channels*, 2nd edition 2005, section 4.1), and the answer its
    quantile. Without error it is the estimate's own gain, without an estimate that of `outage_gain`.

    Parameters
    ----------
    estimate_gain
        Squared norm of the estimated channel, linear, >= 0.
    error_gain
        Variance of the error per antenna, >= 0; in the units of the gain.
    outage
        Probability that the upload is late all the same, in (0, 1).
    antennas
        How many entries of the error count: the number of receive antennas M where the receiver knows the channel by
        the time it decodes, so that only the allocation relies on the estimate. 1, the safer default, where the
        receiver combines by the same estimate: of the error it then sees the one component along the estimate.

    Raises
    ------
    ValueError
        One line that names the argument that is out of range.
    """
    expect_whole("antennas", antennas, 1)
    known = _finite("estimate_gain", estimate_gain)
    error = _finite("error_gain", error_gain)
    known, error, share = _together(estimate_gain=known, error_gain=error, outage=_probability("outage", outage))
    with np.errstate(divide="ignore", invalid="ignore"):
        nearly_exact = ~(error > known * _NEARLY_EXACT)
        offset = np.where(nearly_exact, 0.0, 2.0 * known / error)
        quantile = 0.5 * error * chndtrix(share, 2 * antennas, offset)
    # There the length of the channel is normal about that of the estimate, to a relative error below `_NEARLY_EXACT`.
    length = np.sqrt(2.0 * known) + ndtri(share) * np.sqrt(error)
    return np.asarray(np.where(nearly_exact, 0.5 * (length**2 + error * (2 * antennas - 1)), quantile))


def ergodic_gain(mean_gain: ArrayLike, antennas: int = 1) -> FloatArray:
    """Gain whose rate the ergodic capacity of a fast-fading Rayleigh channel never falls short of.

    ``E ln(1 + x G) >= ln(1 + x exp(E ln G))``, because ``ln(1 + e^z)`` is convex in z (Jensen), and for G ~ Gamma(M, 1)
    ``E ln G`` is the digamma function of M. One antenna: 0.56 of the mean gain. It is tight at high SNR; at low SNR
    the capacity is that of the mean gain, ``M mean_gain``, so no single gain gives the capacity at every bandwidth
    and power. The exact ergodic rate would keep the allocation convex (it is a mean of concave functions), but not
    solved: no efficiency ``ln(1 + SNR)`` is left in which every branch of a device's answer is explicit.

    Parameters
    ----------
    mean_gain
        Mean power gain of one antenna, linear, >= 0.
    antennas
        Receive antennas M with maximum-ratio combining, an integer >= 1.

    Raises
    ------
    ValueError
        One line that names the argument that is out of range.
    """
    expect_whole("antennas", antennas, 1)
    return np.asarray(_finite("mean_gain", mean_gain) * np.exp(digamma(antennas)))


def _probability(name: str, value: ArrayLike) -> FloatArray:
    array = _finite(name, value, open_low=True)
    if not (array < 1.0).all():
        raise ValueError(f"{first_wrong(name, array, array < 1.0)}: must be < 1")
    return array


def _together(**arrays: FloatArray) -> tuple[FloatArray, ...]:
    """Arguments of one shape, or one line that tells theirs."""
    try:
        return tuple(np.broadcast_arrays(*arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{shapes}: the shapes do not broadcast") from None


def _require_source(rng: np.random.Generator, size: Size) -> None:
    """What draws, and a shape of it, or one line that names what is none."""
    expect("rng", rng, np.random.Generator)
    for length in size if isinstance(size, tuple | list) else (size,):
        expect_whole("size", length, 0)
