"""The radio clock: seconds and joules by hand, those of fltrain, and loops that take them up in a few lines."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

import fltrain as ft
import kktalloc as ka
from kktalloc import links, radio, traces

EXAMPLES = Path(__file__).parents[1] / "examples" / "clock"
GAIN = np.array([3e-12, 1e-11, 5e-11])
PHONES = radio.Phones(flop_per_s=np.array([1e8, 2e8, 4e8]), joule_per_flop=1e-9, tx_power_max_w=0.2, pa_efficiency=0.5)
WORK = radio.Work(
    pruned_flops=4e7, payload_bits=1e6, local_flops=np.array([1e7, 2e7, 0.0]), overhead_bits=1e4, broadcast_bits=2e6
)
WALK = traces.steps("walk", [0.0, 1.0, 2.0], [1e-10, 2e-10, 0.0])
CLOCK = radio.Clock(ka.Cell(1e6, 4e-21, 0.6), PHONES, broadcast_bit_per_s=2e7)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("pruned", [True, False])
def test_a_round_by_hand(pruned: bool) -> None:
    cost = CLOCK.pruned(WORK, GAIN) if pruned else CLOCK.unpruned(WORK, GAIN)
    s = cost.solution
    keep = 1 - s.pruning_ratio
    assert bool((keep < 1).any()) is pruned
    rate = s.bandwidth_hz * np.log2(1 + GAIN * s.tx_power_w / (4e-21 * s.bandwidth_hz))
    upload = (1e6 * keep + 1e4) / rate
    speed, local = np.array([1e8, 2e8, 4e8]), np.array([1e7, 2e7, 0.0])
    latency = 2e6 / 2e7 + (local + 4e7 * keep) / speed + upload
    np.testing.assert_allclose(cost.latency_s, latency, rtol=1e-12)
    np.testing.assert_allclose(cost.energy_j, 1e-9 * (local + 4e7 * keep) + s.tx_power_w * upload / 0.5, rtol=1e-12)
    assert cost.round_s == latency.max()
    assert s.certificate.ok
    if pruned:
        assert cost.round_s <= 0.6 * (1 + 1e-9)
    else:
        np.testing.assert_allclose(latency, latency.max(), rtol=1e-6)  # nobody waits: it could not end sooner


def test_a_batch_of_rounds_is_every_round() -> None:
    gain = GAIN * np.array([[1.0], [0.7], [2.0]])
    for kind in ("pruned", "unpruned"):
        together = getattr(CLOCK, kind)(WORK, gain)
        alone = [getattr(CLOCK, kind)(WORK, g).round_s for g in gain]
        np.testing.assert_allclose(together.round_s, alone, rtol=1e-9)


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(ka.InfeasibleError, match="device"):
        CLOCK.pruned(WORK, np.array([0.0, 1e-11, 1e-11]) * 1e-9)
    with pytest.raises(ka.InfeasibleError, match=r"device 0 cannot .*peak_power.* no deadline would do$"):
        CLOCK.unpruned(WORK, GAIN * [0, 1, 1])
    with pytest.raises(ka.InfeasibleError, match=r"problem \[1\]: device 2 cannot .*peak_power"):
        CLOCK.unpruned(WORK, GAIN * np.array([[1, 1, 1], [1, 1, 0]]))
    poor = replace(CLOCK, phones=replace(PHONES, energy_budget_j=[np.inf, 0.05, np.inf]))
    with pytest.raises(ka.InfeasibleError, match=r"device 1 cannot .*energy.* no deadline would do$"):
        poor.unpruned(WORK, GAIN)


@pytest.mark.parametrize("deadline_s", [1e-5, 0.05, 1.0])
def test_who_cannot_take_part_is_named_whatever_the_deadline_that_is_not_asked_for(deadline_s: float) -> None:
    phones = radio.Phones(flop_per_s=1e9, joule_per_flop=1e-10, tx_power_max_w=0.2)
    clock = radio.Clock(ka.Cell(1.5e6, 4e-21, deadline_s), phones)
    with pytest.raises(ka.InfeasibleError, match=r"^infeasible: device 2 "):
        clock.unpruned(radio.Work(pruned_flops=6e10, payload_bits=2e6), [3e-11, 1e-11, 0.0])
    part = radio.served(PHONES, np.array([True, False, True]))
    assert np.asarray(part.flop_per_s).tolist() == [1e8, 4e8]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: replace(PHONES, flop_per_s=[1e9, -1.0]), r"phones.flop_per_s\[1\] = -1.0: must be > 0 and finite"),
        (lambda: replace(PHONES, flop_per_s=np.nan), "phones.flop_per_s = nan: must be > 0 and finite"),
        (lambda: replace(PHONES, flop_per_s="1e9"), "phones.flop_per_s: expected numbers, got '1e9'"),
        (lambda: replace(PHONES, pa_efficiency=2), "phones.pa_efficiency = 2.0: must be > 0 and <= 1"),
        (lambda: replace(PHONES, pruning_ratio_max=-0.1), "phones.pruning_ratio_max = -0.1: must be >= 0 and <= 1"),
        (lambda: replace(WORK, pruned_flops=-1e8), "work.pruned_flops = -100000000.0: must be >= 0 and finite"),
        (lambda: replace(WORK, payload_bits=[1e6, 0]), r"work.payload_bits\[1\] = 0.0: must be > 0 and finite"),
        (lambda: replace(CLOCK, broadcast_bit_per_s=0.0), "broadcast_bit_per_s = 0.0: must be > 0"),
        (
            lambda: replace(CLOCK, phones=replace(PHONES, flop_per_s=[1e9, 2e9])).pruned(WORK, GAIN),
            r"phones.flop_per_s: shape \(2,\) does not broadcast with \(3,\) of channel_gain",
        ),
        (
            lambda: CLOCK.unpruned(replace(WORK, overhead_bits=[1, 2]), GAIN),
            r"work.overhead_bits: shape \(2,\) does not broadcast with \(3,\) of channel_gain",
        ),
        (lambda: CLOCK.pruned(WORK, "a"), "channel_gain: expected numbers, got 'a'"),
        (lambda: links.Gains([[1e-10, -1.0]]), r"channel_gain\[0, 1\] = -1.0: must be >= 0 and finite"),
        (lambda: links.Gains(1e-10), r"channel_gain: shape \(\), must be \(K,\) or \(R, K\)"),
        (lambda: links.Fading([-1, 1]), r"path_gain\[0\] = -1.0: must be >= 0 and finite"),
        (lambda: links.Fading([1e-10], antennas=0), "antennas = 0: must be a whole number >= 1"),
        (lambda: links.Drives([WALK], offset_s=[0, 1, 2]), r"offset_s: shape \(3,\) for 1 traces"),
        (lambda: links.Drives([WALK], offset_s=-1), "offset_s = -1.0: must be >= 0 and finite"),
        (lambda: links.Drives([WALK], antennas=0.5), "antennas = 0.5: must be a whole number >= 1"),  # type: ignore[arg-type]
        (lambda: links.Drives([WALK], handover_s=-1), "handover_s = -1.0: must be >= 0 and finite"),
        (lambda: links.Downlink(1.0, 0.0, 4e-21), "bandwidth_hz = 0.0: must be > 0 and finite"),
    ],
)
def test_what_is_out_of_range_is_named_as_it_was_given(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        make()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: radio.Clock(PHONES, CLOCK.cell), "cell: expected Cell, got Phones"),  # type: ignore[arg-type]
        (lambda: CLOCK.pruned(3, GAIN), "work: expected Work, got int"),  # type: ignore[arg-type]
        (lambda: links.Drives(WALK), "traces: expected one for each phone, in a list, got Trace"),  # type: ignore[arg-type]
        (lambda: links.Drives([WALK, 2]), r"traces\[1\]: expected Trace, got int"),  # type: ignore[list-item]
    ],
)
def test_what_is_of_another_kind_is_named(make: Callable[[], object], says: str) -> None:
    with pytest.raises(TypeError, match=f"^{says}$"):
        make()


def test_it_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from kktalloc import radio, traces; print('ok')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "ok\n"


def test_the_clock_of_fltrain_is_the_same() -> None:
    """The clock around fltrain's counted work against the history of its run."""
    data = ft.load_digits()
    shares = ft.partition(data, 3, "iid", seed=0, samples_per_device=60)
    split = ft.Split(ft.build_model("mlp", data, seed=0), personal=("head",))
    config = ft.TrainConfig(rounds=2, personal_steps=1, pruned_steps=2, probe_steps=1, batch_size=16)
    seconds, joules = 0.0, []

    def planner(round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        nonlocal seconds
        cost = CLOCK.unpruned(radio.Work.of(workload), GAIN)
        seconds += float(cost.round_s)
        joules.append(cost.energy_j.sum())
        return ft.RoundPlan(cost.solution.pruning_ratio, cost.latency_s, cost.energy_j, np.ones(3, dtype=bool))

    history = ft.train(split, shares, config, planner, progress=False)
    assert history.records[-1]["wall_clock_s"] == pytest.approx(seconds, rel=1e-12)
    assert [record["energy_j"] for record in history.records] == pytest.approx(joules, rel=1e-12)


def _counted(model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int, batch: int) -> radio.Work:
    """What fltrain counts of the same model, batch and steps."""
    config = ft.TrainConfig(
        rounds=1, personal_steps=0, pruned_steps=steps, probe_steps=0, batch_size=batch, pruning=False
    )
    share = ft.DeviceData(x, y, x[:2], y[:2])
    return radio.Work.of(ft.count_workload(ft.Split(model, personal=()), config, [share]))


def test_plain_torch(capsys: pytest.CaptureFixture[str]) -> None:
    module = example("plain_torch")
    model, seconds, joules = module.main(rounds=2)
    assert "round 1: " in capsys.readouterr().out
    counted = _counted(model, torch.rand(100, 64), torch.arange(100) % 10, module.STEPS, module.BATCH)
    again = _as(counted, module.DEVICES)
    gain = 1e-11 * ka.channel.rayleigh_mrc(np.random.default_rng(0), (2, module.DEVICES), antennas=4)
    phones = radio.Phones(flop_per_s=2e8, joule_per_flop=1e-9, tx_power_max_w=0.2)
    cost = radio.Clock(ka.Cell(1e6, 4e-21, 1.0), phones, 2e7).unpruned(again, gain)
    assert seconds == pytest.approx(float(cost.round_s.sum()), rel=1e-9)
    assert joules == pytest.approx(float(cost.energy_j.sum()), rel=1e-9)


def _as(counted: radio.Work, devices: int) -> radio.Work:
    """The work of one phone as that of several."""
    names = ("pruned_flops", "payload_bits", "local_flops", "overhead_bits", "broadcast_bits")
    return radio.Work(**{name: np.full(devices, np.asarray(getattr(counted, name))[0]) for name in names})


def test_pfllib_style(capsys: pytest.CaptureFixture[str]) -> None:
    server = example("pfllib_style").main(rounds=2)
    client = server.clients[0]
    again = _as(_counted(server.global_model, client.x, client.y, client.steps, client.batch), len(server.clients))
    for t in range(2):
        gain = 1e-11 * ka.channel.rayleigh_mrc(np.random.default_rng(t), len(server.clients), antennas=4)
        cost = server.clock.unpruned(again, gain)
        assert server.rs_time_s[t] == pytest.approx(float(cost.round_s), rel=1e-9)
        assert server.rs_energy_j[t] == pytest.approx(float(cost.energy_j.sum()), rel=1e-9)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.stem)
