"""Batch sizes of each device's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fltrain_cases import Constant, digits, shares
from torch import nn

import fltrain as ft

SIZES = (4, 16, 7, 70)  # the last is more than a device has
EITHER = "batch_size must be an integer >= 1, or a sequence of one for each device"


def split() -> ft.Split:
    return ft.Split(ft.build_model("mlp", digits(), seed=2), ("head",))


def config(**changes: Any) -> ft.TrainConfig:
    usual: dict[str, Any] = {"rounds": 3, "update": "sparse", "batch_size": SIZES, "seed": 5}
    return ft.TrainConfig(**usual | changes)


def test_one_number_for_each_is_one_number_for_all() -> None:
    runs = [ft.train(split(), shares(), config(batch_size=size), Constant(4, 0.5)) for size in (8, [8] * 4)]
    assert torch.equal(runs[0].u, runs[1].u)
    assert [r["accuracy"] for r in runs[0].records] == [r["accuracy"] for r in runs[1].records]


@pytest.mark.parametrize("update", ["zeroed", "frozen", "sparse"])
def test_each_device_trains_as_it_would_with_its_own_number_for_all(update: Any) -> None:
    """With one device asked nobody else's batches matter."""
    for k, size in enumerate(SIZES):

        def planner(round_index: int, workload: ft.Workload, k: int = k) -> ft.RoundPlan:
            return ft.RoundPlan(np.full(4, 0.5), np.ones(4), np.zeros(4), np.arange(4) == k)

        def trained(sizes: Any, planner: Any = planner) -> ft.History:
            return ft.train(split(), shares(), config(update=update, batch_size=sizes), planner)

        own, same, other = trained(SIZES), trained(size), trained(size - 1)
        for mine, theirs in zip(own.personal[k].tensors(), same.personal[k].tensors(), strict=True):
            assert torch.equal(mine, theirs)
        assert torch.equal(own.u, same.u)
        assert k == 3 or not torch.equal(own.u, other.u)  # the last uses all it has either way


@pytest.mark.parametrize("update", ["zeroed", "frozen", "sparse"])
def test_work_grows_with_each_device_s_own_samples(update: Any) -> None:
    whole = ft.count_workload(split(), config(update=update, batch_size=1), shares())
    work = ft.count_workload(split(), config(update=update), shares())
    samples = np.minimum(SIZES, [len(share.train_y) for share in shares()])
    assert samples[3] < SIZES[3]
    for name in ("personal_flops", "probe_flops", "pruned_flops", "dense_flops", "passes_flops"):
        np.testing.assert_allclose(getattr(work, name), samples * getattr(whole, name), rtol=1e-12)


def test_any_sequence_of_whole_numbers_is_taken() -> None:
    for given in (list(SIZES), np.array(SIZES), SIZES):
        assert config(batch_size=given).batch_size == SIZES
    assert [config().batch_of(k) for k in range(4)] == list(SIZES)
    assert config(batch_size=np.int64(9)).batch_of(3) == 9


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((8, 0, 8, 8), r"batch_size\[1\] must be an integer >= 1, got 0"),
        ((8, 8, 2.5, 8), r"batch_size\[2\] must be an integer >= 1, got 2\.5"),
        ((True, 8, 8, 8), r"batch_size\[0\] must be an integer >= 1, got True"),
        ((), "batch_size must hold one number for each device, got none"),
        ([8, [8, 8], 8, 8], r"batch_size\[1\] must be an integer >= 1, got \[8, 8\]"),
        (np.full((4, 99), 8), r"batch_size\[0\] must be an integer >= 1, got \[8, 8, .*"),
        ("8888", f"{EITHER}, got '8888'"),
        (b"8888", f"{EITHER}, got b'8888'"),
        (bytearray(b"88"), rf"{EITHER}, got bytearray\(b'88'\)"),
        (None, f"{EITHER}, got None"),
        (0, f"{EITHER}, got 0"),
        (torch.arange(1, 400), rf"{EITHER}, got tensor\(\[ ?1, .*"),
    ],
)
def test_what_is_no_batch_size_is_named(given: object, said: str) -> None:
    with pytest.raises(ValueError, match=rf"^{said}$") as caught:
        config(batch_size=given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [(8, 8, 8), (8,) * 5])
def test_there_is_one_for_each_device(given: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"^batch_size has numbers for {len(given)} devices, there are 4$"):
        ft.train(split(), shares(), config(batch_size=given), Constant(4, 0.5))
    with pytest.raises(ValueError, match=rf"^batch_size has numbers for {len(given)} devices, there are 4$"):
        ft.count_workload(split(), config(batch_size=given), shares())


def test_a_batch_that_the_model_cannot_train_on_is_refused_by_device() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
    said = r"^shares\[2\]\.train_x: the model cannot train on 1 sample; raise batch_size \("
    with pytest.raises(ValueError, match=said):
        ft.train(ft.Split(model, ("4",)), shares(), config(batch_size=(8, 8, 1, 8)), Constant(4, 0.5))


def test_a_run_goes_on_with_the_same_sizes_only(tmp_path: Path) -> None:
    saved = ft.Checkpoint(tmp_path / "run.pt", every=1)
    ft.train(split(), shares(), config(rounds=2), Constant(4, 0.5), checkpoint=saved)
    with pytest.raises(ValueError, match=r"batch_size\[3\] was 70, is 69"):
        ft.train(split(), shares(), config(batch_size=(4, 16, 7, 69)), Constant(4, 0.5), checkpoint=saved)
    resumed = ft.train(split(), shares(), config(batch_size=list(SIZES)), Constant(4, 0.5), checkpoint=saved)
    straight = ft.train(split(), shares(), config(), Constant(4, 0.5))
    assert torch.equal(resumed.u, straight.u)
