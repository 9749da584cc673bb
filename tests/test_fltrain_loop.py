from __future__ import annotations

import copy
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fltrain_cases import Constant, TinyModel, digits, one_sample, shares
from test_fltrain_local import by_hand
from torch.nn import functional

import fltrain as ft
import fltrain.engine
from fltrain import loop
from fltrain.local import draw_batches
from fltrain.loop import select


def mlp(personal: tuple[str, ...] = ("head",), seed: int = 0) -> ft.Split:
    return ft.Split(ft.build_model("mlp", digits(), seed=seed), personal)


def test_two_rounds_of_two_devices_by_hand() -> None:
    """Device 0 drops weight 1, device 1 drops weight 0, both keep weight 2: one is shared."""
    w = [1.0, -0.5, 0.25]
    data = [one_sample([2.0, 1.0, 3.0], 0), one_sample([0.5, 2.0, 1.5], 1)]
    config = ft.TrainConfig(
        rounds=1,
        personal_steps=1,
        probe_steps=1,
        pruned_steps=1,
        learning_rate_global=0.5,
        learning_rate_personal=0.8,
    )
    history = ft.train(ft.Split(TinyModel(w), ("b",)), data, config, Constant(2, 1 / 3), progress=False)
    w0, b0 = by_hand(w, [2.0, 1.0, 3.0], 0, dropped=1, eta=0.5, eta_v=0.8)
    w1, b1 = by_hand(w, [0.5, 2.0, 1.5], 1, dropped=0, eta=0.5, eta_v=0.8)
    np.testing.assert_allclose(history.u, [w0[0], w1[1], (w0[2] + w1[2]) / 2], atol=2e-7)
    np.testing.assert_allclose(history.personal[0].v, b0, atol=2e-7)
    np.testing.assert_allclose(history.personal[1].v, b1, atol=2e-7)
    record = history.records[0]
    assert record["coverage_min"] == 0.5
    assert record["uncovered_share"] == 0.0
    assert record["pruning_error_sq"] == pytest.approx(0.5 * 0.25 + 0.5 * 1.0)
    assert record["uploaded_bits"] == pytest.approx(2 * (128 + 2 * 32 + 2))  # one index of 2 bits beats 2.75


def test_without_pruning_it_is_federated_averaging() -> None:
    """Against a plain FedAvg written with torch's optimiser and state dicts."""
    model = ft.build_model("mlp", digits(), seed=4)
    config = ft.TrainConfig(rounds=3, personal_steps=0, pruned_steps=4, batch_size=16, seed=2, fast=False)
    history = ft.train(ft.Split(model, ()), shares(), config, Constant(4), progress=False)
    state = {name: p.detach().clone() for name, p in model.named_parameters()}
    for t in range(3):
        uploads = []
        for k, share in enumerate(shares()):
            model.load_state_dict(state)
            optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
            rng = np.random.default_rng((2, t, k))
            for batch in torch.from_numpy(draw_batches(rng, len(share.train_y), 16, 4)):
                optimiser.zero_grad()
                functional.cross_entropy(model(share.train_x[batch]), share.train_y[batch]).backward()
                optimiser.step()
            uploads.append({name: p.detach().double() for name, p in model.named_parameters()})
            model = copy.deepcopy(model)  # the upload keeps the trained tensors
        state = {name: torch.stack([up[name] for up in uploads]).mean(0).float() for name in state}
    np.testing.assert_array_equal(history.u, torch.cat([p.flatten() for p in state.values()]))


def test_learning_happens_on_real_digits() -> None:
    data = ft.partition(digits(), 10, seed=0, classes_per_device=2)
    fedavg = ft.TrainConfig(rounds=40, personal_steps=0, pruned_steps=10, pruning=False)
    plain = ft.train(mlp(()), data, fedavg, Constant(10), progress=False)
    assert plain.records[0]["accuracy"] < 0.35
    assert plain.records[-1]["accuracy"] > 0.8
    pruned = ft.train(mlp(), data, ft.TrainConfig(rounds=40), Constant(10, 0.5), progress=False)
    assert pruned.records[-1]["accuracy"] > 0.95
    assert pruned.records[-1]["train_loss"] < 0.25 * pruned.records[0]["train_loss"]


@pytest.mark.parametrize("importance", ["movement", "magnitude", "taylor", "random"])
@pytest.mark.parametrize("algorithm", ["alternating", "simultaneous"])
def test_every_scheme_learns(importance: str, algorithm: str) -> None:
    config = ft.TrainConfig(
        rounds=60,
        algorithm=algorithm,  # type: ignore[arg-type]
        importance=importance,  # type: ignore[arg-type]
        personal_steps=5 if algorithm == "alternating" else 0,
    )
    history = ft.train(mlp(), shares(), config, Constant(4, 0.3), progress=False)
    assert history.records[-1]["accuracy"] > 0.8
    assert all(r["mean_pruning_ratio"] == pytest.approx(0.3) for r in history.records)


