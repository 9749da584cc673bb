"""Scalar functions of the spectral efficiency against 50-digit arithmetic."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import lambertw

from kktalloc._device.efficiency import efficiency_for, phi


def exact_phi(y: float) -> float:
    with mp.workdps(60):
        return float(mp.mpf(y) - 1 + mp.exp(-mp.mpf(y)))


@given(st.floats(-12, 2.8).map(lambda e: 10.0**e))
def test_phi_is_accurate_from_the_wideband_limit_to_overflow(y: float) -> None:
    assert phi(np.array(y)) == pytest.approx(exact_phi(y), rel=4e-15)


@given(st.one_of(st.floats(-290, -1e-3).map(lambda e: 10.0**e), st.floats(-15, -1).map(lambda e: 1 - 10.0**e)))
def test_efficiency_solves_its_equation(theta: float) -> None:
    y = float(efficiency_for(np.array(theta)))
    with mp.workdps(60):
        back = float(mp.mpf(y) / mp.expm1(mp.mpf(y)))
    # An ulp of y moves theta by up to y ulps.
    assert back == pytest.approx(theta, rel=4e-16 * max(1.0, y) + 4e-16)


def test_efficiency_agrees_with_the_lambert_branch_where_that_is_accurate() -> None:
    theta = np.linspace(0.01, 0.9, 50)
    snr_plus_1 = -lambertw(-theta * np.exp(-theta), -1).real / theta
    np.testing.assert_allclose(np.exp(efficiency_for(theta)), snr_plus_1, rtol=1e-12)


def test_limits() -> None:
    np.testing.assert_array_equal(efficiency_for(np.array([0.0, 1.0, 2.0, np.inf])), [np.inf, 0.0, 0.0, 0.0])
    assert phi(np.array(0.0)) == 0.0
