from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fltrain_cases import Constant, digits, shares

import fltrain as ft

CONFIG = ft.TrainConfig(rounds=7, evaluate_every=2, importance="random")


def split() -> ft.Split:
    return ft.Split(ft.build_model("mlp", digits()), ("head",))


def run(config: ft.TrainConfig = CONFIG, checkpoint: ft.Checkpoint | None = None) -> ft.History:
    return ft.train(split(), shares(), config, Constant(4, 0.5), progress=False, checkpoint=checkpoint)


def same(a: ft.History, b: ft.History) -> bool:
    return (
        a.records == b.records
        and torch.equal(a.u, b.u)
        and all(torch.equal(p.v, q.v) for p, q in zip(a.personal, b.personal, strict=True))
    )


class InterruptedRunError(Exception):
    pass


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_a_resumed_run_is_the_uninterrupted_run(tmp_path: Path, stop_after: int) -> None:
    """Interrupted after a round that was saved (every second one is) or was not."""

    def stop(t: int, u: torch.Tensor, personal: object) -> None:
        if t == stop_after:
            raise InterruptedRunError

    saved = ft.Checkpoint(tmp_path / "run.pt", every=2)
    with pytest.raises(InterruptedRunError):
        ft.train(split(), shares(), CONFIG, Constant(4, 0.5), progress=False, checkpoint=saved, observer=stop)
    rounds: list[int] = []

    def planner(t: int, work: ft.Workload) -> ft.RoundPlan:
        rounds.append(t)
        return Constant(4, 0.5).plan

    resumed = ft.train(split(), shares(), CONFIG, planner, progress=False, checkpoint=saved)
    assert same(resumed, run())
    assert rounds[0] == 2 * (stop_after // 2)
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_a_finished_run_is_read_back_and_can_be_made_longer(tmp_path: Path) -> None:
    saved = ft.Checkpoint(tmp_path / "run.pt")
    config = replace(CONFIG, evaluate_every=1)
    run(config, saved)
    assert same(run(config, saved), run(config))
    assert same(run(replace(config, rounds=9), saved), run(replace(config, rounds=9)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 5}, r"is of another run: seed was 0, is 5$"),
        ({"importance": "movement"}, r"is of another run: importance was 'random', is 'movement'$"),
    ],
)
def test_another_configuration_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    saved = ft.Checkpoint(tmp_path / "run.pt")
    run(CONFIG, saved)
    with pytest.raises(ValueError, match=message):
        run(replace(CONFIG, **change), saved)  # type: ignore[arg-type]


def test_other_data_or_model_is_refused(tmp_path: Path) -> None:
    saved = ft.Checkpoint(tmp_path / "run.pt")
    run(CONFIG, saved)
    other_data = (replace(shares()[0], test_x=shares()[0].test_x + 1e-3), *shares()[1:])
    other_model = ft.Split(ft.build_model("mlp", digits(), seed=1), ("head",))
    for model, data, name in ((split(), other_data, "data"), (other_model, shares(), "initial global part")):
        with pytest.raises(ValueError, match=rf"is of another run: {name} was \d+, is \d+$"):
            ft.train(model, data, CONFIG, Constant(4, 0.5), progress=False, checkpoint=saved)


def test_bad_checkpoint_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^every must be >= 1, got 0$"):
        ft.Checkpoint(tmp_path / "run.pt", every=0)
    with pytest.raises(ValueError, match=r"^path must lie in an existing folder, got .*missing.*$"):
        ft.Checkpoint(tmp_path / "missing" / "run.pt")


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import fltrain as ft
from fltrain_cases import Constant, digits, shares
split = ft.Split(ft.build_model("mlp", digits()), ("head",))
config = ft.TrainConfig(rounds=100_000, personal_steps=1, pruned_steps=1)
ft.train(split, shares(), config, Constant(4, 0.5), False, checkpoint=ft.Checkpoint(sys.argv[2], every=1))
"""


def test_a_killed_run_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """SIGKILL while it saves after every round: what is on disk is some whole round, and it goes on from there."""
    path = tmp_path / "run.pt"
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(path)]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = len(torch.load(path, weights_only=True)["records"])
    assert done >= 1
    config = ft.TrainConfig(rounds=done + 2, personal_steps=1, pruned_steps=1)
    resumed = run(config, ft.Checkpoint(path))
    assert json.loads(resumed.to_json()) == json.loads(run(config).to_json())
