from __future__ import annotations

import copy
from collections.abc import Callable
from math import exp

import numpy as np
import pytest
import torch
from fltrain_cases import TinyModel, digits, one_sample, shares
from torch import nn
from torch.nn import functional

import fltrain as ft
from fltrain.curve import report_frozen
from fltrain.local import Upload, device_round, draw_batches, evaluate
from fltrain.masks import keep_mask
from fltrain.replica import Replica


def run(split: ft.Split, share: ft.DeviceData, config: ft.TrainConfig, rho: float, device: int = 0) -> Upload:
    u, personal = split.initial_global(), split.initial_personal()
    return device_round(Replica(split), u, personal, share, config, rho, 0, device)


def softmax_pair(a: float, b: float) -> tuple[float, float]:
    return 1 / (1 + exp(b - a)), 1 / (1 + exp(a - b))


def by_hand(
    w: list[float], x: list[float], y: int, dropped: int, eta: float, eta_v: float
) -> tuple[list[float], list[float]]:
    """One personal and one pruned step of TinyModel on one sample, in scalars: logits z0 = w0 x0 + w2 x2 + b0
    and z1 = w1 x1 + b1, slope of the loss in them p - onehot(y)."""
    p0, p1 = softmax_pair(w[0] * x[0] + w[2] * x[2], w[1] * x[1])
    b = [-eta_v * (p0 - (y == 0)), -eta_v * (p1 - (y == 1))]
    w = [0.0 if j == dropped else w[j] for j in range(3)]
    p0, p1 = softmax_pair(w[0] * x[0] + w[2] * x[2] + b[0], w[1] * x[1] + b[1])
    slope = [(p0 - (y == 0)) * x[0], (p1 - (y == 1)) * x[1], (p0 - (y == 0)) * x[2]]
    return [0.0 if j == dropped else w[j] - eta * slope[j] for j in range(3)], b


def test_a_round_by_hand() -> None:
    # |slope| is the same for both logits, so a probe step moves weight j in proportion to |x_j|.
    split = ft.Split(TinyModel([1.0, -0.5, 0.25]), ("b",))
    config = ft.TrainConfig(
        personal_steps=1, probe_steps=1, pruned_steps=1, learning_rate_global=0.5, learning_rate_personal=0.8
    )
    for x, y, dropped in (([2.0, 1.0, 3.0], 0, 1), ([0.5, 2.0, 1.5], 1, 0)):
        upload = run(split, one_sample(x, y), config, rho=1 / 3)
        w, b = by_hand([1.0, -0.5, 0.25], x, y, dropped, eta=0.5, eta_v=0.8)
        assert upload.mask is not None
        assert upload.mask.tolist() == [j != dropped for j in range(3)]
        np.testing.assert_allclose(upload.values, w, atol=2e-7)
        np.testing.assert_allclose(upload.personal.v, b, atol=2e-7)
        assert upload.pruning_error_sq == pytest.approx([1.0, 0.25, 0.0625][dropped])


def plain_sgd(model: nn.Module, names: tuple[str, ...], share: ft.DeviceData, batches: np.ndarray, rate: float) -> None:
    """Textbook training of some parameters by torch's own optimiser."""
    for name, p in model.named_parameters():
        p.requires_grad_(name in names)
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=rate)
    for batch in torch.from_numpy(batches):
        optimiser.zero_grad()
        functional.cross_entropy(model(share.train_x[batch]), share.train_y[batch]).backward()
        optimiser.step()
    model.requires_grad_(True)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("personal", [(), ("head",)])
