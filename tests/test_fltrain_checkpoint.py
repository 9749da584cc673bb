from __future__ import annotations

import errno
import hashlib
import math
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fltrain_cases import Constant, digits, shares
from torch import nn

import fltrain as ft
from fltrain import checkpoint

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


class InterruptedRunError(BaseException):
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
        with pytest.raises(ValueError, match=r"run\.pt is damaged"):
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


def finished(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a checkpoint, and the identity it is asked for with."""
    run(CONFIG, ft.Checkpoint(path))
    return path.read_bytes(), checkpoint.identity(split(), shares(), CONFIG)


def test_every_kind_of_damage_is_refused_in_one_way(tmp_path: Path) -> None:
    """Single bits, cuts, additions, overwritten stretches: nothing is read that is not what was written."""
    path = tmp_path / "run.pt"
    whole, wanted = finished(path)
    draw = np.random.default_rng(0)
    damaged = [b"", b"hello", bytes(1000), whole + b"\0", whole[1:], whole[::-1], whole[: len(whole) // 2] * 2]
    damaged += [whole[:n] for n in draw.integers(len(whole), size=40)] + [whole[:-1]]
    for at in [*draw.integers(len(whole), size=150), *range(len(whole) - 90, len(whole), 7)]:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(draw.integers(8))
        damaged.append(bytes(flipped))
    for content, says in ((b"", "it is empty"), (damaged[-1], "its checksum is not"), (whole[:99], "cut short or not")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"run\.pt is damaged.*{says}"):
            checkpoint.load(path, wanted)
    for at in draw.integers(len(whole) - 64, size=20):
        damaged.append(whole[:at] + draw.bytes(64) + whole[at + 64 :])
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"run\.pt is damaged"):
            checkpoint.load(path, wanted)
    path.write_bytes(whole)
    assert checkpoint.load(path, wanted) is not None


class Evil:
    def __reduce__(self) -> Any:
        return (open, (str(Path(__file__).parent / "pwned"), "w"))


@pytest.mark.parametrize(
    "change",
    [
        {"u": torch.zeros(3)},
        {"u": torch.full((1,), math.nan)},
        {"u": None},
        {"u": [1.0]},
        {"personal": []},
        {"personal": 3},
        {"personal": [()] * 4},
        {"personal": [(torch.zeros(2), torch.empty(0))] * 4},
        {"records": 3},
        {"records": [1, 2, 3]},
        {"records": [{}]},
        {"records": "round"},
        {"reports": "x"},
        {"reports": {0: {"samples": "many"}}},
        {"changes": [1]},
        {"changes": {9: [0.0] * (1 + len(ft.ERROR_RATIOS))}},
        {"changes": {0: [math.inf] + [0.0] * len(ft.ERROR_RATIOS)}},
        {"changes": {0: [1.0]}},
    ],
)
def test_well_sealed_nonsense_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    """Written whole and with its checksum, but with other types, shapes or numbers than a run's."""
    path = tmp_path / "run.pt"
    _, wanted = finished(path)
    content = checkpoint.read_whole(path)
    name, value = next(iter(change.items()))
    if name == "u" and isinstance(value, torch.Tensor) and value.numel() == 1:
        value = content["u"].clone()
        value[5] = math.nan
    checkpoint.write_whole(path, content | {name: value})
    with pytest.raises(ValueError, match=r"run\.pt is no checkpoint of this version of fltrain$"):
        checkpoint.load(path, wanted)


@pytest.mark.parametrize(
    "change", [{"dtype": torch.float64}, {"rounds": True}, {"round": 3}, {"wall_clock_s": math.inf}]
)
def test_a_value_of_another_kind_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    _, wanted = finished(path)
    content = checkpoint.read_whole(path)
    if "dtype" in change:
        content["u"] = content["u"].double()
    elif "rounds" in change:
        del content["records"][-1]["train_loss"]
    else:
        content["records"][-1] |= change
    checkpoint.write_whole(path, content)
    with pytest.raises(ValueError, match=r"run\.pt is no checkpoint of this version of fltrain$"):
        checkpoint.load(path, wanted)


@pytest.mark.parametrize("sealed", [True, False])
def test_no_code_of_a_file_is_run(sealed: bool, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    _, wanted = finished(path)
    if sealed:
        checkpoint.write_whole(path, {"identity": Evil()})
    else:
        path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match=r"no checkpoint" if sealed else r"is damaged"):
        checkpoint.load(path, wanted)
    assert not (Path(__file__).parent / "pwned").exists()


def test_the_checksum_is_read_by_other_tools_too(tmp_path: Path) -> None:
    """The file stays a zip archive that torch opens; its comment is the checksum of what stands before it."""
    whole, _ = finished(tmp_path / "run.pt")
    comment = zipfile.ZipFile(tmp_path / "run.pt").comment
    assert comment == b"fltrain 2 sha256 " + hashlib.sha256(whole[: -len(comment)]).hexdigest().encode()
    assert torch.load(tmp_path / "run.pt", weights_only=True)["identity"]["rounds"] == 7


# What the result depends on.


class Own(nn.Module):
    """A user's own class: what it computes is not in its name."""

    def __init__(self, scale: float = 1.0, act: Any = torch.relu, hidden: float | None = None) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(64, 16), nn.Linear(16, 10)
        self.scale, self.act = scale, act
        self._code = hidden

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.scale * self.fc(x.flatten(1))))


def built(middle: nn.Module, *, frozen: int = 0, initial: int = 1) -> ft.Split:
    torch.manual_seed(frozen)
    backbone = nn.Linear(64, 16).requires_grad_(False)
    torch.manual_seed(initial)
    return ft.Split(nn.Sequential(nn.Flatten(), backbone, middle, nn.Linear(16, 8), nn.Linear(8, 10)), ("4",))


