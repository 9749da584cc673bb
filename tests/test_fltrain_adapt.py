"""The planner that asks the allocator: what it chooses, from what, and that a resumed run is planned alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from fltrain_cases import digits, shares
from numpy.typing import NDArray

import fltrain as ft
import kktalloc as ka
from fltrain.accounting import HEADER_BITS
from fltrain.adapt import AdaptivePlanner, Build, Progress
from fltrain.curve import REPORT_BITS

SPLIT = ft.Split(ft.build_model("mlp", digits()), ("head",))
CONFIG = ft.TrainConfig(rounds=4, update="sparse", error_feedback=True)
WORK = ft.count_workload(SPLIT, CONFIG, shares())
GAIN = np.array([2e-11, 5e-11, 1e-10, 4e-10])
STEEP = np.where(ft.ERROR_RATIOS < 1.0, ft.ERROR_RATIOS**12, 1.0)


def cell(
    flops_per_s: float = 2e9,
    bandwidth_hz: float = 1e6,
    energy_j: float | NDArray[np.float64] = np.inf,
    gain: NDArray[np.float64] = GAIN,
) -> Build:
    def build(t: int, asked: NDArray[np.int64], work: ft.Workload) -> tuple[ka.Cell, ka.Devices]:
        local = work.personal_flops + work.probe_flops + work.dense_flops
        return ka.Cell(bandwidth_hz, 4e-21, 1.0), ka.Devices(
            channel_gain=gain[asked] * (1.0 + 0.2 * np.sin(t + asked)),
            tx_power_max_w=0.2,
            payload_bits=work.payload_bits,
            overhead_bits=work.overhead_bits,
            pruned_compute_s=work.pruned_flops / flops_per_s,
            fixed_latency_s=local / flops_per_s + 1e-3,
            energy_budget_j=np.broadcast_to(energy_j, gain.shape)[asked],
        )

    return build


def reported(error: NDArray[np.float64] = STEEP, change_sq: NDArray[np.float64] | None = None) -> ft.Workload:
    changes = ft.Changes(np.ones(4) if change_sq is None else change_sq, np.broadcast_to(error, (4, len(error))))
    return replace(WORK, changes=changes)


def test_no_other_deadline_makes_more_progress() -> None:
    asked = np.arange(4)
    for work in (WORK, reported()):
        best = AdaptivePlanner(cell()).choose(0, asked, work)
        others = best.deadline_s * np.array([0.7, 0.85, 0.95, 1.05, 1.2, 1.5])
        tried = [
            AdaptivePlanner(cell(), deadline_s=lambda t, T=T: T).choose(0, asked, work)  # type: ignore[misc]
            for T in others.tolist()
        ]
        assert max(choice.progress_per_s for choice in tried) <= best.progress_per_s * 1.02
        np.testing.assert_array_less(best.latency_s, best.deadline_s * (1 + 1e-9))
        assert 0.5 < best.pruning_ratio.mean() < 0.99


def test_what_it_plans_is_what_the_round_takes() -> None:
    plan = AdaptivePlanner(cell())(0, reported())
    kept = np.round((1.0 - plan.pruning_ratio) * SPLIT.n_global)
    history = ft.train(SPLIT, shares(), replace(CONFIG, rounds=1), lambda t, work: plan, progress=False)
    planned = WORK.as_round("sparse", 0.07)
    bits = planned.payload_bits * kept / SPLIT.n_global + planned.overhead_bits
    assert history.records[0]["uploaded_bits"] <= bits.sum() * (1 + 1e-6)
    assert history.records[0]["uploaded_bits"] >= 0.9 * bits.sum()


def test_nothing_is_pruned_where_that_saves_no_time() -> None:
    # Computing takes all of the time, and no sparse upload saves any of it.
    plan = AdaptivePlanner(cell(flops_per_s=1e6, bandwidth_hz=1e9))(0, reported())
    assert not plan.pruning_ratio.any()
    free = WORK.unmasked()
    assert (free.overhead_bits == HEADER_BITS + REPORT_BITS).all()
    assert not free.probe_flops.any()


def test_frozen_rounds_where_they_save_computing() -> None:
    planner = AdaptivePlanner(cell(flops_per_s=2e7, bandwidth_hz=1e8), kinds=("sparse", "frozen"))
    few = reported(STEEP**2)
    assert planner(0, few).update == "frozen"
    # A probe as long as the training itself costs more than frozen weights save.
    long = replace(few, probing_flops=WORK.dense_flops)
    assert planner(0, long).update == "sparse"


def test_a_frozen_round_is_charged_more_than_a_sparse_upload() -> None:
    asked = np.arange(4)
    for work in (WORK, reported()):
        sparse, frozen = (
            AdaptivePlanner(cell(bandwidth_hz=3e5), kinds=(kind,), deadline_s=lambda t: 0.08).choose(0, asked, work)
            for kind in ("sparse", "frozen")
        )
        assert sparse.update == "sparse"
        assert frozen.update == "frozen"
        assert 0.5 < frozen.pruning_ratio.mean() < 0.99
        # The same ratios, charged as sparse uploads would be.
        reports = work.changes
        curve = ka.PowerLaw(8.0) if reports is None else ka.Table(ft.ERROR_RATIOS, reports.error)
        as_sparse = float(np.mean(curve.value(frozen.pruning_ratio)))
        assert frozen.loss > 1.02 * as_sparse
        assert frozen.loss <= as_sparse**0.5 * 1.02


def test_it_follows_what_devices_report() -> None:
    planner = AdaptivePlanner(cell())
    steep = planner.choose(0, np.arange(4), reported())
    flat = planner.choose(0, np.arange(4), reported(ft.ERROR_RATIOS**3))
    assert steep.deadline_s < flat.deadline_s
    assert steep.pruning_ratio.mean() > flat.pruning_ratio.mean()
    # Whose change is larger is pruned less, all else equal but the channels.
    alike = replace(reported(), changes=None)
    for k in range(4):
        size = np.ones(4)
        size[k] = 1e3
        louder = planner.choose(0, np.arange(4), reported(change_sq=size)).pruning_ratio[k]
        assert louder <= steep.pruning_ratio[k]
    assert planner.choose(0, np.arange(4), alike).deadline_s > 0
    # One that has not reported is taken to be like the others.
    missing = np.array([1.0, np.nan, 1.0, 1.0])
    unknown = reported(change_sq=missing)
    assert planner.choose(0, np.arange(4), unknown).deadline_s == pytest.approx(steep.deadline_s)


def test_progress_of_each_device_leaves_the_size_of_changes_out() -> None:
    alike, loud = reported(), reported(change_sq=np.array([1e3, 1.0, 1.0, 1.0]))
    total, each = (AdaptivePlanner(cell(), progress=of) for of in get_args(Progress))
    same = each.choose(0, np.arange(4), loud)
    np.testing.assert_array_equal(same.pruning_ratio, total.choose(0, np.arange(4), alike).pruning_ratio)
    assert same.pruning_ratio[0] > total.choose(0, np.arange(4), loud).pruning_ratio[0]


def test_devices_that_were_not_drawn_take_no_part() -> None:
    some = replace(reported(), selected=np.array([True, False, True, False]))
    plan = AdaptivePlanner(cell())(3, some)
    assert plan.participates.tolist() == [True, False, True, False]
    assert not plan.pruning_ratio[[1, 3]].any()


def test_energy_that_suffices_for_a_pruned_round_only_and_for_none() -> None:
    plan = AdaptivePlanner(cell(energy_j=2e-4))(0, reported())
    assert (plan.energy_j <= 2e-4 * (1 + 1e-9)).all()
    assert plan.pruning_ratio.min() > 0.0
    with pytest.raises(ka.InfeasibleError, match="energy"):
        AdaptivePlanner(cell(energy_j=1e-9))(0, reported())


@pytest.mark.parametrize("lacking", ["energy", "channel"])
@pytest.mark.parametrize("deadline_s", [None, lambda t: 1e-3])
def test_who_cannot_be_served_is_left_out(lacking: str, deadline_s: Callable[[int], float] | None) -> None:
    there = np.array([True, False, True, True])
    if lacking == "energy":
        build = cell(energy_j=np.where(there, np.inf, 1e-9))
    else:
        build = cell(gain=np.where(there, GAIN, 0.0))
    plan = AdaptivePlanner(build, deadline_s=deadline_s)(2, reported())
    assert plan.participates.tolist() == there.tolist()
    # The others are planned as if it had not been drawn: too short a deadline costs none of them the round.
    drawn = replace(reported(), selected=there)
    expected = AdaptivePlanner(cell(), deadline_s=deadline_s)(2, drawn)
    np.testing.assert_array_equal(plan.pruning_ratio, expected.pruning_ratio)
    np.testing.assert_array_equal(plan.latency_s, expected.latency_s)
    assert plan.latency_s[1] == plan.energy_j[1] == 0.0


def test_a_resumed_run_is_planned_alike(tmp_path: Path) -> None:
    def run(rounds: int, path: Path | None) -> ft.History:
        saved = None if path is None else ft.Checkpoint(path / "run.pt", every=1)
        config, planner = replace(CONFIG, rounds=rounds), AdaptivePlanner(cell())
        return ft.train(SPLIT, shares(), config, planner, progress=False, checkpoint=saved)

    whole = run(4, None)
    run(2, tmp_path)
    resumed = run(4, tmp_path)
    assert resumed.records == whole.records
    assert torch.equal(resumed.u, whole.u)
    ratios = [record["mean_pruning_ratio"] for record in whole.records]
    assert len(set(ratios)) == 4  # channels and curves differ from round to round
