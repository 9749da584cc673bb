"""The planner that asks the allocator: what it chooses, from what, and that a resumed run is planned alike."""

from __future__ import annotations

import re
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
from fltrain.accounting import HEADER_BITS, mask_keep
from fltrain.adapt import AdaptivePlanner, Build, Kind, Progress
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


def most_in_a_sweep(build: Build, work: ft.Workload, curve: ka.PruningError, weight: NDArray[np.float64]) -> float:
    """The most progress per second of sparse rounds at many deadlines, masks counted at each of many keep ratios.

    Each count is too large but at its own ratio, so that the best of all is close to the best there is, from below.
    """
    most = 0.0
    for keep in np.geomspace(0.01, 0.5, 12):
        made, devices = build(0, np.arange(4), work.as_round("sparse", keep))
        devices = replace(devices, pruning_ratio_max=np.full(4, 0.99), weight=weight)
        shortest_s, longest_s = (float(ka.least_deadline(ka.Problem(made, devices), ratio)) for ratio in (0.99, 0.0))
        deadline_s = np.geomspace(shortest_s, longest_s, 300)
        solved = ka.solve(ka.Problem(replace(made, deadline_s=deadline_s), devices, curve), throw=False)
        rate = np.sqrt(np.where(solved.certificate.passed, 1.0 - solved.objective, 0.0)) / deadline_s
        most = max(most, float(rate.max()))
    return most


@pytest.mark.parametrize("bandwidth_hz", [2e5, 1e6, 5e6, 1e8])
def test_no_deadline_of_a_dense_sweep_makes_more_progress(bandwidth_hz: float) -> None:
    asked, build = np.arange(4), cell(bandwidth_hz=bandwidth_hz)
    change_sq = np.array([1.0, 3.0, 9.0, 0.5])
    planner = AdaptivePlanner(build, kinds=("sparse",))
    for work, curve, weight in (
        (WORK, ka.PowerLaw(8.0), WORK.weight),
        (reported(change_sq=change_sq), ka.Table(ft.ERROR_RATIOS, np.tile(STEEP, (4, 1))), WORK.weight * change_sq),
    ):
        best = planner.choose(0, asked, work)
        assert best.progress_per_s >= most_in_a_sweep(build, work, curve, weight) * (1.0 - 2e-3)
        np.testing.assert_array_less(best.latency_s, best.deadline_s * (1 + 1e-9))
        # What else it may choose from makes it no worse.
        assert AdaptivePlanner(build).choose(0, asked, work).progress_per_s >= best.progress_per_s


def test_progress_to_a_power_makes_rounds_shorter_and_is_what_the_choice_says() -> None:
    asked = np.arange(4)
    plain, rooted = (
        AdaptivePlanner(cell(bandwidth_hz=1e6), progress_power=power).choose(0, asked, WORK) for power in (1.0, 0.5)
    )
    assert rooted.deadline_s < 0.98 * plain.deadline_s
    assert plain.progress_per_s == pytest.approx((1.0 - plain.loss) / plain.deadline_s)
    assert rooted.progress_per_s == pytest.approx((1.0 - rooted.loss) ** 0.5 / rooted.deadline_s)
    assert rooted.progress_per_s > (1.0 - plain.loss) ** 0.5 / plain.deadline_s


def test_each_kind_of_round_may_have_a_power_of_its_own() -> None:
    asked, work = np.arange(4), reported(STEEP**2)
    build = cell(bandwidth_hz=1e6)
    alone = {
        (kind, power): AdaptivePlanner(build, kinds=(kind,), progress_power=power).choose(0, asked, work)
        for kind in get_args(Kind)
        for power in (0.25, 1.0)
    }
    for sparse, frozen in ((0.25, 1.0), (1.0, 0.25)):
        found = AdaptivePlanner(build, progress_power={"sparse": sparse, "frozen": frozen}).choose(0, asked, work)
        best = max(alone["sparse", sparse], alone["frozen", frozen], key=lambda one: one.progress_per_s)
        assert (found.update, found.deadline_s, found.power) == (best.update, best.deadline_s, best.power)
    # By default sparse rounds are made up for where devices keep what they do not send, and only there.
    for kept, kind, power in ((True, "sparse", 0.25), (True, "frozen", 0.5), (False, "sparse", 0.5)):
        given = replace(work, unsent_kept=kept)
        by_default = AdaptivePlanner(build, kinds=(kind,)).choose(0, asked, given)  # type: ignore[arg-type]
        said = AdaptivePlanner(build, kinds=(kind,), progress_power=power).choose(0, asked, given)  # type: ignore[arg-type]
        assert by_default.update == kind
        assert by_default.power == power
        assert by_default.deadline_s == said.deadline_s
    # Only the powers of what it may choose from need be there.
    AdaptivePlanner(build, kinds=("sparse",), progress_power={"sparse": 0.25})


