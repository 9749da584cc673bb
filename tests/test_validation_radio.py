"""The seeded cell and the four ways to allocate it, judged by formulas written here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq

from validation.config import Radio
from validation.radio import Demand, Phones, demand, draw_phones
from validation.schemes import FIXED_RATIO, SCHEMES, Allocation, equal, fixed_equal, joint, unpruned_round_s

K, R = 6, 5
RADIO = Radio()


@dataclass(frozen=True)
class _Work:
    """The fields of `fltrain.Workload` that cost time or energy."""

    personal_flops: Any
    probe_flops: Any
    dense_flops: Any
    pruned_flops: Any
    payload_bits: Any
    overhead_bits: Any
    broadcast_bits: Any
    weight: Any


def _work(devices: int = K) -> _Work:
    rng = np.random.default_rng(7)
    one = np.ones(devices)
    return _Work(
        personal_flops=2e7 * one,
        probe_flops=1e7 * one,
        dense_flops=0 * one,
        pruned_flops=8e7 * rng.uniform(0.5, 1.0, devices),
        payload_bits=3e6 * one,
        overhead_bits=1e5 * one,
        broadcast_bits=3e6 * one,
        weight=rng.dirichlet(one),
    )


def _setting(seed: int = 0, radio: Radio = RADIO) -> tuple[Phones, Demand]:
    phones = draw_phones(radio, K, R, seed)
    return phones, demand(radio, phones, _work())  # type: ignore[arg-type]


def _noise(radio: Radio = RADIO) -> float:
    return 10 ** ((-174 + radio.noise_figure_db - 30) / 10)


def _check_physics(plan: Allocation, phones: Phones, need: Demand, radio: Radio = RADIO) -> None:
    """Every device delivers its bits in its time, within the band and its power; energies add up."""
    snr = phones.channel_gain * plan.tx_power_w / (_noise(radio) * plan.bandwidth_hz)
    bits = need.payload_bits * (1 - plan.pruning_ratio) + need.overhead_bits
    sent = plan.bandwidth_hz * np.log2(1 + snr) * plan.upload_s
    np.testing.assert_allclose(sent, bits, rtol=1e-9)
    assert (plan.latency_s <= plan.deadline_s[:, None] * (1 + 1e-9)).all()
    assert (plan.bandwidth_hz.sum(axis=1) <= radio.bandwidth_hz * (1 + 1e-9)).all()
    assert (plan.tx_power_w <= 10 ** ((radio.tx_power_dbm - 30) / 10) * (1 + 1e-9)).all()
    assert ((plan.pruning_ratio >= 0) & (plan.pruning_ratio <= radio.pruning_ratio_max + 1e-12)).all()
    energy = need.local_j + need.pruned_j * (1 - plan.pruning_ratio)
    energy = energy + plan.tx_power_w * plan.upload_s / radio.pa_efficiency
    np.testing.assert_allclose(plan.energy_j, energy, rtol=1e-9)
    assert plan.worst_residual <= 1e-9


def test_a_longer_study_sees_the_same_cell_and_first_rounds() -> None:
    short, long = draw_phones(RADIO, K, 3, seed=5), draw_phones(RADIO, K, 9, seed=5)
    np.testing.assert_array_equal(short.channel_gain, long.channel_gain[:3])
    np.testing.assert_array_equal(short.cycles_per_flop, long.cycles_per_flop)
    other = draw_phones(RADIO, K, 3, seed=6)
    assert (short.distance_m != other.distance_m).all()


def test_the_cell_has_the_statistics_it_claims() -> None:
    phones = draw_phones(RADIO, 20_000, 1, seed=0)
    assert phones.distance_m.min() >= 35
    assert phones.distance_m.max() <= RADIO.cell_radius_m
    # Uniform over the ring: half of the phones lie within the radius that halves its area.
    assert np.mean(phones.distance_m**2 < (35**2 + RADIO.cell_radius_m**2) / 2) == pytest.approx(0.5, abs=0.02)
    shadowing_db = 10 * np.log10(phones.path_gain) + 128.1 + 37.6 * np.log10(phones.distance_m / 1000)
    assert shadowing_db.std() == pytest.approx(8.0, rel=0.03)
    assert (phones.channel_gain[0] / phones.path_gain).mean() == pytest.approx(RADIO.antennas, rel=0.03)
    low, high = RADIO.cycles_per_flop
    assert low <= phones.cycles_per_flop.min() <= phones.cycles_per_flop.max() <= high


def test_work_becomes_time_and_energy() -> None:
    phones, need = _setting()
    work, radio = _work(), RADIO
    np.testing.assert_allclose(need.local_s, 3e7 * phones.cycles_per_flop / 2e9)
    np.testing.assert_allclose(need.pruned_s, work.pruned_flops * phones.cycles_per_flop / 2e9)
    np.testing.assert_allclose(need.pruned_j, need.pruned_s * 1e-28 * 2e9**3)  # kappa f^3 watts while it computes
    worst = phones.channel_gain.min(axis=1) / radio.antennas
    noise_w = 10 ** ((-174 + 9 - 30) / 10) * radio.bandwidth_hz
    rate = radio.bandwidth_hz * np.log2(1 + 10 ** ((43 - 30) / 10) * worst / noise_w)
    np.testing.assert_allclose(need.broadcast_s[:, 0], 3e6 / rate)


# The others are the joint scheme with another model split or importance score: the same allocator.
@pytest.mark.parametrize("name", sorted(SCHEMES.keys() - {"shared", "magnitude", "taylor", "random"}))
@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.6, 3.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_scheme_obeys_the_physics(name: str, fraction: float, seed: int) -> None:
    phones, need = _setting(seed)
    deadline = fraction * float(unpruned_round_s(RADIO, phones, need).mean())
    plan = SCHEMES[name].allocate(RADIO, phones, need, deadline)
    _check_physics(plan, phones, need)
    if name == "fixed":
        np.testing.assert_allclose(plan.pruning_ratio, FIXED_RATIO, atol=1e-3)  # 1 us/s of slack is worth this
        assert (plan.deadline_s < unpruned_round_s(RADIO, phones, need)).all()
    elif SCHEMES[name].pruned:
        np.testing.assert_array_equal(plan.late, plan.deadline_s > deadline)
        if fraction == 0.02:
            assert plan.late.all()
    else:
        assert (plan.pruning_ratio == 0).all()


def _earliest_by_bisection(phones: Phones, need: Demand, r: int) -> float:
    """Least common finishing time without pruning: each device's least bandwidth, summed, against the band."""
    power = 10 ** ((RADIO.tx_power_dbm - 30) / 10)
    bits = need.payload_bits + need.overhead_bits
    ready = need.broadcast_s[r, 0] + need.local_s + need.pruned_s

    def excess(finish: float) -> float:
        total = 0.0
        for k in range(K):
            reach = phones.channel_gain[r, k] * power / _noise()
            rate = bits[k] / (finish - ready[k])
            if rate >= reach / np.log(2):
                return 1e12
            total += brentq(lambda b, g=reach, c=rate: b * np.log2(1 + g / b) - c, 1.0, 1e13, xtol=1e-6)
        return total - RADIO.bandwidth_hz

    return float(brentq(excess, ready.max() * (1 + 1e-9), 1e4, xtol=1e-12))


