"""Every column of a history by hand: three rounds of four devices whose uploads are made up.

Weights differ, one device is refused in one round and absent in another, so that no two ways to average agree.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fltrain as ft
from fltrain.checkpoint import RunState
from fltrain.curve import ERROR_RATIOS, ChangeReport
from fltrain.local import Job, Upload
from fltrain.loop import run_rounds, select

WEIGHT = np.array([0.1, 0.2, 0.3, 0.4])
LOSS = [1.0, 2.0, 4.0, 8.0]
ERROR_SQ = [3.0, 5.0, 7.0, 11.0]
BITS = [100.0, 200.0, 400.0, 800.0]
RATIO = [0.1, 0.3, 0.5, 0.7]
LATENCY, ENERGY = [2.0, 3.0, 5.0, 4.0], [1.0, 10.0, 100.0, 1000.0]
MASKS = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=torch.bool)
PRESENT = [[True] * 4, [True, True, True, False], [False] * 4]
LEFT_OUT = {0: [1], 1: [], 2: []}
CURVES = [ERROR_RATIOS, ERROR_RATIOS**2, ERROR_RATIOS**3, ERROR_RATIOS**4]


def personal(number: float) -> ft.PersonalState:
    return ft.PersonalState(torch.tensor([number]), (torch.tensor(10 * number),))


class MadeUp:
    """Device k sends k + 1 everywhere it keeps; device 1 sends NaN in the first round."""

    def __init__(self) -> None:
        self.jobs: list[list[Job]] = []

    def uploads(
        self, t: int, u: torch.Tensor, states: Sequence[ft.PersonalState], jobs: Sequence[Job]
    ) -> Iterator[Upload]:
        self.jobs.append(list(jobs))
        for k, _, _ in jobs:
            values = torch.full((3,), k + 1.0) * MASKS[k]
            if k in LEFT_OUT[t]:
                values = values * math.nan
            report = ChangeReport(k + 1.0, CURVES[k])
            yield Upload(k, values, MASKS[k], personal(100.0 * (t + 1) + k), LOSS[k], ERROR_SQ[k], BITS[k], report)

    def accuracies(self, u: torch.Tensor, states: Sequence[ft.PersonalState]) -> list[float | None]:
        return [0.25, 0.5, None, 0.9]


BROADCAST = np.array([300.0, 100.0, 200.0, 900.0])


def run(observer: Any = None, planned: Any = None, **config: Any) -> tuple[ft.History, MadeUp]:
    flat = np.ones(4)
    work = ft.Workload(flat, flat, flat, flat, flat, BROADCAST, WEIGHT, np.ones(4, dtype=bool))
    state = RunState(torch.tensor([1.0, 2.0, 2.0]), [personal(k) for k in range(4)], [])
    engine = MadeUp()

    def planner(t: int, workload: ft.Workload) -> ft.RoundPlan:
        there = np.array(PRESENT[t])
        return ft.RoundPlan(np.array(RATIO), np.array(LATENCY), np.array(ENERGY), there)

    chosen = ft.TrainConfig(rounds=3, **({"evaluate_every": 2} | config))
    return run_rounds(engine, state, work, chosen, planned or planner, progress=False, observer=observer), engine


HISTORY, ENGINE = run()
FIRST, SECOND, THIRD = HISTORY.records


def test_every_column_is_looked_at_here() -> None:
    looked_at = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in ft.COLUMNS if f'["{name}"]' not in looked_at] == []
    assert all(set(record) == set(ft.COLUMNS) for record in HISTORY.records)


def test_rounds_clocks_and_energies() -> None:
    assert [r["round"] for r in HISTORY.records] == [0, 1, 2]
    assert [r["round_latency_s"] for r in HISTORY.records] == [5.0, 5.0, 0.0]
    assert [r["wall_clock_s"] for r in HISTORY.records] == [5.0, 10.0, 10.0]
    assert [r["energy_j"] for r in HISTORY.records] == [1111.0, 111.0, 0.0]
    assert [r["energy_j_per_device"] for r in HISTORY.records] == [ENERGY, [*ENERGY[:3], 0.0], [0.0] * 4]
    assert [r["lost"] for r in HISTORY.records] == [[], [], []]


def test_who_took_part() -> None:
    assert [r["participants"] for r in HISTORY.records] == [4, 3, 0]
    assert [r["left_out"] for r in HISTORY.records] == [[1], [], []]
    assert [r["update"] for r in HISTORY.records] == ["zeroed", "zeroed", "unpruned"]
    assert [[job.device for job in jobs] for jobs in ENGINE.jobs] == [[0, 1, 2, 3], [0, 1, 2], []]
    assert [job.pruning_ratio for job in ENGINE.jobs[0]] == RATIO


def test_who_is_not_asked_and_a_pause_that_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody takes part from round 1 on: one warning, which says why."""

    def planner(t: int, work: ft.Workload) -> ft.RoundPlan:
        there, why = np.array([t == 0, t == 0, t == 0, False]), np.array(["energy", "energy", "no service", "energy"])
        return ft.RoundPlan(np.array(RATIO), np.array(LATENCY), np.array(ENERGY), there, round_s=1.0, not_asked=why)

    with caplog.at_level("WARNING", logger="fltrain"):
        history, _ = run(planned=planner)
    told = ["energy", "energy", "no service", "energy"]
    assert [r["not_asked"] for r in history.records] == [["", "", "", "energy"], told, told]
    said = [record.getMessage() for record in caplog.records if "nobody" in record.getMessage()]
    assert said == ["round 1: nobody takes part: energy (devices 0, 1, 3); no service (devices 2); the clock goes on"]
    for wrong in (["", ""], [1, 2, 3, 4]):
        with pytest.raises(ValueError, match=r"^plan.not_asked must hold one string for each of 4 devices"):
            run(planned=lambda t, work, w=wrong: replace(planner(t, work), not_asked=np.array(w)))


