from __future__ import annotations

import json
from pathlib import Path

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


def test_final_models_give_the_final_accuracy() -> None:
    history = short_run()
    split = ft.Split(ft.build_model("mlp", digits()), ("head",))
    for k, share in enumerate(shares()):
        model = split.assemble(history.u, history.personal[k]).eval()
        with torch.no_grad():
            right = (model(share.test_x).argmax(1) == share.test_y).double().mean()
        assert float(right) == history.records[-1]["accuracy_per_device"][k]
