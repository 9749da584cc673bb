"""Batch sizes of each device's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fltrain_cases import Constant, digits, shares

import fltrain as ft

SIZES = (4, 16, 7, 70)  # the last is more than a device has


def split() -> ft.Split:
    return ft.Split(ft.build_model("mlp", digits(), seed=2), ("head",))


def config(**changes: Any) -> ft.TrainConfig:
    usual: dict[str, Any] = {"rounds": 3, "update": "sparse", "batch_size": SIZES, "seed": 5}
    return ft.TrainConfig(**usual | changes)


def test_one_number_for_each_is_one_number_for_all() -> None:
    runs = [ft.train(split(), shares(), config(batch_size=size), Constant(4, 0.5)) for size in (8, [8] * 4)]
    assert torch.equal(runs[0].u, runs[1].u)
    assert [r["accuracy"] for r in runs[0].records] == [r["accuracy"] for r in runs[1].records]


def test_each_device_trains_as_it_would_with_its_own_number_for_all() -> None:
    """With one device asked nobody else's batches matter."""
    for k, size in enumerate(SIZES):
        alone = np.arange(4) == k

        def planner(
            round_index: int, workload: ft.Workload, alone: np.ndarray[Any, np.dtype[np.bool_]] = alone
        ) -> ft.RoundPlan:
            return ft.RoundPlan(np.full(4, 0.5), np.ones(4), np.zeros(4), alone)

        runs = [ft.train(split(), shares(), config(batch_size=each), planner) for each in (SIZES, size)]
        assert torch.equal(runs[0].u, runs[1].u)
    other = ft.train(split(), shares(), config(batch_size=5), planner)
    assert not torch.equal(runs[0].u, other.u)


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
        ("8888", "batch_size must be an integer >= 1, got '8888'"),
        (None, "batch_size must be an integer >= 1, got None"),
    ],
)
def test_what_is_no_batch_size_is_named(given: object, said: str) -> None:
    with pytest.raises(ValueError, match=rf"^{said}$"):
        config(batch_size=given)


@pytest.mark.parametrize("given", [(8, 8, 8), (8,) * 5])
def test_there_is_one_for_each_device(given: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"^batch_size has numbers for {len(given)} devices, there are 4$"):
        ft.train(split(), shares(), config(batch_size=given), Constant(4, 0.5))


def test_a_run_goes_on_with_the_same_sizes_only(tmp_path: Path) -> None:
    saved = ft.Checkpoint(tmp_path / "run.pt", every=1)
    ft.train(split(), shares(), config(rounds=2), Constant(4, 0.5), checkpoint=saved)
    with pytest.raises(ValueError, match="batch_size"):
        ft.train(split(), shares(), config(batch_size=(4, 16, 7, 69)), Constant(4, 0.5), checkpoint=saved)
    resumed = ft.train(split(), shares(), config(batch_size=list(SIZES)), Constant(4, 0.5), checkpoint=saved)
    straight = ft.train(split(), shares(), config(), Constant(4, 0.5))
    assert torch.equal(resumed.u, straight.u)