def test_without_pruning_it_is_plain_sgd_to_the_bit(name: str, personal: tuple[str, ...]) -> None:
    model = ft.build_model(name, digits(), seed=5)  # type: ignore[arg-type]
    split, share = ft.Split(model, personal), shares()[2]
    config = ft.TrainConfig(personal_steps=4, pruned_steps=3, batch_size=16, seed=9)
    upload = run(split, share, config, rho=0.0, device=2)
    rng = np.random.default_rng((9, 0, 2))
    n = len(share.train_y)
    personal_batches, pruned_batches = draw_batches(rng, n, 16, 4), draw_batches(rng, n, 16, 3)
    if personal:
        plain_sgd(model, split.personal_names, share, personal_batches, 0.1)
    plain_sgd(model, split.global_names, share, pruned_batches, 0.1)
    trained = ft.Split(model, personal)
    assert upload.mask is None
    assert upload.values is not None
    assert torch.equal(upload.values, trained.initial_global())
    assert torch.equal(upload.personal.v, trained.initial_personal().v)


def test_pruned_steps_are_projected_sgd() -> None:
    """Masked steps against an optimiser that trains everything and is masked after each step."""
    model = ft.build_model("mlp", digits(), seed=1)
    split, share = ft.Split(model, ("head",)), shares()[0]
    config = ft.TrainConfig(personal_steps=0, pruned_steps=4, batch_size=16, importance="magnitude")
    upload = run(split, share, config, rho=0.7)
    mask = keep_mask(split.initial_global().abs(), 0.7)
    rng = np.random.default_rng((0, 0, 0))
    batches = draw_batches(rng, len(share.train_y), 16, 4)
    named = dict(model.named_parameters())
    sizes = [named[n].numel() for n in split.global_names]
    masks = dict(zip(split.global_names, torch.split(mask, sizes), strict=True))
    for step in [None, *batches]:
        if step is not None:
            plain_sgd(model, split.global_names, share, step[None], 0.1)
        with torch.no_grad():
            for name, m in masks.items():
                named[name].mul_(m.view(named[name].shape))
    assert upload.mask is not None
    assert upload.values is not None
    assert torch.equal(upload.mask, mask)
    np.testing.assert_allclose(upload.values, ft.Split(model, ("head",)).initial_global(), atol=1e-7)
    assert not upload.values[~mask].any()


@pytest.mark.parametrize("importance", ["movement", "taylor"])
def test_probe_scores(importance: str) -> None:
    model = ft.build_model("mlp", digits(), seed=1)
    split, share = ft.Split(model, ("head",)), shares()[0]
    config = ft.TrainConfig(
        personal_steps=0,
        probe_steps=2,
        pruned_steps=1,
        batch_size=16,
        importance=importance,  # type: ignore[arg-type]
    )
    upload = run(split, share, config, rho=0.5)
    rng, n = np.random.default_rng((0, 0, 0)), len(share.train_y)
    draw_batches(rng, n, 16, 1)
    batches = draw_batches(rng, n, 16, 2)
    u = split.initial_global()
    if importance == "movement":
        plain_sgd(model, split.global_names, share, batches, 0.1)
        scores = (ft.Split(model, ("head",)).initial_global() - u).abs()
    else:  # the mean gradient is the slope of the mean loss over all probed samples
        rows = torch.from_numpy(batches.reshape(-1))
        functional.cross_entropy(model(share.train_x[rows]), share.train_y[rows]).backward()
        slopes = {n: p.grad.flatten() for n, p in model.named_parameters() if p.grad is not None}
        scores = (u * torch.cat([slopes[n] for n in split.global_names])).abs()
    assert upload.mask is not None
    threshold = scores[keep_mask(scores, 0.5)].min()
    differ = upload.mask != keep_mask(scores, 0.5)
    np.testing.assert_allclose(scores[differ], threshold, rtol=1e-4, atol=1e-9)  # ties up to rounding
    assert differ.sum() <= 4


