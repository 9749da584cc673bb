"""Channel models: figures worked out by hand, distributions against their laws, and the refusals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from kktalloc import channel


def test_decibels_by_hand():
    np.testing.assert_allclose(channel.dbm_to_w([30.0, 0.0, 23.0]), [1.0, 1e-3, 0.19952623149688797], rtol=1e-14)
    np.testing.assert_allclose(channel.db_to_linear([-10.0, 3.0]), [0.1, 1.9952623149688795], rtol=1e-14)
    np.testing.assert_allclose(channel.w_to_dbm(channel.dbm_to_w([-174.0, 12.5])), [-174.0, 12.5], rtol=1e-14)
    np.testing.assert_allclose(channel.linear_to_db(channel.db_to_linear([-120.0, 7.0])), [-120.0, 7.0], rtol=1e-13)


def test_noise_density_is_thermal_at_290_kelvin():
    boltzmann = 1.380649e-23
    assert channel.noise_psd_w_per_hz() == pytest.approx(boltzmann * 290.0, rel=6e-3)  # -173.975 dBm/Hz, rounded
    assert channel.noise_psd_w_per_hz(noise_figure_db=10.0) == pytest.approx(10 * channel.noise_psd_w_per_hz())


@pytest.mark.parametrize(
    ("model", "distance_m", "loss_db"),
    [
        (channel.MACRO_3GPP, 1000.0, 128.1),
        (channel.MACRO_3GPP, 100.0, 90.5),
        (channel.HOTZONE_3GPP, 1000.0, 140.7),
        (channel.HOTZONE_3GPP, 100.0, 104.0),
    ],
)
def test_path_loss_presets(model: channel.PathLoss, distance_m: float, loss_db: float):
    assert model.loss_db(distance_m) == pytest.approx(loss_db, abs=1e-12)
    assert model.gain(distance_m) == pytest.approx(10 ** (-loss_db / 10), rel=1e-12)


def test_path_loss_exponent():
    far, near = channel.MACRO_3GPP.gain([200.0, 100.0])
    assert near / far == pytest.approx(2**3.76, rel=1e-12)


def test_placement_is_uniform_in_area():
    d = channel.place_in_annulus(np.random.default_rng(1), 20_000, outer_m=500.0, inner_m=100.0)
    assert d.min() >= 100.0
    assert d.max() <= 500.0
    area = (d**2 - 100.0**2) / (500.0**2 - 100.0**2)
    assert stats.kstest(area, "uniform").pvalue > 0.01


def test_combined_fading_is_gamma():
    power = channel.rayleigh_mrc(np.random.default_rng(2), 20_000, antennas=4)
    assert stats.kstest(power, stats.gamma(4).cdf).pvalue > 0.01


def test_combined_fading_is_the_squared_norm_of_a_complex_gaussian_vector():
    rng = np.random.default_rng(3)
    h = (rng.standard_normal((20_000, 3)) + 1j * rng.standard_normal((20_000, 3))) / np.sqrt(2)
    power = channel.rayleigh_mrc(rng, 20_000, antennas=3)
    assert stats.ks_2samp(power, (np.abs(h) ** 2).sum(axis=1)).pvalue > 0.01


def test_shadowing_is_normal_in_decibels():
    gain = channel.shadowing(np.random.default_rng(4), 20_000, std_db=8.0)
    assert stats.kstest(channel.linear_to_db(gain), stats.norm(0, 8.0).cdf).pvalue > 0.01
    assert (channel.shadowing(np.random.default_rng(4), 5, 0.0) == 1.0).all()


def test_all_randomness_comes_from_the_generator():
    def draw(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        d = channel.place_in_annulus(rng, (2, 3), 500.0)
        return np.stack([d, channel.rayleigh_mrc(rng, (2, 3), 2), channel.shadowing(rng, (2, 3), 8.0)])

    np.random.seed(0)  # noqa: NPY002  # the global state must not matter
    first = draw(7)
    np.random.seed(1)  # noqa: NPY002
    assert (draw(7) == first).all()
    assert (draw(8) != first).any()


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: channel.MACRO_3GPP.gain([100.0, 20.0]), r"distance_m\[1\] = 20.0: must be >= 35 and finite"),
        (lambda: channel.MACRO_3GPP.gain(np.nan), r"distance_m = nan: must be >= 35 and finite"),
        (lambda: channel.PathLoss(128.1, -3.0), r"slope_db_per_decade = -3.0: must be > 0 and finite"),
        (lambda: channel.PathLoss(np.inf, 37.6), r"intercept_db = inf: must be finite"),
        (lambda: channel.noise_psd_w_per_hz(noise_figure_db=-1.0), r"noise_figure_db = -1.0: must be"),
        (lambda: channel.linear_to_db([1.0, 0.0]), r"ratio\[1\] = 0.0: must be > 0 and finite"),
        (lambda: channel.w_to_dbm(-1.0), r"power_w = -1.0: must be > 0 and finite"),
        (lambda: channel.place_in_annulus(np.random.default_rng(0), 3, 10.0, 20.0), r"outer_m = 10.0: must be"),
        (lambda: channel.rayleigh_mrc(np.random.default_rng(0), 3, 0), r"antennas = 0: must be a whole number >= 1"),
        (lambda: channel.rayleigh_mrc(np.random.default_rng(0), 3, 1.5), r"antennas = 1.5: must be a whole number"),  # type: ignore[arg-type]
        (lambda: channel.shadowing(np.random.default_rng(0), 3, -1.0), r"std_db = -1.0: must be >= 0 and finite"),
    ],
)
def test_bad_input_is_named_in_one_line(call, line: str):
    with pytest.raises(ValueError, match=line) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("antennas", [1, 4])
@pytest.mark.parametrize("outage", [0.01, 0.3])
def test_outage_gain_is_missed_as_often_as_it_says(antennas: int, outage: float):
    draws = 5e-12 * channel.rayleigh_mrc(np.random.default_rng(5), 200_000, antennas)
    missed = (draws < channel.outage_gain(5e-12, outage, antennas)).sum()
    assert stats.binomtest(int(missed), draws.size, outage).pvalue > 1e-3


def test_outage_gain_by_hand():
    assert channel.outage_gain(3.0, 0.1) == pytest.approx(-np.log(0.9) * 3.0, rel=1e-14)
    two = float(channel.outage_gain(1.0, 0.2, antennas=2))  # P(2, x) = 1 - (1 + x) e^-x
    assert 1 - (1 + two) * np.exp(-two) == pytest.approx(0.2, rel=1e-12)


@pytest.mark.parametrize("antennas", [1, 3])
@pytest.mark.parametrize("error_gain", [1e-3, 0.3, 2.0])
def test_estimated_gain_is_missed_as_often_as_it_says(antennas: int, error_gain: float):
    rng = np.random.default_rng(6)
    estimate = np.array([0.8 + 0.3j, -0.2j, 0.5])[:antennas]
    shape = (200_000, antennas)
    error = np.sqrt(error_gain / 2) * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    known, outage = (np.abs(estimate) ** 2).sum(), 0.05
    gain = (np.abs(estimate + error) ** 2).sum(axis=1)
    missed = (gain < channel.estimated_gain(known, error_gain, outage, antennas)).sum()
    assert stats.binomtest(int(missed), gain.size, outage).pvalue > 1e-3
    # The receiver that combines by the estimate itself: of the error one component is left.
    combined = np.abs((estimate + error) @ estimate.conj()) ** 2 / known
    missed = (combined < channel.estimated_gain(known, error_gain, outage)).sum()
    assert stats.binomtest(int(missed), gain.size, outage).pvalue > 1e-3


def test_estimated_gain_at_its_ends():
    assert channel.estimated_gain(4e-12, 0.0, 0.1) == pytest.approx(4e-12, rel=1e-14)
    for antennas in (1, 4):
        expected = channel.outage_gain(2.0, 0.1, antennas)
        assert channel.estimated_gain(0.0, 2.0, 0.1, antennas) == pytest.approx(float(expected), rel=1e-12)
    assert channel.estimated_gain(0.0, 0.0, 0.1) == 0.0
    # Both ways of computing it meet where one takes over from the other.
    share = channel._NEARLY_EXACT
    for outage in (1e-6, 0.1, 0.9):
        below, above = channel.estimated_gain(1.0, share * np.array([1 - 1e-9, 1 + 1e-9]), outage, 2)
        assert below == pytest.approx(float(above), rel=1e-11)
    errors = np.geomspace(1e-14, 1e3, 60)
    gains = channel.estimated_gain(1.0, errors, 0.01)
    assert (np.diff(gains[errors < 0.1]) < 0).all()  # less is known, less can be relied on
    assert (gains > 0).all()


@pytest.mark.parametrize("antennas", [1, 2, 8])
def test_ergodic_gain_is_a_floor_that_high_snr_reaches(antennas: int):
    draws = channel.rayleigh_mrc(np.random.default_rng(7), 400_000, antennas)
    for snr in (1e-2, 1.0, 1e2, 1e6):
        capacity, error = np.log1p(snr * draws).mean(), np.log1p(snr * draws).std() / np.sqrt(draws.size)
        floor = np.log1p(snr * float(channel.ergodic_gain(1.0, antennas)))
        assert floor <= capacity + 4 * error
    assert floor == pytest.approx(capacity, abs=5 * error)
    assert channel.ergodic_gain(2.0) == pytest.approx(2.0 * np.exp(-np.euler_gamma), rel=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: channel.outage_gain(1.0, [0.1, 1.0]), r"^outage\[1\] = 1\.0: must be < 1$"),
        (lambda: channel.outage_gain(1.0, 0.0), r"^outage = 0\.0: must be > 0 and finite$"),
        (lambda: channel.outage_gain(-1.0, 0.1), r"^mean_gain = -1\.0: must be >= 0 and finite$"),
        (lambda: channel.outage_gain(1.0, 0.1, antennas=0), "^antennas = 0: must be a whole number >= 1$"),
        (lambda: channel.estimated_gain(1.0, -1.0, 0.1), r"^error_gain = -1\.0: must be"),
        (lambda: channel.estimated_gain(np.nan, 1.0, 0.1), "^estimate_gain = nan: must be"),
        (lambda: channel.outage_gain("a", 0.1), "^mean_gain"),
        (
            lambda: channel.outage_gain([1.0, 2.0, 3.0], [0.5, 0.1]),
            r"^mean_gain \(3,\), outage \(2,\): the shapes do not",
        ),
        (
            lambda: channel.estimated_gain([1.0, 2.0], [1.0] * 3, 0.1),
            r"^estimate_gain \(2,\), error_gain \(3,\), outage",
        ),
        (lambda: channel.outage_gain(1.0, 0.1, [1, 2]), r"^antennas = \[1, 2\]: must be a whole number"),  # type: ignore[arg-type]
        (lambda: channel.outage_gain(1.0, 0.1, np.nan), r"^antennas = nan: must be a whole number"),  # type: ignore[arg-type]
        (lambda: channel.outage_gain(1.0, 0.1, True), r"^antennas = True: must be a whole number"),
        (lambda: channel.ergodic_gain(1.0, antennas=1.5), r"^antennas = 1\.5: must be a whole number >= 1$"),
    ],
)
def test_what_is_no_gain_or_probability_is_named(call: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        call()
