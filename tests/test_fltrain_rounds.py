"""Frozen rounds and sparse uploads: what is trained, sent, kept back, reported, accounted and averaged."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fltrain_cases import Constant, TinyModel, digits, one_sample, shares
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fltrain as ft
from fltrain import chain
from fltrain.accounting import HEADER_BITS, mask_law, subset_bits
from fltrain.aggregate import CoverageMean
from fltrain.curve import REPORT_BITS, report_change
from fltrain.local import Upload, device_round, draw_batches
from fltrain.masks import keep_mask
from fltrain.replica import Replica

ONE_STEP = ft.TrainConfig(personal_steps=0, probe_steps=1, pruned_steps=1, learning_rate_global=0.5)
TINY = ft.Split(TinyModel([1.0, -0.5, 0.25]), ("b",))


def slope(w: np.ndarray, x: list[float], y: int) -> np.ndarray:
    """Of softmax cross-entropy of TinyModel without biases, in its three weights."""
    p0 = 1 / (1 + math.exp(w[1] * x[1] - w[0] * x[0] - w[2] * x[2]))
    return np.array([(p0 - (y == 0)) * x[0], (1 - p0 - (y == 1)) * x[1], (p0 - (y == 0)) * x[2]])


def run(config: ft.TrainConfig, rho: float, u: torch.Tensor, state: ft.PersonalState, t: int = 0) -> Upload:
    return device_round(Replica(TINY), u, state, one_sample([2.0, 1.0, 3.0], 0), config, rho, t, 0)


def test_a_frozen_round_by_hand() -> None:
    u = TINY.initial_global()
    upload = run(replace(ONE_STEP, update="frozen", pruned_steps=2), 1 / 3, u, TINY.initial_personal())
    w = u.numpy().astype(float)
    kept = np.array([1.0, 0.0, 1.0])  # the probe moves weight j in proportion to |x_j|
    for _ in range(2):  # the dropped weight takes part in the model, and stays
        w = w - 0.5 * kept * slope(w, [2.0, 1.0, 3.0], 0)
    assert upload.mask is not None
    assert upload.mask.tolist() == [True, False, True]
    np.testing.assert_allclose(upload.values, w * kept, atol=2e-7)
    assert upload.pruning_error_sq == 0.0


def test_a_sparse_upload_and_what_it_holds_back_by_hand() -> None:
    config = replace(ONE_STEP, update="sparse", error_feedback=True)
    u = TINY.initial_global()
    first = run(config, 1 / 3, u, TINY.initial_personal())
    w = u.numpy().astype(float)
    change = -0.5 * slope(w, [2.0, 1.0, 3.0], 0)
    assert first.mask is not None
    assert first.mask.tolist() == [True, False, True]
    np.testing.assert_allclose(first.values, (w + change) * [1, 0, 1], atol=2e-7)
    np.testing.assert_allclose(first.personal.unsent, change * [0, 1, 0], atol=2e-7)
    assert first.pruning_error_sq == pytest.approx(change[1] ** 2, rel=1e-5)
    assert first.report is not None
    assert first.report.change_sq == pytest.approx(change @ change, rel=1e-5)

    # From the same u again: what was kept back is added. Everything is sent at ratio 0, and then nothing is left.
    second = run(config, 0.0, u, first.personal)
    np.testing.assert_allclose(second.values, w + change + change * [0, 1, 0], atol=2e-7)
    assert second.mask is None
    assert not second.personal.unsent.any()
    plain = run(replace(config, error_feedback=False), 1 / 3, u, TINY.initial_personal())
    assert plain.personal.unsent.numel() == 0
    assert plain.values is not None
    assert first.values is not None
    assert torch.equal(plain.values, first.values)


def test_nothing_is_kept_back_while_rounds_of_another_kind_pass() -> None:
    config = replace(ONE_STEP, update="sparse", error_feedback=True)
    held = run(config, 1 / 3, TINY.initial_global(), TINY.initial_personal()).personal
    after = run(replace(config, update="frozen"), 1 / 3, TINY.initial_global(), held).personal
    assert held.unsent.any()
    assert torch.equal(after.unsent, held.unsent)


def test_units_may_be_frozen() -> None:
    split = ft.Split(ft.build_model("mlp", digits()), ("head",))
    config = ft.TrainConfig(update="frozen", structure="units")
    state, u = split.initial_personal(), split.initial_global()
    replica = Replica(split, fast=True, structure="units")
    upload = device_round(replica, u, state, shares()[0], config, 0.5, 0, 0)
    plain = device_round(Replica(split, structure="units"), u, state, shares()[0], config, 0.5, 0, 0)
    assert upload.values is not None
    assert plain.values is not None
    assert upload.mask is not None
    np.testing.assert_allclose(upload.values, plain.values, rtol=1e-4, atol=1e-6)
    assert not upload.values[~upload.mask].any()
    with pytest.raises(ValueError, match=r"^structure must be weights when update is sparse, got 'units'$"):
        replace(config, update="sparse")


def test_a_diverged_sparse_round_sends_nothing_and_keeps_what_it_held_back() -> None:
    split = ft.Split(ft.build_model("mlp", digits()), ("head",))
    config = ft.TrainConfig(update="sparse", learning_rate_global=1e30, error_feedback=True)
    state = replace(split.initial_personal(), unsent=torch.ones(split.n_global))
    upload = device_round(Replica(split), split.initial_global(), state, shares()[0], config, 0.5, 0, 0)
    assert upload.values is None
    assert upload.personal is state


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(1, 400), st.integers(0, 10_000), st.sampled_from([0.0, 1.0, 4.0]))
def test_the_reported_curve_is_what_a_mask_would_lose(n: int, seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    change = torch.from_numpy((rng.normal(size=n) * 10 ** rng.normal(size=n, scale=spread)).astype(np.float32))
    change[rng.random(n) < 0.3] = 0.0
    report = report_change(change)
    squares = change.double().square()
    assert report.change_sq == pytest.approx(float(squares.sum()))
    if not report.change_sq:
        return
    error, ratio = report.error, ft.ERROR_RATIOS
    assert error[0] == 0.0
    assert error[-1] == 1.0
    rise = np.diff(error) / np.diff(ratio)
    assert (np.diff(rise) >= -1e-9).all()  # convex
    assert (rise >= 0.0).all()
    for rho, share in zip(ratio, error, strict=True):
        dropped = rho * n
        if abs(dropped - round(dropped)) < 1e-9:  # else the curve lies between two masks
            lost = float(squares[~keep_mask(change.abs(), float(rho))].sum())
            assert share * report.change_sq == pytest.approx(lost, rel=1e-9, abs=1e-12 * report.change_sq)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(1, 6), st.integers(1, 8), st.floats(0.2, 4.0), st.sampled_from(["covered", "fill"]), st.integers(0))
def test_server_step_against_a_slow_loop(devices: int, n: int, rate: float, averaging: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    u = rng.normal(size=n).astype(np.float32)
    masks = rng.random((devices, n)) < 0.5
    values = (rng.normal(size=(devices, n)) * masks).astype(np.float32)
    alpha = rng.uniform(0.1, 1.0, devices)  # not all devices need have taken part
    mean = CoverageMean(n, averaging, rate)  # type: ignore[arg-type]
    for k in range(devices):
        mean.add(torch.from_numpy(values[k]), torch.from_numpy(masks[k]), alpha[k])
    expected = u.astype(np.float64)
    for j in range(n):
        kept = [k for k in range(devices) if masks[k, j]]
        if kept:
            over = alpha.sum() if averaging == "fill" else alpha[kept].sum()
            expected[j] += rate * sum(alpha[k] * (float(values[k, j]) - float(u[j])) for k in kept) / over
    np.testing.assert_allclose(mean.result(torch.from_numpy(u)), expected, rtol=1e-6, atol=1e-6)


def test_the_size_of_a_filled_step_does_not_grow_as_fewer_keep_a_coordinate() -> None:
    u = torch.zeros(1)
    for keepers in range(1, 5):
        filled, covered = CoverageMean(1, "fill"), CoverageMean(1)
        for k in range(4):
            mask = torch.tensor([k < keepers])
            for mean in (filled, covered):
                mean.add(torch.ones(1) * mask, mask, 0.25)
        assert float(filled.result(u)) == pytest.approx(keepers / 4)
        assert float(covered.result(u)) == pytest.approx(1.0)


# Multiply-adds per sample of the three layers of the digits MLP.
FC1, FC2, HEAD = 64 * 64, 64 * 32, 32 * 10


@pytest.mark.parametrize(
    ("update", "dense", "pruned"),
    [
        # Forward, and the slopes of the inputs of head and fc2; the two weight gradients can be saved.
        ("frozen", FC1 + FC2 + HEAD + HEAD + FC2, FC1 + FC2),
        ("sparse", FC1 + FC2 + HEAD + FC1 + FC2 + HEAD + FC2, 0),
        ("zeroed", 0, FC1 + FC2 + HEAD + FC1 + FC2 + HEAD + FC2),
    ],
)
def test_flops_of_each_kind_by_hand(update: str, dense: int, pruned: int) -> None:
    config = ft.TrainConfig(update=update, probe_steps=2, pruned_steps=4, batch_size=16)  # type: ignore[arg-type]
    work = ft.count_workload(ft.Split(ft.build_model("mlp", digits())), config, shares())
    np.testing.assert_array_equal(work.dense_flops, 4 * 2 * 16 * dense)
    np.testing.assert_array_equal(work.pruned_flops, 4 * 2 * 16 * pruned)
    assert bool(work.probe_flops.any()) == (update != "sparse")
    base = ft.count_workload(ft.Split(ft.build_model("mlp", digits())), replace(config, update="zeroed"), shares())
    for name, value in vars(base.as_round(update)).items():  # type: ignore[arg-type]
        if name != "changes":
            np.testing.assert_array_equal(value, getattr(work, name), err_msg=name)


def test_flops_of_a_frozen_convolution_without_bias() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10)
    )
    config = ft.TrainConfig(update="frozen", personal_steps=0, pruned_steps=1, batch_size=8)
    work = ft.count_workload(ft.Split(model, ("5",)), config, shares())
    first, second, head = 36 * 4 * 9, 16 * 2 * 4 * 9, 32 * 10
    assert set(work.dense_flops) == {2 * 8 * (first + second + head + second + head)}
    assert set(work.pruned_flops) == {2 * 8 * (first + second)}


@settings(deadline=None, derandomize=True)
@given(st.integers(2, 10_000), st.floats(0.001, 0.5), st.floats(0.0, 1.0))
def test_the_law_of_a_mask_is_never_below_what_it_takes(n: int, at: float, share: float) -> None:
    fixed, kept_bits = mask_law(at)
    kept = round(share * n)
    assert subset_bits(n, kept) <= n * (fixed + kept_bits * kept / n) * (1 + 1e-9)
    whole, none = mask_law(0.5)
    assert (whole, none) == (1.0, 0.0)


def test_what_a_sparse_upload_takes() -> None:
    split = ft.Split(ft.build_model("mlp", digits()), ("head",))
    config = ft.TrainConfig(rounds=1, update="sparse")
    history = ft.train(split, shares(), config, Constant(4, rho=0.99), progress=False)
    n = split.n_global
    kept = n - round(0.99 * n)
    indices = kept * math.ceil(math.log2(n))
    each = HEADER_BITS + REPORT_BITS + 32 * kept + min(subset_bits(n, kept), indices)
    assert history.records[0]["uploaded_bits"] == pytest.approx(4 * each)
    work = ft.count_workload(split, config, shares(), keep_ratio=0.01)
    planned = work.payload_bits * kept / n + work.overhead_bits
    assert (planned >= each).all()
    assert (planned <= 1.01 * each).all()  # at one bit per coordinate it would be three times as much


def history_of(config: ft.TrainConfig, tmp: Path | None = None, workers: int = 1) -> ft.History:
    split = ft.Split(ft.build_model("mlp", digits()), ("head",))
    saved = None if tmp is None else ft.Checkpoint(tmp / "run.pt", every=1)
    return ft.train(split, shares(), config, Adaptive(), progress=False, checkpoint=saved, workers=workers)


class Adaptive:
    """Prunes by what devices reported: a resumed run must know it too."""

    def __call__(self, round_index: int, workload: ft.Workload) -> ft.RoundPlan:
        ratio = np.full(4, 0.5)
        if workload.changes is not None:
            ratio = np.clip(np.nan_to_num(workload.changes.change_sq / np.nanmax(workload.changes.change_sq)), 0.1, 0.9)
        kinds = ("sparse", "frozen")
        return ft.RoundPlan(ratio, np.ones(4), np.ones(4), np.ones(4, bool), update=kinds[round_index % 2])  # type: ignore[arg-type]


@pytest.mark.parametrize("sampling", ["epochs", "replacement"])
def test_a_resumed_run_and_one_with_workers_are_the_same(tmp_path: Path, sampling: str) -> None:
    config = ft.TrainConfig(
        rounds=5,
        update="sparse",
        error_feedback=True,
        averaging="fill",
        server_rate=2.0,
        sampling=sampling,  # type: ignore[arg-type]
        participation=0.5,
    )
    whole = history_of(config)
    assert [r["update"] for r in whole.records] == ["sparse", "frozen", "sparse", "frozen", "sparse"]
    assert any(any(p.unsent) for p in whole.personal)
    history_of(replace(config, rounds=3), tmp_path)
    resumed = history_of(config, tmp_path)
    side_by_side = history_of(config, workers=2)
    for other in (resumed, side_by_side):
        assert other.records == whole.records
        assert torch.equal(other.u, whole.u)
        for mine, theirs in zip(other.personal, whole.personal, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine.tensors(), theirs.tensors(), strict=True))


def test_history_holds_the_curve_of_what_was_reported() -> None:
    history = history_of(ft.TrainConfig(rounds=2, update="sparse"))
    for record in history.records:
        curve = np.array(record["error_curve"])
        assert curve.shape == ft.ERROR_RATIOS.shape
        assert (np.diff(curve) >= 0).all()
        assert all(size > 0 for size in record["change_sq_per_device"])
    zeroed = ft.train(
        ft.Split(ft.build_model("mlp", digits())), shares(), ft.TrainConfig(rounds=1), Constant(4, 0.5), progress=False
    )
    assert zeroed.records[0]["error_curve"] is None
    assert zeroed.records[0]["change_sq_per_device"] == [None] * 4


def test_replacement_draws_every_sample_alike_and_repeats_some() -> None:
    batches = draw_batches(np.random.default_rng(0), 10, 4, 5000, "replacement")
    assert batches.shape == (5000, 4)
    counts = np.bincount(batches.ravel(), minlength=10)
    assert abs(counts - 2000).max() < 5 * math.sqrt(2000)
    pairs = [len(set(row.tolist())) < 4 for row in batches]
    assert np.mean(pairs) == pytest.approx(1 - 10 * 9 * 8 * 7 / 10**4, abs=0.03)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ("masked", r"^plan\.update must be one of zeroed, frozen, sparse, got 'masked'$"),
        ("frozen", r"needs probe_steps >= 1$"),
    ],
)
def test_a_plan_of_an_impossible_kind_is_refused(update: str, message: str) -> None:
    split = ft.Split(ft.build_model("mlp", digits()), ("head",))
    plan = replace(Constant(4, rho=0.5).plan, update=update)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        ft.train(split, shares(), ft.TrainConfig(update="sparse", probe_steps=0), lambda t, work: plan, progress=False)


def test_a_sparse_round_needs_no_probe() -> None:
    split = ft.Split(ft.build_model("mlp", digits()), ("head",))
    config = ft.TrainConfig(rounds=1, update="sparse", probe_steps=0)
    history = ft.train(split, shares(), config, Constant(4, rho=0.5), progress=False)
    assert history.records[0]["left_out"] == []


GELU = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.GELU(), nn.Linear(8, 10))


@pytest.mark.skipif(chain._chain is None, reason="installed without a C compiler")
@pytest.mark.parametrize(
    ("model", "fast", "steps"),
    [
        (ft.build_model("mlp", digits()), True, "compiled"),
        (ft.build_model("mlp", digits()), False, "autograd: fast is False"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.GELU(), nn.Linear(8, 10)),
            True,
            "autograd: compiled code has no GELU like 2",
        ),
        (TinyModel([1.0, 1.0, 1.0]), True, "autograd: the model is a TinyModel, not an nn.Sequential"),
    ],
)
def test_what_trains_a_model_is_said_and_why(
    model: nn.Module, fast: bool, steps: str, caplog: pytest.LogCaptureFixture
) -> None:
    tiny = isinstance(model, TinyModel)
    split = ft.Split(model, ("b",) if tiny else ("head",) if hasattr(model, "head") else ("3",))
    config = ft.TrainConfig(rounds=1, fast=fast, personal_steps=20)
    data = [one_sample([2.0, 1.0, 3.0], 0)] * 4 if tiny else shares()
    with caplog.at_level("INFO", logger="fltrain"):
        history = ft.train(split, data, config, Constant(4), progress=False)
    assert history.stats["steps"] == steps
    assert f"trainer: steps {steps}; features " in caplog.text
    assert ("computed once" in history.stats["features"]) == (fast and not tiny)


def test_on_how_many_devices_features_are_computed_once_is_said() -> None:
    split = ft.Split(ft.build_model("mlp", digits()))
    data = shares()
    few = replace(data[0], train_x=data[0].train_x[:32], train_y=data[0].train_y[:32])

    def said(first: ft.DeviceData, steps: int) -> str:
        config = ft.TrainConfig(rounds=1, personal_steps=steps, batch_size=32)
        return ft.train(split, [first, *data[1:]], config, Constant(4), progress=False).stats["features"]

    assert min(len(share.train_y) for share in data) >= 64
    assert said(few, 2).startswith("computed once on 1 of 4 devices")  # its 32 samples twice, the others' once at most
    assert said(data[0], 2) == (
        "not computed apart: no device's personal steps use each sample often enough in the first round"
    )