def test_a_lost_upload_is_charged_and_nothing_else() -> None:
    """Device 3 drains its battery in vain, the round lasts until the server stops waiting."""
    seen = []

    def planner(t: int, work: ft.Workload) -> ft.RoundPlan:
        seen.append((work.elapsed_s, work.spent_j.tolist()))
        lost = np.array([False, False, False, True])
        return ft.RoundPlan(
            np.array(RATIO), np.array(LATENCY), np.array(ENERGY), np.ones(4, bool), lost=lost, round_s=9.0
        )

    history, engine = run(planned=planner)
    assert seen == [(0.0, [0.0] * 4), (9.0, ENERGY), (18.0, [2 * e for e in ENERGY])]
    record = history.records[1]
    assert (record["round_latency_s"], record["energy_j"], record["energy_j_per_device"]) == (9.0, 1111.0, ENERGY)
    assert (record["lost"], record["participants"], record["left_out"]) == ([3], 3, [])
    assert [job.device for job in engine.jobs[1]] == [0, 1, 2]
    assert record["not_asked"] is None  # the planner does not say
    assert record["mean_pruning_ratio"] == pytest.approx((0.01 + 0.06 + 0.15) / 0.6, rel=1e-12)
    assert record["pruning_ratio_per_device"] == RATIO
    assert history.personal[3].v.tolist() == [3.0]


def test_train_loss_is_the_weighted_mean_of_accepted_devices() -> None:
    assert FIRST["train_loss"] == pytest.approx((0.1 * 1 + 0.3 * 4 + 0.4 * 8) / 0.8, rel=1e-12)
    assert SECOND["train_loss"] == pytest.approx((0.1 * 1 + 0.2 * 2 + 0.3 * 4) / 0.6, rel=1e-12)
    assert THIRD["train_loss"] is None


def test_pruning_ratios_are_of_all_that_took_part() -> None:
    """The refused device, too: it pruned."""
    assert FIRST["mean_pruning_ratio"] == pytest.approx(0.01 + 0.06 + 0.15 + 0.28, rel=1e-12)
    assert SECOND["mean_pruning_ratio"] == pytest.approx((0.01 + 0.06 + 0.15) / 0.6, rel=1e-12)
    assert THIRD["mean_pruning_ratio"] is None
    assert FIRST["pruning_ratio_per_device"] == RATIO
    assert SECOND["pruning_ratio_per_device"] == [0.1, 0.3, 0.5, 0.0]


def test_pruning_error_is_summed_with_weights() -> None:
    assert FIRST["pruning_error_sq"] == pytest.approx(0.1 * 3 + 0.3 * 7 + 0.4 * 11, rel=1e-12)
    assert SECOND["pruning_error_sq"] == pytest.approx(0.1 * 3 + 0.2 * 5 + 0.3 * 7, rel=1e-12)
    assert THIRD["pruning_error_sq"] is None


def test_bits_are_of_all_uploads_that_arrived() -> None:
    assert [r["uploaded_bits"] for r in HISTORY.records] == [1500.0, 700.0, 0.0]


def test_a_broadcast_counts_as_the_largest_of_those_who_took_part() -> None:
    assert [r["broadcast_bits"] for r in HISTORY.records] == [900.0, 300.0, 0.0]


def test_global_part_norm_and_coverage() -> None:
    """Coordinate 0 is kept by devices 0 and 2, then 0, 1 and 2; coordinate 1 by 0, 2 and 3, then 0 and 2; 2 by none."""
    one = [(0.1 * 1 + 0.3 * 3) / 0.4, (0.1 * 1 + 0.3 * 3 + 0.4 * 4) / 0.8, 2.0]
    two = [(0.1 * 1 + 0.2 * 2 + 0.3 * 3) / 0.6, (0.1 * 1 + 0.3 * 3) / 0.4, 2.0]
    np.testing.assert_allclose(HISTORY.u, two, rtol=1e-6)
    norms = [r["global_norm_sq"] for r in HISTORY.records]  # of what was broadcast, before the round
    np.testing.assert_allclose(norms, [9.0, np.square(one).sum(), np.square(two).sum()], rtol=1e-6)
    np.testing.assert_allclose([r["coverage_min"] for r in HISTORY.records], [0.4, 0.4, 0.0])
    np.testing.assert_allclose([r["uncovered_share"] for r in HISTORY.records], [1 / 3, 1 / 3, 1.0])


