from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from fltrain_cases import Constant, digits, shares

import fltrain as ft


def short_run() -> ft.History:
    split = ft.Split(ft.build_model("mlp", digits()), ("head",))
    config = ft.TrainConfig(rounds=3, evaluate_every=2)
    return ft.train(split, shares(), config, Constant(4, rho=0.5), progress=False)


def test_every_record_holds_exactly_the_defined_columns() -> None:
    for record in short_run().records:
        assert list(record) == list(ft.COLUMNS)


def test_json_and_frame_hold_the_records(tmp_path: Path) -> None:
    history = short_run()
    text = history.to_json(tmp_path / "history.json")
    written = json.loads((tmp_path / "history.json").read_text())
    assert written == json.loads(text)
    assert written["records"] == history.records
    assert written["columns"] == ft.COLUMNS
    assert [p.name for p in tmp_path.iterdir()] == ["history.json"]
    frame = history.to_frame()
    assert list(frame.columns) == list(ft.COLUMNS)
    assert frame["wall_clock_s"].tolist() == [1.0, 2.0, 3.0]
    assert frame["accuracy"].isna().tolist() == [True, False, False]


def test_seconds_and_joules_until_an_accuracy() -> None:
    history = short_run()
    records = [r | {"accuracy": a, "energy_j": e} for r, a, e in
               zip(history.records, (None, 0.5, 0.8), (1.0, 2.0, 4.0), strict=True)]  # fmt: skip
    found = ft.History(records, history.u, history.personal)
    assert [found.energy_to_accuracy(a) for a in (0.0, 0.5, 0.6, 0.8, 0.9)] == [3.0, 3.0, 7.0, 7.0, np.inf]
    assert [found.time_to_accuracy(a) for a in (0.0, 0.5, 0.6, 0.8, 0.9)] == [2.0, 2.0, 3.0, 3.0, np.inf]
    assert ft.History([], history.u, []).energy_to_accuracy(0.0) == np.inf


def test_final_models_give_the_final_accuracy() -> None:
    history = short_run()
    split = ft.Split(ft.build_model("mlp", digits()), ("head",))
    for k, share in enumerate(shares()):
        model = split.assemble(history.u, history.personal[k]).eval()
        with torch.no_grad():
            right = (model(share.test_x).argmax(1) == share.test_y).double().mean()
        assert float(right) == history.records[-1]["accuracy_per_device"][k]


def test_results_of_training_show_numbers_at_a_glance() -> None:
    data, dealt = digits(), shares()
    split = ft.Split(ft.build_model("mlp", data), ("head",))
    config = ft.TrainConfig(rounds=2)
    devices = np.ones(len(dealt))
    plan = ft.RoundPlan(0.25 * devices, 2.0 * devices, devices, devices > 0, lost=np.arange(len(dealt)) == 1)
    history = ft.train(split, dealt, config, lambda t, work: plan, progress=False)
    for result, words in (
        (data, f"Dataset: {data.name}, {len(data.y):,} samples of (1, 8, 8), 10 classes"),
        (dealt[0], f"DeviceData: {len(dealt[0].train_y)} samples to train on, {len(dealt[0].test_y)} held out"),
        (split, f"Split: Sequential, {split.n_global:,} global parameters, {split.n_personal:,} personal (head)"),
        (ft.count_workload(split, config, dealt), f"Workload: {len(dealt)} devices, broadcast of "),
        (plan, f"RoundPlan: {len(dealt)} of {len(dealt)} devices, 2 s, {len(dealt)} J"),
        (history, f"History: 2 rounds, 4 s, {2 * len(dealt)} J, accuracy {history.records[1]['accuracy']:.3f}"),
        (ft.History([], history.u, []), "History: no rounds"),
    ):
        assert repr(result).startswith(words)
        assert "array(" not in repr(result)
        assert "tensor(" not in repr(result)
        assert result._repr_html_().startswith(f"<p>{words}")
    assert "lost" in repr(plan).splitlines()[3]
