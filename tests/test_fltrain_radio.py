"""The planner for phones on a radio: its accounting, whom it leaves out, late uploads, batteries, resuming."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fltrain_cases import digits, shares

import fltrain as ft
import kktalloc as ka
from fltrain.adapt import AdaptivePlanner
from fltrain.radio import Deadline, Radio, RadioPlanner, Unpruned
from kktalloc import radio, traces
from kktalloc.links import Downlink, Drives, Fading, Gains, Sent

SPLIT = ft.Split(ft.build_model("mlp", digits()), ("head",))
CONFIG = ft.TrainConfig(rounds=6, update="sparse")
WORK = ft.count_workload(SPLIT, CONFIG, shares())
ZEROED = ft.count_workload(SPLIT, ft.TrainConfig(), shares())
GAIN = np.array([2e-12, 5e-12, 1e-11, 4e-11])
CELL = ka.Cell(1e6, 4e-21, 1.0)
PHONES = radio.Phones(
    flop_per_s=np.array([1e8, 2e8, 3e8, 4e8]), joule_per_flop=1e-9, tx_power_max_w=0.2, pa_efficiency=0.4
)
DOWN = Downlink(tx_power_w=1.0, bandwidth_hz=1e6, noise_psd_w_per_hz=4e-20, antennas=2)


def drive(gain: list[float], step_s: float = 1.0) -> traces.Trace:
    return traces.steps("walk", step_s * np.arange(len(gain)), np.array(gain))


def at(cell: Radio, chooser: Any = AdaptivePlanner, work: ft.Workload = WORK, t: int = 0, **more: Any) -> ft.RoundPlan:
    return RadioPlanner(cell, chooser, **more)(t, work)


@pytest.mark.parametrize("chooser", [Unpruned, partial(Deadline, deadline_s=0.15)])
def test_it_charges_what_the_clock_charges(chooser: Any) -> None:
    rate = float(DOWN.bit_per_s(GAIN))
    clock = radio.Clock(replace(CELL, deadline_s=0.15), PHONES, broadcast_bit_per_s=rate)
    pruned = chooser is not Unpruned
    work = ZEROED if pruned else replace(ZEROED, mask_size=np.zeros(4))
    cost = (clock.pruned if pruned else clock.unpruned)(radio.Work.of(ZEROED), GAIN)
    plan = at(Radio(CELL, PHONES, Gains(GAIN), DOWN), chooser, work)
    np.testing.assert_allclose(plan.latency_s, cost.latency_s, rtol=2e-6)
    np.testing.assert_allclose(plan.energy_j, cost.energy_j, rtol=1e-5)
    np.testing.assert_allclose(plan.pruning_ratio, cost.solution.pruning_ratio, atol=1e-9)
    assert plan.participates.all()
    assert not plan.lost.any()  # type: ignore[union-attr]
    assert (plan.pruning_ratio > 0).any() == pruned


def test_a_round_by_hand() -> None:
    """One phone, no pruning: broadcast, computing and upload one after the other."""
    one = replace(ZEROED.of(np.array([0])), mask_size=np.zeros(1))
    phones = radio.served(PHONES, np.array([0]))
    plan = at(Radio(CELL, phones, Gains(GAIN[:1]), DOWN), Unpruned, one)
    flops = float(one.personal_flops[0] + one.probe_flops[0] + one.pruned_flops[0])
    bits = float(one.payload_bits[0] + one.overhead_bits[0])
    upload = bits / (1e6 * np.log2(1 + 2e-12 * 0.2 / (4e-21 * 1e6)))
    broadcast = float(one.broadcast_bits[0]) / (1e6 * np.log2(1 + 1.0 * 2e-12 / 2 / (4e-20 * 1e6)))
    assert plan.latency_s[0] == pytest.approx(broadcast + flops / 1e8 + upload, rel=2e-6)
    assert plan.energy_j[0] == pytest.approx(1e-9 * flops + 0.2 * upload / 0.4, rel=1e-5)


def test_who_has_no_service_is_not_asked_and_nobody_means_a_pause() -> None:
    gain = np.array([np.nan, 5e-12, 0.0, 4e-11])
    plan = at(Radio(CELL, PHONES, Gains(gain)))
    assert plan.participates.tolist() == [False, True, False, True]
    nobody = at(Radio(CELL, PHONES, Gains(np.zeros(4))), retry_s=3.0)
    assert not nobody.participates.any()
    assert nobody.round_s == 3.0
    drawn = replace(WORK, selected=np.array([True, True, False, False]))
    assert at(Radio(CELL, PHONES, Gains(gain)), work=drawn).participates.tolist() == [False, True, False, False]


def test_whom_the_deadline_cannot_serve_is_left_out() -> None:
    weak = np.array([1e-20, 5e-12, 1e-11, 4e-11])
    chooser = partial(Deadline, deadline_s=0.15)
    assert at(Radio(CELL, PHONES, Gains(weak)), chooser, ZEROED).participates.tolist() == [False, True, True, True]
    # A broadcast that waits for the weak one would cost everybody the round.
    heard = at(Radio(CELL, PHONES, Gains(np.array([1e-16, *weak[1:]])), DOWN), chooser, ZEROED)
    assert heard.participates.tolist() == [False, True, True, True]


@pytest.mark.parametrize("chooser", [AdaptivePlanner, Unpruned])
def test_a_battery_lasts_as_many_rounds_as_it_should(chooser: Any) -> None:
    whole = at(Radio(CELL, PHONES, Gains(GAIN)), chooser).energy_j
    battery = 3.0 * whole
    cell = Radio(CELL, PHONES, Fading(GAIN, antennas=4, seed=1), battery_j=battery, rounds=6)
    history = ft.train(SPLIT, shares(), CONFIG, RadioPlanner(cell, chooser), progress=False)
    spent = np.sum([r["energy_j_per_device"] for r in history.records], axis=0)
    assert (spent <= battery * (1 + 1e-9)).all()
    free = RadioPlanner(replace(cell, battery_j=np.inf), chooser)
    assert (np.sum([r["energy_j_per_device"] for r in ft.train(SPLIT, shares(), CONFIG, free, progress=False).records],
                   axis=0) > battery).any()  # fmt: skip


def test_late_uploads_are_charged_and_not_waited_for_longer_than_patience() -> None:
    """Phone 0 loses service before it has sent everything; the others send as planned."""
    good, gone = [1e-11] * 40, [1e-11] + [0.0] * 39
    cell = Radio(CELL, radio.Phones(2e7, 1e-9, 0.2), Drives([drive(gone, 0.1), *3 * [drive(good, 0.1)]]))
    plan = at(cell, Unpruned, ZEROED, patience=1.5)
    planned = at(replace(cell, link=Gains(np.full(4, 1e-11))), Unpruned, ZEROED)
    assert planned.latency_s.max() > 0.2  # the service ends before
    assert plan.lost.tolist() == [True, False, False, False]  # type: ignore[union-attr]
    assert plan.latency_s[0] == pytest.approx(1.5 * planned.latency_s.max(), rel=1e-9)
    np.testing.assert_allclose(plan.latency_s[1:], planned.latency_s[1:], rtol=1e-9)
    longer = plan.latency_s[0] - planned.latency_s[0]
    assert plan.energy_j[0] == pytest.approx(planned.energy_j[0] + 0.2 * longer, rel=1e-9)


def test_drives_are_read_at_the_time_on_the_clock() -> None:
    link = Drives([drive([1e-11, 2e-11, 4e-11])], offset_s=0.5, antennas=2)
    assert [link.gain(9, t)[0] for t in (0.0, 0.6, 1.5)] == [2e-11, 4e-11, 8e-11]
    with pytest.raises(ValueError, match=r"walk lasts 2 s, asked for its channel at 2.5 s"):
        link.gain(0, 2.0)
    sent = Sent(np.array([0]), np.array([0.0]), np.array([9.0]), np.array([1e6]), np.array([1e6]), np.array([1e17]))
    # Half a second at log2(1 + 2), then at log2(1 + 4).
    first = 0.5 * np.log2(3.0)
    expected = 0.5 + (1.0 - first) / np.log2(5.0) if first < 1 else 1.0 / np.log2(3.0)
    assert link.arrival_s(replace(sent, snr_hz_per_gain=np.array([1e17])))[0] == pytest.approx(expected, rel=1e-12)


def test_a_drive_that_ends_keeps_the_rounds_before(tmp_path: Path) -> None:
    """The error has the history; drives that repeat take the same run to its end."""
    walks = [drive([1e-11, 2e-11, 3e-11], 0.05) for _ in range(4)]
    saved = ft.Checkpoint(tmp_path / "run.pt", every=100)
    short, long = (RadioPlanner(Radio(CELL, PHONES, Drives(d))) for d in (walks, [w.repeated(60.0) for w in walks]))
    with pytest.raises(ValueError, match=r"asked for its channel at") as ended:
        ft.train(SPLIT, shares(), CONFIG, short, progress=False, checkpoint=saved)
    whole = ft.train(SPLIT, shares(), CONFIG, long, progress=False, checkpoint=saved)
    done = ended.value.history.records  # type: ignore[attr-defined]
    assert 0 < len(done) < len(whole.records) == CONFIG.rounds
    assert whole.records[: len(done)] == done


def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    walks = [drive((1e-11 * rng.exponential(size=400)).tolist(), 0.05) for _ in range(4)]
    cell = Radio(CELL, PHONES, Drives(walks), DOWN, battery_j=2.0, rounds=6)
    planner = RadioPlanner(cell)
    whole = ft.train(SPLIT, shares(), CONFIG, planner, progress=False)
    saved = ft.Checkpoint(tmp_path / "run.pt", every=1)

    def stop(t: int, u: Any, personal: Any) -> None:
        if t == 3:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        ft.train(SPLIT, shares(), CONFIG, planner, progress=False, checkpoint=saved, observer=stop)
    resumed = ft.train(SPLIT, shares(), CONFIG, planner, progress=False, checkpoint=saved)
    assert resumed.records == whole.records
    assert [r["wall_clock_s"] for r in whole.records] == sorted({r["wall_clock_s"] for r in whole.records})


def test_an_empty_battery_is_no_silent_run(caplog: pytest.LogCaptureFixture) -> None:
    poor = Radio(CELL, PHONES, Gains(GAIN * [1, 1, 1, 0]), battery_j=1e-9, rounds=3)
    with caplog.at_level("WARNING", logger="fltrain"):
        history = ft.train(SPLIT, shares(), replace(CONFIG, rounds=3), RadioPlanner(poor), progress=False)
    assert [record["participants"] for record in history.records] == [0, 0, 0]
    assert history.records[2]["not_asked"] == ["energy", "energy", "energy", "no service"]
    assert [r.getMessage() for r in caplog.records] == [
        "round 0: nobody takes part: energy (devices 0, 1, 2); no service (devices 3); the clock goes on"
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"battery_j": -1.0, "rounds": 2}, "battery_j = -1.0: must be >= 0"),
        ({"battery_j": [1.0, np.nan], "rounds": 2}, r"battery_j\[1\] = nan: must be >= 0"),
        ({"battery_j": [1.0, 2.0], "rounds": 2}, r"battery_j: shape \(2,\), training has 4 devices"),
        (
            {"phones": replace(PHONES, flop_per_s=[1e8, 2e8])},
            r"phones.flop_per_s: shape \(2,\), training has 4 devices",
        ),
        ({"downlink": -5.0}, "downlink = -5.0: must be > 0"),
    ],
)
def test_a_radio_says_what_is_wrong_with_it(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        at(replace(Radio(CELL, PHONES, Gains(GAIN)), **change))


def test_a_radio_is_no_planner() -> None:
    with pytest.raises(ValueError, match=r"^planner must be callable, got Radio; RadioPlanner\(radio\) plans for it$"):
        ft.train(SPLIT, shares(), CONFIG, Radio(CELL, PHONES, Gains(GAIN)), progress=False)  # type: ignore[arg-type]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="say how many with rounds="):
        Radio(CELL, PHONES, Gains(GAIN), battery_j=1.0)
    with pytest.raises(ValueError, match=r"patience must be finite and >= 1, got 0.5"):
        RadioPlanner(Radio(CELL, PHONES, Gains(GAIN)), patience=0.5)
    with pytest.raises(ValueError, match="link has 3 phones, training has 4 devices"):
        at(Radio(CELL, PHONES, Gains(GAIN[:3])))
    with pytest.raises(ValueError, match="channel_gain has 2 rows, asked for round 2"):
        at(Radio(CELL, PHONES, Gains(np.stack([GAIN, GAIN]))), t=2)
