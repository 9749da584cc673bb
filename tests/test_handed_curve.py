"""A curve that somebody hands in is held against itself when the problem is built: value, slope, convexity."""

import numpy as np
import pytest

import kktalloc as ka


class Curve:
    """``scale * rho^n``, with a factor on what it says of its slope, per device if that is an array."""

    def __init__(self, n=2.0, scale=1.0, slope_factor=1.0):
        self.n, self.scale, self.slope_factor = n, scale, slope_factor

    def value(self, rho):
        return self.scale * rho**self.n

    def slope(self, rho):
        return self.slope_factor * self.scale * self.n * rho ** (self.n - 1.0)

    def curvature(self, rho):
        return self.scale * self.n * (self.n - 1.0) * rho ** np.maximum(self.n - 2.0, 0.0)

    def rows(self, keep, shape):
        return self


class Bent(Curve):
    """Straight pieces, at a corner of which any slope between the two is right."""

    def __init__(self, corner=0.5, at_corner=0.3):
        self.corner, self.at_corner = corner, at_corner

    def value(self, rho):
        return 0.1 * rho + np.maximum(rho - self.corner, 0.0)

    def slope(self, rho):
        return np.select([rho < self.corner, rho > self.corner], [0.1, 1.1], self.at_corner)

    def curvature(self, rho):
        return np.zeros_like(rho)


def problem(curve):
    devices = ka.Devices([1e-12, 3e-12, 5e-12], 0.1, 4e6, 0.2)
    return ka.Problem(ka.Cell(1e6, 4e-21, 1.0), devices, curve)


@pytest.mark.parametrize(
    "curve",
    [
        Curve(), Curve(1.0), Curve(7.5), Curve(3.0, scale=1e-12), Curve(3.0, scale=1e9), Curve(scale=0.0), Bent(),
        Bent(at_corner=0.1), Bent(at_corner=1.1), Bent(corner=1 / 3), Bent(corner=31 / 32),
        Curve(slope_factor=1 + 1e-8), Curve(np.array([1.0, 2.0, 5.0])),
    ],
)  # fmt: skip
def test_what_is_convex_with_its_own_slope_is_taken(curve):
    problem(curve)


def test_it_is_solved_as_the_same_law_of_ours():
    ours = ka.solve(problem(ka.PowerLaw(2.0)))
    handed = ka.solve(problem(Curve(2.0)))
    np.testing.assert_allclose(handed.pruning_ratio, ours.pruning_ratio, rtol=1e-9)
    np.testing.assert_allclose(handed.prices.bandwidth_per_hz, ours.prices.bandwidth_per_hz, rtol=1e-9)


@pytest.mark.parametrize("factor", [2.0, 0.5, 1.001, 0.0, -1.0, np.nan, np.array([1.0, 1.0, 2.0])])
def test_a_slope_of_another_curve_is_refused(factor):
    with pytest.raises(ValueError, match=r"Curve.*device \[\d\].*slope is said to be"):
        problem(Curve(slope_factor=factor))


@pytest.mark.parametrize(
    ("curve", "why"),
    [
        (Curve(0.5), "not convex|slope is said"),
        (Curve(scale=-1.0), "the value falls"),
        (Curve(scale=np.nan), "the value is nan"),
        (Bent(at_corner=1.2), "slope is said"),
        (Bent(at_corner=0.05), "slope is said"),
    ],
)
def test_what_is_no_such_curve_is_refused(curve, why):
    with pytest.raises(ValueError, match=why):
        problem(curve)


def test_a_shape_of_its_own_is_refused():
    curve = Curve()
    curve.slope = lambda rho: 1.0
    with pytest.raises(ValueError, match=r"slope has shape \(\) for ratios of shape \(3,\)"):
        problem(curve)


def test_a_negative_curvature_is_refused():
    curve = Curve()
    curve.curvature = lambda rho: -np.ones_like(rho)
    with pytest.raises(ValueError, match="the curvature is -1"):
        problem(curve)


@pytest.mark.parametrize(("gain", "where"), [(110.0, ""), ([1e-12, 93.0, 1e-12], "[1]")])
def test_a_gain_above_one_is_warned_of_once_with_the_likely_cause(gain, where):
    with pytest.warns(UserWarning, match=r"db_to_linear") as caught:
        loud = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices(gain, 0.1, 4e6, [0.2] * 3))
    assert len(caught) == 1
    assert f"devices.channel_gain{where} = " in str(caught[0].message)
    ka.least_bandwidth(loud, 0.5)  # asks variants of it, in silence: a warning is an error here
