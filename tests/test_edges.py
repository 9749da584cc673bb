"""Problems at the edge of double precision: one per way in which an answer, or its proof, once lost its digits."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import kktalloc as ka
from kktalloc._certificate.dual import convex_rows, dual_terms

N0 = 4e-21
USUAL: dict[str, Any] = {
    "channel_gain": 1e-12, "tx_power_max_w": 0.1, "payload_bits": 1e6, "pruned_compute_s": 0.1,
}  # fmt: skip


def certified(cell: ka.Cell, curve: ka.PruningError | None = None, **devices: Any) -> ka.Solution:
    s = ka.solve(ka.Problem(cell, ka.Devices(**(USUAL | devices)), curve), throw=False)
    assert s.certificate.ok, s.certificate.worst
    return s


def from_form(**form: Any) -> ka.Solution:
    """The solution of a problem with the given numbers in reduced form (1 Hz, 1 s, 1 W; no overhead in the energy)."""
    v = {"compute": 0.0, "rate0": 0.0, "power0": np.inf, "power1": 0.0, "floor": 0.0} | form
    v = {name: np.asarray(value, dtype=float) for name, value in v.items()}
    limited = np.isfinite(v["power0"])
    devices = ka.Devices(
        channel_gain=v["snr"], tx_power_max_w=1.0,
        payload_bits=(v["rate1"] - v["compute"] * v["rate0"]) / np.log(2), overhead_bits=v["rate0"] / np.log(2),
        pruned_compute_s=v["compute"], energy_budget_j=v["power0"],
        pruned_compute_j=np.where(limited, v["compute"] * np.where(limited, v["power0"], 0.0) - v["power1"], 0.0),
        pruning_ratio_max=1 - v["floor"], weight=v.get("weight"),
    )  # fmt: skip
    cap = float(v["total"]) if "total" in v else None
    s = ka.solve(ka.Problem(ka.Cell(1.0, 1.0, 1.0, cap), devices, form.get("curve")), throw=False)
    assert s.certificate.ok, s.certificate.worst
    return s


def test_total_power_binds_where_it_is_all_that_counts() -> None:
    """Wideband: power decides, bandwidth hardly; the one must not drown in the other's budget."""
    for scale in (1e-4, 1e-7, 1e-13):
        s = from_form(snr=[scale] * 3, rate1=[scale] * 3, compute=[0.7] * 3, total=0.4)
        assert s.tx_power_w.sum() == pytest.approx(0.4, rel=1e-10)
        assert s.bandwidth_hz.sum() == pytest.approx(1.0, rel=1e-10)
        assert (np.abs(s.pruning_ratio - s.pruning_ratio[0]) < 1e-9).all()


def test_one_device_under_both_budgets() -> None:
    """Linear error without computation: the demand jumps at one price, in bandwidth and in power."""
    s = from_form(snr=3.7e-5, rate1=8.5e-5, floor=0.04, total=0.157)
    assert float(s.bandwidth_hz.sum()) == pytest.approx(1.0, rel=1e-12)
    assert float(1 - s.pruning_ratio[0]) == pytest.approx(np.log1p(3.7e-5 * 0.157) / 8.5e-5, rel=1e-9)


def test_nothing_is_gained_where_the_curve_is_flat() -> None:
    flat = ka.Table([0.0, 0.3, 0.8, 1.0], [0.0, 0.0, 0.5, 1.0])
    cell, slow = {"noise_psd_w_per_hz": N0, "deadline_s": 10.0}, {"pruned_compute_s": 12.0}
    for total in (None, 0.05):
        for B in (1e4, 1e5, 1e6, 1e8):
            for weight in ([1.0, 1.0], [1.0, 0.0]):
                s = certified(ka.Cell(B, **cell, total_power_w=total), flat, **slow, weight=weight)
                assert s.pruning_ratio[0] >= 0.3 - 1e-12
                certified(ka.Cell(B, **cell, total_power_w=total), ka.PowerLaw(3.0), weight=weight)
    nothing = ka.Table([0.0, 1.0], [0.0, 0.0])
    assert certified(ka.Cell(1e5, **cell), nothing, **slow, weight=[1.0, 1.0]).objective == 0.0