def test_it_takes_fifteen_lines(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert 5 <= sum(line.endswith("# clock") for line in lines) <= 15


def test_an_audience_says_why_the_others_are_not_asked() -> None:
    gain = np.array([3e-12, 0.0, 1e-11, 5e-11, 1e-16])
    downlink = links.Downlink(tx_power_w=1.0, bandwidth_hz=1e6, noise_psd_w_per_hz=4e-21)

    def easiest(heard: np.ndarray) -> ka.Problem:
        phones = radio.Phones(np.array([1e8, 1e8, 1e8, 1e6, 1e8])[heard], 1e-9, 0.2, pruning_ratio_max=0.5)
        return radio.Clock(CLOCK.cell, phones, downlink.bit_per_s(gain[heard])).problem(
            radio.Work(pruned_flops=4e7, payload_bits=1e5, broadcast_bits=1e5), gain[heard]
        )

    found = radio.audience(gain, easiest)
    assert found.asked.tolist() == [0, 2]
    assert found.missing.tolist() == ["", radio.NO_SERVICE, "", "deadline", radio.BROADCAST]
    together = radio.audience(gain, easiest, worst_listener=False)  # the worst listener costs all the deadline
    assert together.asked.tolist() == []
    assert radio.audience(np.zeros(2), easiest).missing.tolist() == [radio.NO_SERVICE] * 2


def test_late_uploads_are_paid_for_until_the_server_goes_on() -> None:
    steady, gone = (
        traces.steps("walk", np.arange(20.0), gain) for gain in (np.full(20, 1.0), 1.0 * (np.arange(20.0) < 4))
    )
    link = links.Drives([steady, gone])
    one = np.ones(2)
    # 1 Hz at an SNR of 1: a bit a second. The second phone's channel ends at 4 s, with half of its bits sent.
    sent = links.Sent(np.array([0, 1]), 2.0 * one, 4.0 * one, 4.0 * one, one, one)
    got = links.receive(link, sent, now_s=1.0, limit_s=7.0)
    np.testing.assert_allclose(got.until_s, [5.0, 7.0])
    assert got.late.tolist() == [False, True]
    np.testing.assert_allclose(got.on_air_s, [4.0, 6.0])


def test_handovers_between_two_times() -> None:
    walk = traces.steps("walk", np.arange(6.0), np.ones(6), cell=[1, 1, 2, 2, 3, 3])
    link = links.Drives([walk, walk], offset_s=[0.0, 2.0])
    assert link.handovers(0.0, 0.0).tolist() == [0, 0]
    assert link.handovers(0.0, 2.0).tolist() == [1, 1]
    assert link.handovers(1.5, 3.0).tolist() == [1, 1]
    assert link.handovers(2.0, 3.0).tolist() == [0, 0]