def test_the_unpruned_baseline_is_as_early_as_can_be() -> None:
    phones, need = _setting()
    plan = SCHEMES["partial"].allocate(RADIO, phones, need, 1.0)
    best = [_earliest_by_bisection(phones, need, r) for r in range(R)]
    np.testing.assert_allclose(plan.latency_s.max(axis=1), best, rtol=1e-5)


def test_fixed_equal_shares_never_change_and_end_as_early_as_they_can() -> None:
    phones, need = _setting(1)
    unpruned = float(unpruned_round_s(RADIO, phones, need).mean())
    plan = fixed_equal(RADIO, phones, need, 0.5 * unpruned)
    assert (plan.pruning_ratio == FIXED_RATIO).all()
    assert (plan.bandwidth_hz == RADIO.bandwidth_hz / K).all()
    # Someone is at peak power in every round: it could not end earlier.
    peak = 10 ** ((RADIO.tx_power_dbm - 30) / 10)
    np.testing.assert_allclose(plan.tx_power_w.max(axis=1), peak, rtol=1e-3)
    # The deadline decides which rounds count as late and nothing else.
    later = fixed_equal(RADIO, phones, need, 10 * unpruned)
    np.testing.assert_array_equal(plan.latency_s, later.latency_s)
    assert not later.late.any()