def test_weightless_devices_beside_others() -> None:
    for B in (1e4, 1e6, 1e9):
        for total in (None, 0.05, 5e-4):
            cell = ka.Cell(B, N0, 10.0, total)
            s = certified(cell, weight=[0.0, 1.0], pruned_compute_s=[20.0, 12.0])
            assert s.pruning_ratio[1] < 1.0


@pytest.mark.parametrize("compute", [0.0, 0.1])
def test_no_time_left_and_nothing_to_do(compute: float) -> None:
    cell, at_once = ka.Cell(1e6, N0, 1.0), {"fixed_latency_s": [1.0, 0.0], "pruned_compute_s": compute}
    s = certified(cell, **at_once)
    assert s.pruning_ratio.tolist() == [1.0, 0.0]
    assert s.bandwidth_hz[0] == s.upload_s[0] == 0.0
    for demand in ({"overhead_bits": 1.0}, {"pruning_ratio_max": 0.9}, {"fixed_latency_s": [1.1, 0.0]}):
        late = ka.solve(ka.Problem(cell, ka.Devices(**(USUAL | at_once | demand))), throw=False)
        assert late.diagnosis is not None
        assert late.diagnosis.resource.tolist() == ["deadline", ""]


def test_who_cannot_be_heard_radiates_nothing() -> None:
    s = certified(ka.Cell(1e6, N0, 1.0, total_power_w=0.01), channel_gain=[0.0, 1e-12])
    assert s.tx_power_w[0] == 0.0
    assert s.tx_power_w.sum() <= 0.01 * (1 + 1e-12)


def test_a_kink_next_to_the_floor() -> None:
    """Where the kink lies and which branch is first is one question; a rounded floor must not answer it twice."""
    for shift in (-1e-16, 0.0, 1e-16, 1e-15):
        floor = 0.7
        s_min = floor / (1 - 0.5 * floor)
        from_form(snr=[4e-3, 5e-3], rate1=[4e-4, 8e-4], compute=[0.5, 0.5], floor=[floor, 0.0],
                  power1=[0.17, 0.0], power0=[1.0 - 0.17 * s_min * (1 + shift), np.inf])  # fmt: skip


def test_limits_that_coincide_are_borne_by_one_price() -> None:
    """Where peak and energy bind at once to the last bit, the slope of the dual decides, not its rounded values."""
    p = ka.Problem(ka.Cell(1.0, 1.0, 1.0), ka.Devices(
        channel_gain=[1.2e-4, 1.0], tx_power_max_w=1.0, payload_bits=1e4, pruned_compute_s=0.0,
        energy_budget_j=[1.0000000014, np.inf], pruned_compute_j=[1.41, 0.0], pruning_ratio_max=1 - 1e-9,
    ))  # fmt: skip
    c, lam = convex_rows(p), np.array([2e-5])
    peak, snr = np.ones(2), np.array([8.04, 20.0])
    m = dual_terms(c, c.gain_per_noise * peak / snr, peak, np.zeros(2), lam, np.zeros(1))
    assert np.isfinite(m.value).all()
    assert (m.energy_row >= 0).all()
    assert (m.peak_power >= 0).all()
    assert m.energy_row[1] == 0.0
    assert ka.solve(p).certificate.ok


def test_no_devices_at_all() -> None:
    for total in (None, 0.1):
        assert certified(ka.Cell(1e6, N0, 1.0, total), channel_gain=np.ones(0)).objective == 0.0


@pytest.mark.filterwarnings("ignore:devices.channel_gain")  # a gain beyond 1 is the point here
@pytest.mark.parametrize("engine", ["numpy", ""], ids=["numpy", "default"])
@pytest.mark.parametrize(
    ("cell", "gain", "power"),
    [
        (ka.Cell(1e6, N0, 1.0), [1e300, 1e-300, 1e-11], 0.1),
        (ka.Cell(1e6, N0, 1.0), [1e300, 1e-11], 1e300),
        (ka.Cell(1e-10, 1e-320, 1.0), [1e-11, 0.0], 0.1),
    ],
)
def test_a_signal_beyond_doubles_is_refused_without_a_warning(
    cell: ka.Cell, gain: list[float], power: float, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KKTALLOC_ENGINE", engine)
    problem = ka.Problem(cell, ka.Devices(**(USUAL | {"channel_gain": gain, "tx_power_max_w": power})))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ka.solve(problem, throw=False).status is ka.Status.UNCERTIFIED