def test_random_masks_differ_between_devices_and_rounds() -> None:
    split, share = ft.Split(ft.build_model("mlp", digits()), ("head",)), shares()[0]
    config = ft.TrainConfig(importance="random", personal_steps=0)
    u, personal = split.initial_global(), split.initial_personal()
    masks = [
        device_round(Replica(split), u, personal, share, config, 0.5, t, k).mask
        for t, k in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert all(m is not None and int(m.sum()) == split.n_global // 2 for m in masks)
    a, b, c, again = (m.numpy() for m in masks if m is not None)
    np.testing.assert_array_equal(a, again)
    for other in (b, c):  # independent halves agree on about half
        assert abs(np.mean(a == other) - 0.5) < 0.05


def test_simultaneous_steps_move_both_parts_at_once() -> None:
    model = ft.build_model("mlp", digits(), seed=2)
    split, share = ft.Split(model, ("head",)), shares()[1]
    config = ft.TrainConfig(algorithm="simultaneous", personal_steps=0, pruned_steps=5, batch_size=16)
    upload = run(split, share, config, rho=0.0)
    batches = draw_batches(np.random.default_rng((0, 0, 0)), len(share.train_y), 16, 5)
    plain_sgd(model, split.global_names + split.personal_names, share, batches, 0.1)
    after = ft.Split(model, ("head",))
    assert upload.values is not None
    assert torch.equal(upload.values, after.initial_global())
    assert torch.equal(upload.personal.v, after.initial_personal().v)


def test_batch_norm_statistics_are_personal_and_the_probe_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))
    split, share = ft.Split(model, ("4",)), shares()[0]
    config = ft.TrainConfig(personal_steps=2, probe_steps=3, pruned_steps=2, importance="movement")
    upload = run(split, share, config, rho=1e-9)  # rounds to a full mask, yet probes
    plain = run(split, share, config, rho=0.0)
    assert int(upload.personal.buffers[2]) == 4  # batches seen in training mode, the probe's not among them
    for probed, unprobed in zip(upload.personal.buffers, plain.personal.buffers, strict=True):
        assert torch.equal(probed, unprobed)
    assert upload.values is not None
    assert plain.values is not None
    assert torch.equal(upload.values, plain.values)
    assert not torch.equal(upload.personal.buffers[0], split.initial_personal().buffers[0])


def test_dropout_is_seeded_and_leaves_the_global_generator_alone() -> None:
    split = ft.Split(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Dropout(), nn.Linear(32, 10)), ("3",))
    config = ft.TrainConfig()
    before = torch.get_rng_state()
    a, b = (run(split, shares()[0], config, 0.0).values for _ in range(2))
    assert a is not None
    assert b is not None
    assert torch.equal(a, b)
    assert torch.equal(before, torch.get_rng_state())


def test_replica_history_does_not_matter() -> None:
    split, config = ft.Split(ft.build_model("mlp", digits()), ("head",)), ft.TrainConfig()
    used, u, personal = Replica(split), split.initial_global(), split.initial_personal()
    kept = copy.deepcopy((u, personal))
    device_round(used, u, personal, shares()[1], config, 0.9, 3, 1)
    evaluate(used, u, personal, shares()[1])
    a = device_round(used, u, personal, shares()[0], config, 0.5, 0, 0)
    b = device_round(Replica(split), u, personal, shares()[0], config, 0.5, 0, 0)
    assert a.values is not None
    assert b.values is not None
    assert torch.equal(a.values, b.values)
    assert torch.equal(a.personal.v, b.personal.v)
    assert torch.equal(u, kept[0])
    assert torch.equal(personal.v, kept[1].v)


def test_a_diverged_probe_sends_nothing() -> None:
    split = ft.Split(ft.build_model("mlp", digits()), ("head",))
    config = ft.TrainConfig(learning_rate_global=1e30, probe_steps=4)
    upload = run(split, shares()[0], config, 0.5)
    assert (upload.values, upload.mask, upload.bits) == (None, None, 0.0)


def test_evaluate_counts_right_answers() -> None:
    split = ft.Split(TinyModel([1.0, 1.0, 0.0]), ("b",))
    x = torch.tensor([[2.0, 1, 0], [1, 2, 0], [3, 1, 0], [0, 1, 0]]).reshape(4, 1, 1, 3)
    share = ft.DeviceData(x, torch.zeros(4).long(), x, torch.tensor([0, 1, 0, 0]))
    assert evaluate(Replica(split), split.initial_global(), split.initial_personal(), share) == 0.75


