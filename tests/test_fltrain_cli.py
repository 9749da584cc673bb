"""`python -m fltrain`: what it prints, writes and ends with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fltrain as ft
import kktalloc as ka
from fltrain.__main__ import main
from fltrain.radio import RadioPlanner

SMALL = ["--devices", "4", "--seed", "1"]


def test_train_writes_the_history_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run.json"
    assert main(["train", *SMALL, "--rounds", "3", "--json", "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text())
    assert [record["round"] for record in printed["records"]] == [0, 1, 2]
    assert printed["records"][0]["wall_clock_s"] > 0


def test_a_broadcast_takes_time_and_less_where_only_what_moved_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    took = []
    for more in ([], ["--downlink-bit-per-s", "1e7"], ["--downlink-bit-per-s", "1e7", "--broadcast", "moved"]):
        assert main(["train", *SMALL, "--rounds", "5", "--json", *more]) == 0
        took.append(json.loads(capsys.readouterr().out)["records"])
    free, whole, moved = ([record["round_latency_s"] for record in records] for records in took)
    bits = took[1][0]["broadcast_bits"]
    assert whole[0] > free[0] + 0.9 * bits / 1e7
    assert took[2][0]["broadcast_bits"] == bits  # nobody holds anything yet
    assert sum(moved[1:]) < 0.7 * sum(whole[1:])
    assert main(["train", *SMALL, "--broadcast", "moved"]) == 2
    assert "--broadcast moved needs --downlink-bit-per-s" in capsys.readouterr().err
    assert main(["train", *SMALL, "--downlink-bit-per-s", "0"]) == 2
    assert "downlink = 0.0: must be > 0" in capsys.readouterr().err


def test_it_stops_at_the_target_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["train", *SMALL, "--rounds", "30", "--plan", "unpruned", "--checkpoint", str(tmp_path / "run.pt"), "--json"]
    assert main([*run, "--target", "0.5"]) == 0
    first = json.loads(capsys.readouterr().out)["records"]
    assert first[-1]["accuracy"] >= 0.5 > first[0]["accuracy"]
    assert len(first) < 30
    assert main([*run, "--target", "0.8"]) == 0
    more = json.loads(capsys.readouterr().out)["records"]
    assert more[: len(first)] == first
    assert more[-1]["accuracy"] >= 0.8


def test_data_of_ones_own_by_users_of_several_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", images=rng.random((40, 8, 8)), what=np.arange(40) % 2, who=np.repeat([1, 2], 20),
             where=np.tile(np.repeat([1, 2], 10), 2))  # fmt: skip
    given = ["--data", str(tmp_path / "mine.npz"), "--x", "images", "--y", "what", "--users", "who", "where"]
    assert main(["count", *given, "--devices", "4", "--partition", "by_user", "--json"]) == 0
    work = json.loads(capsys.readouterr().out)
    assert len(work["pruned_flops"]) == 4
    assert main(["count", *given, "--devices", "5", "--partition", "by_user"]) == 2
    assert "devices must be <= 4" in capsys.readouterr().err
    assert main(["count", *given, "--partition", "by_user", "--json"]) == 0  # all four
    assert json.loads(capsys.readouterr().out) == work


def test_a_plain_table_is_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(480) % 3
    np.savez(tmp_path / "t.npz", x=rng.normal(size=(480, 20)) + 2 * np.eye(3)[y] @ rng.normal(size=(3, 20)), y=y)
    given = ["train", "--data", str(tmp_path / "t.npz"), "--partition", "iid", "--devices", "3", "--rounds", "5"]
    assert main([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["records"][-1]["accuracy"] > 0.6
    assert main([*given, "--model", "cnn"]) == 2
    assert "for cnn, got (480, 20); mlp takes any shape" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "(N, features)" in capsys.readouterr().out


def test_rounds_before_an_impossible_one_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RadioPlanner.__call__

    def planner(self: RadioPlanner, t: int, work: ft.Workload) -> ft.RoundPlan:
        if t == 2:
            ka.solve(ka.Problem(ka.Cell(1.0, 4e-21, 1e-9), ka.Devices(1e-12, 0.1, 1e6, 0.2, pruning_ratio_max=0.5)))
        return real(self, t, work)

    monkeypatch.setattr(RadioPlanner, "__call__", planner)
    out = tmp_path / "history.json"
    assert main(["train", *SMALL, "--rounds", "4", "--out", str(out)]) == 3
    assert "cannot finish" in capsys.readouterr().out
    assert len(json.loads(out.read_text())["records"]) == 2


def test_the_table_fits_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *SMALL, "--rounds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80


def test_ends_that_are_not_the_end(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["train", *SMALL, "--plan", "deadline"]) == 2
    assert capsys.readouterr().err == "fltrain: error: --plan deadline needs --deadline-s\n"
    assert main(["train", "--data", "nowhere.npz"]) == 2
    assert "missing data file nowhere.npz" in capsys.readouterr().err

    def interrupted(*args: object, **kwargs: object) -> ft.History:
        raise ft.Interrupted(ft.History([], ft.Split(ft.build_model("mlp", ft.load_digits())).initial_global(), []))

    monkeypatch.setattr(ft, "train", interrupted)
    assert main(["train", *SMALL, "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["records"] == []


def test_columns_are_those_of_the_history(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["columns", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == ft.COLUMNS