def test_the_broadcast_that_a_round_causes_counts_and_not_the_one_it_begins_with() -> None:
    down_bit_per_s, asked = 5e6, np.arange(4)

    def build(t: int, asked: NDArray[np.int64], work: ft.Workload) -> tuple[ka.Cell, ka.Devices]:
        made, devices = cell(bandwidth_hz=3e6)(t, asked, work)
        down_s = work.broadcast_bits.max() / down_bit_per_s
        return made, replace(devices, fixed_latency_s=devices.fixed_latency_s + down_s)

    planner = AdaptivePlanner(build, kinds=("sparse",))
    blind = reported()
    seen = replace(blind, moves=ft.Moves(SPLIT.n_global, overlap=0.6))
    short = replace(seen, broadcast_bits=np.full(4, 0.2 * blind.broadcast_bits[0]))
    without, best, sooner = (planner.choose(0, asked, work) for work in (blind, seen, short))
    assert without.later_s == 0.0
    assert seen.moves is not None
    for work, found in ((seen, best), (short, sooner)):
        bits = work.broadcast_bits[0]
        after_s, before_s = float(seen.moves.next_bits(found.pruning_ratio)) / down_bit_per_s, bits / down_bit_per_s
        assert found.later_s == pytest.approx(after_s - before_s)
        assert found.progress_per_s == pytest.approx(
            (1.0 - found.loss) ** found.power / (found.deadline_s - before_s + after_s)
        )
    # It prunes more for the sake of the next broadcast, and just as much however long this one takes.
    assert best.pruning_ratio.mean() > without.pruning_ratio.mean() + 0.01
    assert sooner.pruning_ratio == pytest.approx(best.pruning_ratio, abs=0.01)
    # The same ratios would have been open to it, and make less progress in all the time they take.
    after_s = float(seen.moves.next_bits(without.pruning_ratio)) / down_bit_per_s
    whole_s = without.deadline_s - blind.broadcast_bits[0] / down_bit_per_s + after_s
    assert best.progress_per_s > 1.005 * np.sqrt(1.0 - without.loss) / whole_s


def test_what_it_plans_is_what_the_round_takes() -> None:
    plan = AdaptivePlanner(cell())(0, reported())
    kept = np.round((1.0 - plan.pruning_ratio) * SPLIT.n_global)
    history = ft.train(SPLIT, shares(), replace(CONFIG, rounds=1), lambda t, work: plan, progress=False)
    planned = WORK.as_round("sparse", mask_keep(plan.pruning_ratio))
    bits = planned.payload_bits * kept / SPLIT.n_global + planned.overhead_bits
    assert history.records[0]["uploaded_bits"] <= bits.sum() * (1 + 1e-6)
    assert history.records[0]["uploaded_bits"] >= 0.99 * bits.sum()