def test_clock_energy_and_bits_add_up() -> None:
    latency, energy = np.array([1.0, 4.0, 2.0, 3.0]), np.array([0.5, 1.0, 1.5, 2.0])

    def planner(t: int, work: ft.Workload) -> ft.RoundPlan:
        present = np.array([True, t % 2 == 0, True, True])
        return ft.RoundPlan(np.full(4, 0.5), latency, energy, present)

    history = ft.train(mlp(), shares(), ft.TrainConfig(rounds=4), planner, progress=False)
    assert [r["round_latency_s"] for r in history.records] == [4.0, 3.0, 4.0, 3.0]
    assert [r["wall_clock_s"] for r in history.records] == [4.0, 7.0, 11.0, 14.0]
    assert [r["energy_j"] for r in history.records] == [5.0, 4.0, 5.0, 4.0]
    assert [r["participants"] for r in history.records] == [4, 3, 4, 3]
    half = mlp().n_global // 2
    one = 128 + 32 * half + 2 * half  # at one half, a mask of one bit per coordinate
    assert [r["uploaded_bits"] for r in history.records] == [4 * one, 3 * one, 4 * one, 3 * one]


def test_same_seed_same_history_and_another_seed_another() -> None:
    runs = [
        ft.train(mlp(), shares(), ft.TrainConfig(rounds=3, seed=s), Constant(4, 0.5), progress=False) for s in (0, 0, 1)
    ]
    assert runs[0].records == runs[1].records
    assert torch.equal(runs[0].u, runs[1].u)
    assert not torch.equal(runs[0].u, runs[2].u)


def test_thread_count_is_restored_and_does_not_matter() -> None:
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            config = ft.TrainConfig(rounds=2)
            results.append(ft.train(mlp(), shares(), config, Constant(4, 0.5), progress=False))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0].u, results[1].u)


def test_nobody_participates() -> None:
    def nobody(t: int, work: ft.Workload) -> ft.RoundPlan:
        return replace(Constant(4).plan, participates=np.zeros(4, dtype=bool))

    history = ft.train(mlp(), shares(), ft.TrainConfig(rounds=2), nobody, progress=False)
    assert torch.equal(history.u, mlp().initial_global())
    last = history.records[-1]
    assert (last["wall_clock_s"], last["train_loss"], last["uncovered_share"]) == (0.0, None, 1.0)


def test_selection_is_seeded_and_reaches_the_planner() -> None:
    config = ft.TrainConfig(rounds=30, participation=0.5, personal_steps=1, pruned_steps=1)
    seen = []

    def planner(t: int, work: ft.Workload) -> ft.RoundPlan:
        seen.append(work.selected)
        return Constant(4).plan

    history = ft.train(mlp(), shares(), config, planner, progress=False)
    assert {r["participants"] for r in history.records} == {2}
    assert np.mean(seen, axis=0) == pytest.approx([0.5] * 4, abs=0.3)
    assert [s.tolist() for s in seen] == [select(config, t, 4).tolist() for t in range(30)]
    assert select(ft.TrainConfig(participation=0.01), 0, 4).sum() == 1


