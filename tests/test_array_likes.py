"""Things that look like arrays and say more than their numbers: converted rightly, or refused by name."""

import warnings
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import kktalloc as ka

GAIN = [2e-12, 5e-12, 1e-11]


def problem(gain=GAIN, **cell):
    return ka.Problem(
        ka.Cell(**{"bandwidth_hz": 1e6, "noise_psd_w_per_hz": 4e-21, "deadline_s": 1.0} | cell), devices(gain)
    )


def devices(gain):
    return ka.Devices(gain, 0.1, 4e6, 0.3)


class Quantity(np.ndarray):
    """An array with a unit, as astropy and unyt have them."""

    unit = "MHz"


class Wrapped:
    """A quantity that holds an array, as pint has it: turned into an array it warns and drops the unit."""

    def __init__(self, numbers, units):
        self.numbers, self.units = numbers, units

    def __array__(self, dtype=None, copy=None):
        warnings.warn("The unit of the quantity is stripped", stacklevel=1)
        return np.asarray(self.numbers, dtype)


class Labelled:
    """An array with attributes, as xarray has it, around what may warn."""

    def __init__(self, inside, **attrs):
        self.inside, self.attrs = inside, attrs

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.inside, dtype)


MASKED = np.ma.masked_greater([2e-12, 5e-12, 1e20], 1.0)


@pytest.mark.parametrize(
    ("gain", "message"),
    [
        (MASKED, r"devices.channel_gain\[2\]: masked"),
        (np.ma.array([GAIN, GAIN], mask=[[0, 0, 0], [0, 1, 0]]), r"devices.channel_gain\[1, 1\]: masked"),
        ([GAIN, MASKED], r"devices.channel_gain\[1, 2\]: masked"),
        ([2e-12, np.ma.masked, 1e-11], r"devices.channel_gain\[1\]: masked"),
        (np.ma.masked, r"devices.channel_gain: masked"),
        (np.array(GAIN).view(Quantity), r"devices.channel_gain: a quantity in MHz"),
        (Wrapped(GAIN, "hertz"), r"devices.channel_gain: a quantity in hertz"),
        ([1e-12, Wrapped(2e-12, "dimensionless")], r"devices.channel_gain\[1\]: a quantity in dimensionless"),
        (Labelled(GAIN, units="dB"), r"devices.channel_gain: a quantity in dB"),
        (Labelled(Wrapped(GAIN, "hertz")), r"devices.channel_gain: expected numbers"),
        (pd.Series([1e-12, None, 1e-12], dtype="Float64"), r"devices.channel_gain\[1\] = nan"),
        (np.array(GAIN) + 0j, r"devices.channel_gain\[0\]: expected numbers"),
        (np.array([1, 2, 3], "m8[s]"), r"devices.channel_gain\[0\]: expected numbers"),
        (np.array([True, False, True]), r"devices.channel_gain\[0\]: expected numbers"),
        ([Decimal("1e-12")], r"devices.channel_gain\[0\]: expected numbers, got Decimal"),
        ([Fraction(1, 10)], r"devices.channel_gain\[0\]: expected numbers, got Fraction"),
        (np.array([(1.0,)], dtype=[("a", "f8")]), r"devices.channel_gain: expected numbers"),
        ({0: 1e-12}, r"devices.channel_gain: expected numbers"),
        ((g for g in GAIN), r"devices.channel_gain: expected numbers"),
    ],
)
def test_what_says_more_than_numbers_is_refused_by_name(gain, message):
    with pytest.raises(ValueError, match=message) as refused:
        problem(gain)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "gain",
    [
        np.ma.array(GAIN), pd.Series(GAIN), pd.Series(GAIN, dtype="Float64"),
        pd.Series(GAIN, index=["unit", "units", "x"]), np.asarray(GAIN, np.longdouble), memoryview(np.array(GAIN)),
        Labelled(GAIN), tuple(GAIN), np.array(GAIN)[::-1][::-1],
    ],
)  # fmt: skip
def test_what_says_just_numbers_is_taken(gain):
    np.testing.assert_array_equal(ka.solve(problem(gain)).pruning_ratio, ka.solve(problem()).pruning_ratio)


@pytest.mark.parametrize(
    "megahertz", [np.array(1.0).view(Quantity), Wrapped(1.0, "megahertz"), Labelled(1.0, units="MHz")]
)
def test_a_megahertz_is_not_a_hertz(megahertz):
    with pytest.raises(ValueError, match=r"cell.bandwidth_hz: a quantity in .*expected bare numbers"):
        problem(bandwidth_hz=megahertz)


def test_arguments_of_questions_are_read_as_carefully():
    asked, solved = problem(), ka.solve(problem())
    arrays = {name: getattr(solved, name) for name in ("pruning_ratio", "bandwidth_hz", "tx_power_w")}
    for name in arrays:
        for bad in (np.ma.masked_less(arrays[name], 1e9), Wrapped(arrays[name], "percent")):
            with pytest.raises(ValueError, match=rf"{name}(\[0\]: masked|: a quantity in percent)"):
                ka.certify(asked, **arrays | {name: bad})
    with pytest.raises(ValueError, match=r"pruning_ratio\[0\]: masked"):
        ka.least_bandwidth(asked, np.ma.array([0.5, 0.5, 0.5], mask=[1, 0, 0]))
    with pytest.raises(ValueError, match=r"error\[1\]: masked"):
        ka.Table([0.0, 0.5, 1.0], np.ma.array([0.0, 0.2, 1.0], mask=[0, 1, 0]))


class Single:
    """The least of the array API standard in a library that rounds to float32, as jax does as it comes."""

    device = "cpu"

    def __init__(self, numbers):
        self.numbers = np.asarray(numbers, np.float32)

    def __array_namespace__(self, api_version=None):
        return LIBRARY

    def __dlpack__(self, **how):
        return self.numbers.__dlpack__(**how)

    def __dlpack_device__(self):
        return self.numbers.__dlpack_device__()


LIBRARY = SimpleNamespace(__name__="single", asarray=lambda numbers, device=None: Single(numbers))


def test_a_library_that_rounds_what_is_returned_is_refused_before_it_is_computed():
    rounded = problem(Single(GAIN))
    for question in (ka.solve, ka.solve_minmax, ka.least_bandwidth, ka.least_energy, ka.select):
        with pytest.raises(ValueError, match=r"problem: results go to single on cpu, which rounds them to 32 bits"):
            question(rounded)
    with pytest.raises(ValueError, match=r"results go to single on cpu"):
        ka.least_bandwidth(problem(), Single([0.5, 0.5, 0.5]))
    # A verdict is of the numbers that were handed in, and stays NumPy.
    assert not ka.certify(rounded, 0.5, Single([1e5, 1e5, 1e5]), 0.1)