def test_nothing_is_pruned_where_that_saves_no_time() -> None:
    # Computing takes all of the time, and no sparse upload saves any of it.
    plan = AdaptivePlanner(cell(flops_per_s=1e6, bandwidth_hz=1e9), kinds=("sparse",))(0, reported())
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
    for k in range(4):
        size = np.ones(4)
        size[k] = 1e3
        louder = planner.choose(0, np.arange(4), reported(change_sq=size)).pruning_ratio[k]
        assert louder <= steep.pruning_ratio[k]
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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("build", None),
        ("kinds", "sparse"),
        ("kinds", ()),
        ("kinds", ("zeroed",)),
        ("kinds", ("sparse", 3)),
        ("kinds", None),
        ("pruning_ratio_max", 1.0),
        ("pruning_ratio_max", 1.2),
        ("pruning_ratio_max", -0.1),
        ("pruning_ratio_max", "0.9"),
        ("pruning_ratio_max", float("nan")),
        ("deadline_s", 0.4),
        ("first", None),
        ("first", 8.0),
        ("curve", "steep"),
        ("points", 0),
        ("progress_power", 0.0),
        ("progress_power", 1.1),
        ("progress_power", {}),
        ("progress_power", {"sparse": 0.5}),
        ("points", 2.5),
        ("progress", "most"),
    ],
)
def test_a_bad_argument_is_one_line_with_field_and_value(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must be .*{re.escape(repr(value))}$") as caught:
        AdaptivePlanner(**({"build": cell()} | {field: value}))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_that_devices_keep_what_they_do_not_send_is_part_of_the_workload() -> None:
    for kept in (True, False):
        work = ft.count_workload(SPLIT, replace(CONFIG, error_feedback=kept), list(shares()))
        for same in (work, work.of(np.array([1, 2])), work.as_round("frozen"), work.unmasked()):
            assert same.unsent_kept is kept


def test_powers_of_kinds_that_are_none_are_named() -> None:
    line = "progress_power must name no other kinds than sparse, frozen, got {'sparse': 0.5, 'zeroed': 0.5}"
    with pytest.raises(ValueError, match=rf"^{re.escape(line)}$"):
        AdaptivePlanner(cell(), kinds=("sparse",), progress_power={"sparse": 0.5, "zeroed": 0.5})  # type: ignore[dict-item]


def test_a_bad_power_of_one_kind_is_named() -> None:
    with pytest.raises(ValueError, match=r"^progress_power\['frozen'\] must be a number in \(0, 1\], got 2.0$"):
        AdaptivePlanner(cell(), progress_power={"sparse": 0.5, "frozen": 2.0})


def test_what_its_functions_return_is_looked_at() -> None:
    with pytest.raises(ValueError, match=r"^build must return a Cell and Devices, got None: it ends without a return$"):
        AdaptivePlanner(lambda t, asked, work: None)(0, WORK)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match=r"^build must return a Cell and Devices, got 3$"):
        AdaptivePlanner(lambda t, asked, work: 3)(0, WORK)  # type: ignore[arg-type, return-value]
    for value in (0.0, -1.0, float("nan"), "late"):
        with pytest.raises(ValueError, match=rf"^deadline_s\(7\) must be a finite number > 0, got {value!r}$"):
            AdaptivePlanner(cell(), deadline_s=lambda t, value=value: value)(7, WORK)  # type: ignore[misc]


def test_frozen_rounds_need_a_probe() -> None:
    build = cell(flops_per_s=2e7, bandwidth_hz=1e8)
    assert AdaptivePlanner(build)(0, reported(STEEP**2)).update == "frozen"
    without = replace(reported(STEEP**2), probing_flops=np.zeros(4))
    assert AdaptivePlanner(build)(0, without).update == "sparse"
    assert AdaptivePlanner(build, kinds=("frozen",))(0, without).update == "frozen"


def test_an_unpruned_round_pays_for_the_report_that_its_kind_sends() -> None:
    for update, bits in (("zeroed", 0), ("frozen", REPORT_BITS), ("sparse", REPORT_BITS)):
        config = replace(CONFIG, update=update, error_feedback=False)
        whole = ft.count_workload(SPLIT, config, shares()).unmasked()
        assert (whole.overhead_bits == HEADER_BITS + bits).all()
        everyone = ft.RoundPlan(np.zeros(4), np.ones(4), np.zeros(4), np.ones(4, dtype=bool))
        history = ft.train(SPLIT, shares(), replace(config, rounds=1), lambda t, work, p=everyone: p, progress=False)
        assert history.records[0]["uploaded_bits"] == (whole.payload_bits + whole.overhead_bits).sum()