@pytest.mark.parametrize("failure", ["nan", "shape", "nothing"])
def test_a_failing_device_is_left_out(
    failure: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The round with a bad device 2 is the round without it; device 2 keeps its personal part."""
    honest = fltrain.engine.device_round

    def sabotaged(*args: Any, **kwargs: Any) -> Any:
        upload = honest(*args, **kwargs)
        if upload.device != 2 or upload.values is None:
            return upload
        bad = {"nan": upload.values * np.nan, "shape": upload.values[1:], "nothing": None}[failure]
        return replace(upload, values=bad)

    config, split = ft.TrainConfig(rounds=2), mlp()

    def without(t: int, work: ft.Workload) -> ft.RoundPlan:
        return replace(Constant(4, 0.5).plan, participates=np.array([True, True, False, True]))

    expected = ft.train(split, shares(), config, without, progress=False)
    monkeypatch.setattr(fltrain.engine, "device_round", sabotaged)
    with caplog.at_level(logging.WARNING):
        history = ft.train(split, shares(), config, Constant(4, 0.5), progress=False)
    assert [r["left_out"] for r in history.records] == [[2], [2]]
    assert "round 0: device 2 left out: sent" in caplog.text
    assert torch.equal(history.u, expected.u)
    assert torch.equal(history.personal[2].v, split.initial_personal().v)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: [], r"^shares must hold at least one device, got none$"),
        (
            lambda s: [s[0], replace(s[1], train_x=s[1].train_x[..., 1:])],
            r"^shares\[1\].train_x has inputs of shape .* and torch.float32, shares\[0\].test_x of ",
        ),
        (
            lambda s: [s[0], replace(s[1], test_x=s[1].test_x * float("nan"))],
            r"^shares\[1\].test_x holds a number that is not finite$",
        ),
        (
            lambda s: [s[0], replace(s[1], test_y=s[1].test_y - 100)],
            r"^shares\[1\].test_y must hold labels 0, 1, ... as whole numbers, got torch.int64, least -",
        ),
        (
            lambda s: [replace(s[0], train_y=s[0].train_y.double())],
            r"^shares\[0\].train_y must hold labels 0, 1, ... as whole numbers, got torch.float64",
        ),
        (
            lambda s: [s[0], replace(s[1], train_x=s[1].train_x[:0], train_y=s[1].train_y[:0])],
            r"^shares\[1\] has 0 train inputs and 0 labels$",
        ),
        (
            lambda s: [replace(s[0], test_y=s[0].test_y[1:])],
            r"^shares\[0\] has 16 test inputs and 15 labels$",
        ),
        (
            lambda s: [replace(s[0], train_x=s[0].train_x[:, :, 1:], test_x=s[0].test_x[:, :, 1:])],
            r"^the model does not take inputs of shape \(1, 7, 8\)",
        ),
        (
            lambda s: [replace(s[0], train_y=s[0].train_y + 5)],
            r"^the model has 10 outputs, the labels need 1",
        ),
    ],
)
def test_bad_data_is_refused_before_training(change: Any, message: str) -> None:
    def never(t: int, work: ft.Workload) -> ft.RoundPlan:
        raise AssertionError("asked for a plan")

    with pytest.raises(ValueError, match=message):
        ft.train(mlp(), change(shares()), ft.TrainConfig(), never, progress=False)


def test_a_run_is_stopped_when_it_is_good_enough(tmp_path: Path) -> None:
    config = ft.TrainConfig(rounds=30)
    saved = ft.Checkpoint(tmp_path / "run.pt", every=100)

    def enough(records: Any) -> bool:
        return bool(records[-1]["accuracy"] >= 0.9)

    args = (mlp(), shares(), config, Constant(4, rho=0.0))
    history = ft.train(*args, progress=False, checkpoint=saved, stop=enough)
    done = len(history.records)
    assert 1 < done < 30
    assert [r["accuracy"] >= 0.9 for r in history.records] == [False] * (done - 1) + [True]
    assert history.time_to_accuracy(0.9) == history.records[-1]["wall_clock_s"] == float(done)
    assert history.time_to_accuracy(1.1) == float("inf")
    more = ft.train(*args, progress=False, checkpoint=saved, stop=lambda records: len(records) == done + 1)
    assert more.records[:done] == history.records
    assert len(more.records) == done + 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
@pytest.mark.parametrize("where", ["planner", "engine", "observer"])
def test_whatever_ends_a_run_keeps_what_was_done(
    where: str, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C or an error in round 2, wherever: the history has the whole rounds, and the run can go on."""
    config = ft.TrainConfig(rounds=5, update="sparse", error_feedback=True)
    half = Constant(4, rho=0.5)
    args = (mlp(), shares(), config)
    whole = ft.train(*args, half, progress=False)
    saved = ft.Checkpoint(tmp_path / "run.pt", every=100)

    def planner(t: int, work: ft.Workload) -> ft.RoundPlan:
        if where == "planner" and t == 2:
            raise error
        return half(t, work)

    def observer(t: int, u: Any, personal: Any) -> None:
        if where == "observer" and t == 2:
            raise error

    with monkeypatch.context() as patch:
        if where == "engine":
            real = loop.refusal
            calls: list[int] = []

            def refusal(*given: Any) -> Any:
                calls.append(1)
                if len(calls) == 4 * 2 + 3:  # two uploads of this round are in
                    raise error
                return real(*given)

            patch.setattr(loop, "refusal", refusal)
        with pytest.raises(ft.Interrupted if error is KeyboardInterrupt else error) as stopped:
            ft.train(*args, planner, progress=False, checkpoint=saved, observer=observer)
    done = 3 if where == "observer" else 2
    history = stopped.value.history  # type: ignore[attr-defined]
    assert history.records == whole.records[:done]
    assert history.stats
    resumed = ft.train(*args, half, progress=False, checkpoint=saved)
    assert resumed.records == whole.records
    assert torch.equal(resumed.u, whole.u)
    assert all(torch.equal(a.v, b.v) for a, b in zip(resumed.personal, whole.personal, strict=True))