def test_reported_changes() -> None:
    assert FIRST["change_sq_per_device"] == [1.0, None, 3.0, 4.0]
    assert SECOND["change_sq_per_device"] == [1.0, 2.0, 3.0, None]
    share = np.array([0.1 * 1, 0.3 * 3, 0.4 * 4])
    expected = share @ np.array([CURVES[0], CURVES[2], CURVES[3]]) / share.sum()
    np.testing.assert_allclose(FIRST["error_curve"], expected, rtol=1e-12)
    assert THIRD["error_curve"] is None


def test_accuracy_is_the_mean_over_those_that_answered() -> None:
    """Due every second round and after the last."""
    assert [r["accuracy_per_device"] for r in HISTORY.records] == [None, [0.25, 0.5, None, 0.9], [0.25, 0.5, None, 0.9]]
    assert FIRST["accuracy"] is None
    assert SECOND["accuracy"] == THIRD["accuracy"] == pytest.approx((0.25 + 0.5 + 0.9) / 3, rel=1e-12)
    assert [r["accuracy"] is None for r in run(evaluate_every=3)[0].records] == [True, True, False]


def test_personal_parts_are_of_the_last_accepted_upload() -> None:
    """After the first round, the refused device has what it had before."""
    seen: list[list[float]] = []
    run(lambda t, u, states: seen.append([float(state.v) for state in states]))
    assert seen == [[100.0, 1.0, 102.0, 103.0], [200.0, 201.0, 202.0, 103.0], [200.0, 201.0, 202.0, 103.0]]
    assert [float(state.v) for state in HISTORY.personal] == [200.0, 201.0, 202.0, 103.0]
    assert [float(state.buffers[0]) for state in HISTORY.personal] == [2000.0, 2010.0, 2020.0, 1030.0]


@pytest.mark.parametrize(("averaging", "rate"), [("covered", 0.5), ("fill", 1.0), ("fill", 2.0)])
def test_the_server_step_by_hand(averaging: Any, rate: float) -> None:
    """Coordinate 1 of the first round: kept by devices 0, 2, 3 of the three that count, and coordinate 0 by 0 and 2."""
    history, _ = run(averaging=averaging, server_rate=rate, evaluate_every=3)
    u = np.array([1.0, 2.0])
    kept, total = np.array([0.4, 0.8]), 0.8
    change = np.array([0.1 * 1 + 0.3 * 3, 0.1 * 1 + 0.3 * 3 + 0.4 * 4]) - kept * u
    after = u + rate * change / (kept if averaging == "covered" else total)
    assert history.records[1]["global_norm_sq"] == pytest.approx(np.square([*after, 2.0]).sum(), rel=1e-6)


@pytest.mark.parametrize(
    ("participation", "devices", "count"),
    [(0.5, 4, 2), (0.3, 5, 2), (0.26, 10, 3), (0.34, 10, 3), (0.25, 10, 2), (0.35, 10, 4), (0.01, 10, 1), (0.99, 7, 7)],
)
def test_participation_is_rounded_to_the_nearest_number(participation: float, devices: int, count: int) -> None:
    """Halves to the even number, as Python rounds; at least one."""
    config = ft.TrainConfig(participation=participation)
    for t in range(5):
        drawn = select(config, t, devices)
        assert (drawn.shape, drawn.dtype, int(drawn.sum())) == ((devices,), np.bool_, count)


def test_only_selected_devices_take_part() -> None:
    history, engine = run(participation=0.5)
    for t in (0, 1):
        selected = select(ft.TrainConfig(participation=0.5), t, 4) & PRESENT[t]
        assert [job.device for job in engine.jobs[t]] == np.flatnonzero(selected).tolist()
        assert history.records[t]["energy_j"] == np.array(ENERGY)[selected].sum()


def test_the_json_file_is_the_history(tmp_path: Path) -> None:
    text = HISTORY.to_json(tmp_path / "run.json")
    assert (tmp_path / "run.json").read_text(encoding="utf-8") == text + "\n"
    assert json.loads(text) == {"columns": ft.COLUMNS, "records": HISTORY.records}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]
    odd = replace(HISTORY, records=[FIRST | {"train_loss": math.nan}])
    with pytest.raises(ValueError, match="Out of range"):
        odd.to_json(tmp_path / "run.json")
    assert (tmp_path / "run.json").read_text(encoding="utf-8") == text + "\n"


def test_the_table_has_every_column() -> None:
    table = HISTORY.to_frame()
    assert list(table.columns) == list(ft.COLUMNS)
    assert table["wall_clock_s"].tolist() == [5.0, 10.0, 10.0]