def own(**options: Any) -> ft.Split:
    torch.manual_seed(0)
    return ft.Split(Own(**options))


def hooked() -> ft.Split:
    split = built(nn.ReLU())
    split.model[2].register_forward_hook(lambda module, inputs, output: 2 * output)
    return split


def normed(mean: float) -> nn.Module:
    norm = nn.BatchNorm1d(16)
    assert norm.running_mean is not None
    norm.running_mean.fill_(mean)
    return norm


class Otherwise(Own):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.fc(x.flatten(1))))


def other_code() -> ft.Split:
    torch.manual_seed(0)
    model = Otherwise()
    model.__class__.__qualname__ = "Own"
    return ft.Split(model)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (lambda: built(nn.ReLU()), lambda: built(nn.ReLU(), frozen=7), r"frozen parameters was \d+, is \d+$"),
        (lambda: built(nn.ReLU()), lambda: built(nn.Tanh()), r"module 2 was 'ReLU\(inplace=False\)', is 'Tanh\(\)'$"),
        (
            lambda: built(nn.ELU()),
            lambda: built(nn.ELU(0.5)),
            r"module 2 was 'ELU\(alpha=1\.0, .*', is 'ELU\(alpha=0\.5",
        ),
        (lambda: built(nn.Dropout(0.1)), lambda: built(nn.Dropout(0.2)), r"module 2 was 'Dropout\(.*p=0\.1.* is 'Drop"),
        (lambda: built(nn.BatchNorm1d(16)), lambda: built(nn.BatchNorm1d(16, momentum=0.5)), r"module 2 was .*=0\.1"),
        (lambda: built(nn.BatchNorm1d(16)), lambda: built(nn.BatchNorm1d(16, eps=0.1)), r"module 2 was .*eps=1e-05"),
        (lambda: built(normed(0.0)), lambda: built(normed(1.0)), r"initial personal part was \d+, is \d+$"),
        (lambda: built(nn.ReLU()), hooked, r"module 2 was .* is 'ReLU\(inplace=False, _forward_hooks=hooked"),
        (own, lambda: own(scale=1.5), r"module itself was 'Own\(.*scale=1\.0\)', is 'Own\(.*scale=1\.5\)'$"),
        (
            own,
            lambda: own(act=torch.tanh),
            r"module itself was 'Own\(_code=None, act=.*relu.*' is 'Own\(.*tanh|itself was",
        ),
        (own, lambda: own(hidden=0.5), r"module itself was 'Own\(_code=None, .*', is 'Own\(_code=0\.5"),
        (own, other_code, r"is of another run: the model gives other outputs$"),
        (lambda: own(act=lambda x: x), lambda: own(act=lambda x: x + 1), r"module itself was .*<lambda> \w{8}"),
    ],
)
def test_another_model_is_refused(first: Any, second: Any, message: str, tmp_path: Path) -> None:
    """Frozen layers, activations, hyperparameters, statistics, hooks, attributes and code: all change the result."""
    saved, config = ft.Checkpoint(tmp_path / "run.pt", every=1), ft.TrainConfig(rounds=1, pruned_steps=1)
    ft.train(first(), shares(), config, Constant(4, 0.5), progress=False, checkpoint=saved)
    with pytest.raises(ValueError, match=message):
        ft.train(second(), shares(), replace(config, rounds=2), Constant(4, 0.5), progress=False, checkpoint=saved)
    longer = ft.train(first(), shares(), replace(config, rounds=2), Constant(4, 0.5), progress=False, checkpoint=saved)
    assert len(longer.records) == 2


def test_rounding_of_another_machine_is_no_other_model() -> None:
    wanted = checkpoint.identity(own(), shares(), CONFIG)
    near = wanted | {"outputs": [value * (1 + 1e-6) for value in wanted["outputs"]]}
    assert checkpoint.first_difference(near, wanted) is None
    far = wanted | {"outputs": [value * 1.01 for value in wanted["outputs"]]}
    assert checkpoint.first_difference(far, wanted) == "the model gives other outputs"
    assert checkpoint.first_difference(wanted | {"module x": "ReLU()"}, wanted) == "module x was 'ReLU()', is None"
    assert checkpoint.first_difference(wanted | {"seed": False}, wanted) == "seed was False, is 0"


def test_batch_norm_statistics_and_every_save_come_back(tmp_path: Path) -> None:
    """Resumed in the middle, a model with batch norm ends as the uninterrupted run, buffers included."""
    torch.manual_seed(0)
    norm = ft.Split(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10)), ("4",)
    )
    config, saved = replace(CONFIG, rounds=4, evaluate_every=1), ft.Checkpoint(tmp_path / "run.pt", every=1)

    def go(config: ft.TrainConfig, saved: ft.Checkpoint | None = None) -> ft.History:
        return ft.train(norm, shares(), config, Constant(4, 0.5), progress=False, checkpoint=saved)

    go(replace(config, rounds=2), saved)
    resumed, straight = go(config, saved), go(config)
    assert same(resumed, straight)
    for a, b in zip(resumed.personal, straight.personal, strict=True):
        assert len(a.buffers) == 3
        assert all(torch.equal(x, y) for x, y in zip(a.buffers, b.buffers, strict=True))
        assert int(a.buffers[2]) > 0


def test_a_write_that_fails_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up during the second save."""
    path = tmp_path / "run.pt"
    run(replace(CONFIG, rounds=2), ft.Checkpoint(path))
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*run\.pt'"):
        run(CONFIG, ft.Checkpoint(path))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]