def test_equal_shares_take_the_least_common_ratio() -> None:
    phones, need = _setting(1)
    deadline = 0.5 * float(unpruned_round_s(RADIO, phones, need).mean())
    plan = equal(RADIO, phones, need, deadline)
    assert (plan.bandwidth_hz == RADIO.bandwidth_hz / K).all()
    assert (plan.pruning_ratio == plan.pruning_ratio[:, :1]).all()
    prunes = (plan.pruning_ratio[:, 0] > 0) & ~plan.late
    assert prunes.any()
    peak = 10 ** ((RADIO.tx_power_dbm - 30) / 10)
    # Someone is at peak power: with any smaller ratio that device would be late.
    np.testing.assert_allclose(plan.tx_power_w.max(axis=1)[prunes], peak, rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_joint_prunes_no_more_than_equal_shares(seed: int) -> None:
    phones, need = _setting(seed)
    deadline = 0.5 * float(unpruned_round_s(RADIO, phones, need).mean())
    both = [allocate(RADIO, phones, need, deadline) for allocate in (joint, equal)]
    comparable = ~both[0].late & ~both[1].late & (both[0].deadline_s == both[1].deadline_s)
    assert comparable.any()
    ours, theirs = ((need.weight * plan.pruning_ratio).sum(axis=1)[comparable] for plan in both)
    assert (ours <= theirs + 1e-12).all()


@pytest.mark.parametrize("seed", range(4))
def test_each_removal_prunes_more_than_joint_and_less_than_both_removed(seed: int) -> None:
    phones, need = _setting(seed)
    deadline = 0.5 * float(unpruned_round_s(RADIO, phones, need).mean())
    plans = {n: SCHEMES[n].allocate(RADIO, phones, need, deadline) for n in ("allocation_only", "pruning_only")}
    bounds = {n: SCHEMES[n].allocate(RADIO, phones, need, deadline) for n in ("joint", "equal")}
    same = np.all([p.deadline_s == bounds["joint"].deadline_s for p in (*plans.values(), bounds["equal"])], axis=0)
    assert same.any()
    least, most = ((need.weight * bounds[n].pruning_ratio).sum(axis=1)[same] for n in ("joint", "equal"))
    for plan in plans.values():
        mean = (need.weight * plan.pruning_ratio).sum(axis=1)[same]
        assert (least <= mean + 1e-9).all()
        assert (mean <= most + 1e-9).all()
    common = plans["allocation_only"].pruning_ratio
    np.testing.assert_allclose(common, common[:, :1] * np.ones(K), atol=1e-3)
    assert np.ptp(plans["pruning_only"].pruning_ratio, axis=1).max() > 0.01


def test_a_squared_error_spreads_pruning() -> None:
    phones, need = _setting(2)
    deadline = 0.5 * float(unpruned_round_s(RADIO, phones, need).mean())
    linear, squared = (SCHEMES[n].allocate(RADIO, phones, need, deadline).pruning_ratio for n in ("joint", "quadratic"))
    assert ((need.weight * squared**2).sum(axis=1) <= (need.weight * linear**2).sum(axis=1) + 1e-9).all()
    assert ((need.weight * linear).sum(axis=1) <= (need.weight * squared).sum(axis=1) + 1e-9).all()
    assert squared.std() < linear.std()


def test_a_loose_deadline_ends_the_round_when_nobody_needs_to_prune() -> None:
    phones, need = _setting()
    plan = joint(RADIO, phones, need, 1e3)
    np.testing.assert_allclose(plan.pruning_ratio, 0.0, atol=1e-9)
    np.testing.assert_allclose(plan.deadline_s, unpruned_round_s(RADIO, phones, need), rtol=2e-6)
    assert not plan.late.any()


def test_an_energy_budget_is_kept_and_an_impossible_one_is_named() -> None:
    phones, need = _setting()
    free = joint(RADIO, phones, need, 0.3)
    tight = replace(RADIO, energy_budget_j=0.9 * float(free.energy_j.max()))
    plan = joint(tight, phones, need, 0.3)
    _check_physics(plan, phones, need, tight)
    assert plan.energy_j.max() <= 0.9 * free.energy_j.max() * (1 + 1e-9)
    with pytest.raises(ValueError, match=r"energy_budget_j = 1e-06: too little for round 0"):
        joint(replace(RADIO, energy_budget_j=1e-6), phones, need, 0.3)


def test_the_bridge_to_training_builds_the_same_problem() -> None:
    """`fltrain.radio` is what planners ask each round; the study lays all rounds of it out at once."""
    import fltrain as ft
    from validation.radio import cell_of, problem

    phones = draw_phones(RADIO, K, R, seed=3)
    asked = np.array([4, 0, 3])
    work = ft.Workload(**{**vars(_work()), "selected": np.ones(K, dtype=bool)}).of(asked)
    cell, devices = cell_of(RADIO, phones).build(2, asked, work)
    gain = phones.channel_gain[2:3, asked]
    here = Phones(phones.distance_m[asked], phones.path_gain[asked], gain, phones.cycles_per_flop[asked])
    row = problem(RADIO, here, demand(RADIO, here, work), 0.5, pruning_ratio_max=1.0)
    assert cell.bandwidth_hz == RADIO.bandwidth_hz
    compared = "channel_gain tx_power_max_w payload_bits overhead_bits pruned_compute_s fixed_latency_s energy_budget_j"
    for name in [*compared.split(), "pruned_compute_j", "fixed_energy_j", "pa_efficiency"]:
        ours, theirs = getattr(devices, name), getattr(row.devices, name)
        np.testing.assert_allclose(np.broadcast_to(ours, (1, 3)), np.broadcast_to(theirs, (1, 3)), rtol=1e-12)
