from __future__ import annotations

import subprocess
import sys
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
    with pytest.raises(ValueError, match=r"^path must be a file in an existing folder, got .*missing.*$"):
        ft.Checkpoint(tmp_path / "missing" / "run.pt")


KILLS = 8
# One process forks a run, kills it at a random moment, and forks the next one, which goes on from the checkpoint.
PROGRAM = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
import fltrain as ft
from fltrain_cases import Constant, digits, shares

path, every, kills = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
split = ft.Split(ft.build_model("mlp", digits()), ("head",))
config = ft.TrainConfig(rounds=100_000, personal_steps=1, pruned_steps=1)
moments = random.Random(every)
ft.count_workload(split, config, shares())  # what is slow the first time, every fork would do again
for _ in range(kills):
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        ft.train(split, shares(), config, Constant(4, 0.5), False, checkpoint=ft.Checkpoint(path, every),
                 observer=lambda t, u, personal: os.write(tell, t.to_bytes(8, "big")))
    os.close(tell)
    seen = [os.read(told, 8) for _ in range(every + 1)]
    time.sleep(moments.uniform(0.0, 0.1))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    while more := os.read(told, 8):
        seen.append(more)
    os.close(told)
    saved = len(torch.load(path, weights_only=True)["records"])
    print(int.from_bytes(seen[0], "big"), int.from_bytes(seen[-1], "big"), saved)
"""


@pytest.mark.parametrize("every", [1, 3])
def test_a_killed_run_loses_at_most_the_rounds_since_its_checkpoint(tmp_path: Path, every: int) -> None:
    """SIGKILL again and again: each life goes on from the last one's checkpoint, the end is the uninterrupted run."""
    path = tmp_path / "run.pt"
    arguments = [str(Path(__file__).parent), str(path), str(every), str(KILLS)]
    output = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], check=True, capture_output=True, text=True)
    lives = [tuple(int(word) for word in line.split()) for line in output.stdout.splitlines()]
    assert len(lives) == KILLS
    before = 0
    for first, last, saved in lives:  # `last` is the last round that ended before the kill, from 0
        assert first == before
        assert saved % every == 0
        assert saved >= last // every * every
        before = saved
    config = ft.TrainConfig(rounds=before + 2, personal_steps=1, pruned_steps=1)
    assert same(run(config, ft.Checkpoint(path)), run(config))


def test_a_checkpoint_that_is_none_or_too_long_is_refused(tmp_path: Path) -> None:
    saved = ft.Checkpoint(tmp_path / "run.pt")
    run(CONFIG, saved)
    with pytest.raises(ValueError, match=r"^checkpoint .*run.pt holds 7 rounds, rounds is 5$"):
        run(replace(CONFIG, rounds=5), saved)
    for content in (b"", b"not a checkpoint", (tmp_path / "run.pt").read_bytes()[:1000]):
        (tmp_path / "run.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"run.pt is no checkpoint of this version of fltrain$"):
            run(CONFIG, saved)


def test_a_refused_device_is_refused_again_after_a_restart(tmp_path: Path) -> None:
    """A device that diverges in every round: the resumed history names it as the uninterrupted one does."""
    data = list(shares())
    data[2] = replace(data[2], train_x=data[2].train_x * 1e30)
    config = replace(CONFIG, importance="movement", rounds=6)
    runs = {}
    for stop in (None, 3):
        saved = ft.Checkpoint(tmp_path / f"{stop}.pt", every=2)
        if stop is not None:

            def interrupt(t: int, u: torch.Tensor, personal: object, stop: int = stop) -> None:
                if t == stop:
                    raise InterruptedRunError

            with pytest.raises(InterruptedRunError):
                ft.train(split(), data, config, Constant(4, 0.5), False, checkpoint=saved, observer=interrupt)
        runs[stop] = ft.train(split(), data, config, Constant(4, 0.5), False, checkpoint=saved)
    assert [r["left_out"] for r in runs[None].records] == [[2]] * 6
    assert same(runs[3], runs[None])