@pytest.mark.parametrize(
    ("n", "batch_size", "steps", "shape"),
    [(10, 3, 5, (5, 3)), (5, 8, 3, (3, 5)), (8, 4, 2, (2, 4)), (8, 4, 0, (0, 4))],
)
def test_batches_are_shuffled_epochs(n: int, batch_size: int, steps: int, shape: tuple[int, int]) -> None:
    batches = draw_batches(np.random.default_rng(0), n, batch_size, steps)
    assert batches.shape == shape
    per_epoch = n // shape[1]
    for start in range(0, steps, per_epoch):
        seen = batches[start : start + per_epoch].ravel()
        assert len(set(seen.tolist())) == len(seen)
        assert set(seen.tolist()) <= set(range(n))


def two_layer_head() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 16), nn.ReLU(), nn.Linear(16, 10))


@pytest.mark.parametrize("update", ["zeroed", "frozen", "sparse"])
@pytest.mark.parametrize("algorithm", ["alternating", "simultaneous"])
@pytest.mark.parametrize("rho", [0.0, 0.5])
@pytest.mark.parametrize(
    ("model", "personal"),
    [
        (lambda: ft.build_model("mlp", digits()), ("head",)),
        (lambda: ft.build_model("cnn", digits()), ("head",)),
        (lambda: ft.build_model("cnn", digits()), ()),
        (two_layer_head, ("3", "5")),
    ],
)
def test_the_fast_path_is_the_reference_path(
    model: Callable[[], nn.Module], personal: tuple[str, ...], rho: float, algorithm: str, update: str
) -> None:
    torch.manual_seed(0)
    split = ft.Split(model(), personal)
    config = ft.TrainConfig(
        algorithm=algorithm,  # type: ignore[arg-type]
        update=update,  # type: ignore[arg-type]
        personal_steps=25 if algorithm == "alternating" else 0,
        pruned_steps=10,
        batch_size=16,
        importance="magnitude",
        fast=False,
    )
    u, v = split.initial_global(), split.initial_personal()
    slow, fast = (device_round(Replica(split, fast=f), u, v, shares()[1], config, rho, 0, 1) for f in (False, True))
    if personal and algorithm == "alternating":
        assert Replica(split, fast=True).lower is not None
    assert slow.values is not None
    assert fast.values is not None
    # Of a sparse upload, changes equal to rounding may fall on either side of the threshold.
    both = torch.ones(len(u), dtype=torch.bool)
    if update == "sparse" and slow.mask is not None and fast.mask is not None:
        both = slow.mask & fast.mask
        assert int(both.sum()) >= 0.999 * int(slow.mask.sum())
    np.testing.assert_allclose(fast.values[both], slow.values[both], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fast.personal.v, slow.personal.v, rtol=1e-4, atol=1e-6)
    assert fast.loss == pytest.approx(slow.loss, rel=1e-4)
    assert (fast.mask is None) == (slow.mask is None)
    if fast.mask is not None and update != "sparse":
        assert torch.equal(fast.mask, slow.mask)


@pytest.mark.parametrize("pruned_steps", [5, 20])
def test_frozen_rounds_report_the_same_thing_pruned_or_not(pruned_steps: int) -> None:
    data = ft.load_digits()
    held = ft.partition(data, 4, "shards", 0, classes_per_device=2)
    split = ft.Split(ft.build_model("mlp", data, seed=0), ("head",))
    config = ft.TrainConfig(update="frozen", personal_steps=6, pruned_steps=pruned_steps)
    for device, share in enumerate(held):
        whole = run(split, share, config, 0.0, device).report
        assert whole is not None
        for rho, most in ((0.5, 1.1), (0.9, 1.6), (0.97, 2.5)):
            report = run(split, share, config, rho, device).report
            assert report is not None
            assert 0.5 * whole.change_sq < report.change_sq < most * whole.change_sq
    # Of nothing kept the probe is all that is known: its square, by the square of the number of steps.
    nothing = report_frozen(whole, torch.zeros(10), torch.zeros(10, dtype=torch.bool), float(pruned_steps))
    assert nothing.change_sq == pruned_steps**2 * whole.change_sq
