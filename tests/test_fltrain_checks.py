"""Models and data that people bring: taken rightly, or refused in one line that names device, field and remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fltrain_cases import Constant, digits, shares
from torch import nn

import fltrain as ft

QUICK: dict[str, Any] = {"rounds": 2, "personal_steps": 2, "pruned_steps": 2}


def train(model: nn.Module, data: Any = None, personal: tuple[str, ...] = ("head",), **options: Any) -> ft.History:
    config = ft.TrainConfig(**(QUICK | options))
    given = shares() if data is None else data
    return ft.train(ft.Split(model, personal), given, config, Constant(len(given), 0.5), progress=False)


class Net(nn.Module):
    """A small model with a place to misbehave."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.head = nn.Linear(64, 16), nn.Linear(16, 10)

    def before(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.fc(self.before(x).flatten(1))))


# Labels and inputs.


def with_labels(change: Callable[[torch.Tensor], Any]) -> list[ft.DeviceData]:
    return [replace(s, train_y=change(s.train_y), test_y=change(s.test_y)) for s in shares()]


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8", "uint16", "uint32", ">i4", "numpy"])
def test_labels_of_every_whole_type_are_the_same_labels(dtype: str) -> None:
    def change(y: torch.Tensor) -> Any:
        return y.numpy() if dtype == "numpy" else y.numpy().astype(dtype)

    model = ft.build_model("mlp", digits())
    assert torch.equal(train(model, with_labels(change)).u, train(model).u)


def test_inputs_of_numpy_in_double_precision_are_taken() -> None:
    data = [replace(s, train_x=s.train_x.double().numpy(), test_x=s.test_x.double()) for s in shares()]  # type: ignore[arg-type]
    model = ft.build_model("mlp", digits())
    assert torch.equal(train(model, data).u, train(model).u)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y[:, None], r"^shares\[0\]\.train_y must have shape \(64,\), got \(64, 1\); use y\.reshape\(-1\)$"),
        (lambda y: nn.functional.one_hot(y, 10), r"shares\[0\]\.train_y .* one-hot labels become numbers by y\.argmax"),
        (lambda y: y.to(torch.complex64), r"^shares\[0\]\.train_y must hold labels .* got torch\.complex64$"),
        (
            lambda y: np.ma.masked_array(y.numpy(), [1] + [0] * (len(y) - 1)),
            r"^shares\[0\]\.train_y has masked entries",
        ),
        (lambda y: y.tolist(), r"^shares\[0\]\.train_y must be a torch tensor or a NumPy array, got list$"),
        (lambda y: np.array(["a"] * len(y)), r"^shares\[0\]\.train_y must hold numbers, got an array of <U1$"),
        (lambda y: y.to_sparse(), r"^shares\[0\]\.train_y must be a dense tensor on the CPU, got torch\.sparse_coo"),
        (lambda y: y[0], r"^shares\[0\] has 64 train inputs and 0 labels$"),
    ],
)
def test_labels_of_another_form_are_refused(change: Callable[[torch.Tensor], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(Net(), with_labels(change))


def test_what_is_no_list_of_devices_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^shares must be a list of DeviceData, one per device, got one DeviceData$"):
        ft.train(ft.Split(Net()), shares()[0], ft.TrainConfig(), Constant(1), progress=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^shares must be a list of DeviceData, one per device, got one Dataset$"):
        ft.train(ft.Split(Net()), digits(), ft.TrainConfig(), Constant(1), progress=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^shares\[1\] must be a DeviceData, got tuple$"):
        train(Net(), [shares()[0], shares()[1].tensors])


def test_whole_number_inputs_of_a_model_for_measurements_are_explained() -> None:
    data = [replace(s, train_x=(16 * s.train_x).long(), test_x=(16 * s.test_x).long()) for s in shares()]
    with pytest.raises(ValueError, match=r"does not take inputs of .* torch\.int64: .*must be float32: x\.float\(\)$"):
        train(Net(), data)


class Text(nn.Module):
    """Next token from the last ones. Its layers return tuples, and tuples of tuples."""

    def __init__(self, recurrent: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.emb, self.head = nn.Embedding(20, 8), nn.Linear(8, 20)
        self.body: nn.Module = {"lstm": nn.LSTM, "gru": nn.GRU}[recurrent](8, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.emb(x))[0][:, -1])


@pytest.mark.parametrize("update", ["zeroed", "frozen", "sparse"])
@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
def test_text_is_dealt_and_learnt(recurrent: str, update: str) -> None:
    tokens = np.random.default_rng(0).integers(0, 20, (200, 12))
    data = ft.partition(ft.Dataset("text", tokens, tokens[:, -1], 20), 4, "iid")
    history = train(Text(recurrent), data, update=update, rounds=3, personal_steps=4, pruned_steps=4)
    losses = [record["train_loss"] for record in history.records]
    assert losses[-1] < losses[0]


# What a model returns.


class Returns(Net):
    def __init__(self, change: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: torch.Tensor) -> Any:
        return self.change(super().forward(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: (z, z), r"^the model must return logits \(n, classes\), got a tuple; wrap it in a module"),
        (lambda z: {"logits": z}, r"got a dict; wrap it"),
        (lambda z: z[:, 0], r"^the model must return logits \(2, classes\) for 2 inputs, got torch\.float32 \(2,\)$"),
        (lambda z: z[:, :, None], r"got torch\.float32 \(2, 10, 1\)$"),
        (
            lambda z: z.squeeze(),
            r"^the model must return logits \(1, classes\) for 1 inputs, got torch.float32 \(10,\)",
        ),
        (lambda z: z.argmax(1), r"got torch\.int64"),
        (lambda z: z[:, :4], r"^the model has 4 outputs, the labels need 10$"),
        (lambda z: z.detach(), r"^shares\[0\]\.train_x: the model cannot train on 32 samples \(element 0 of tensors"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(change: Callable[[torch.Tensor], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(Returns(change))


@pytest.mark.parametrize("samples", [2, 3])
def test_batch_norm_and_a_device_with_one_sample(samples: int) -> None:
    """Two samples are one to train on and one held out; three are two to train on."""
    data = list(shares())
    data[2] = ft.partition(digits(), 4, "iid", samples_per_device=samples)[2]
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
    if samples == 3:
        assert torch.isfinite(train(model, data, ("4",)).u).all()
        return
    with pytest.raises(
        ValueError, match=r"^shares\[2\]\.train_x: the model cannot train on 1 sample, all that the dev"
    ):
        train(model, data, ("4",))


# Tied weights.


class Tied(nn.Module):
    def __init__(self, tie: str = "parameter") -> None:
        super().__init__()
        self.emb, self.mid, self.head = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 20)
        if tie == "parameter":
            self.head.weight = self.emb.weight
        elif tie == "memory":
            self.head.weight = nn.Parameter(self.emb.weight.data)
        else:
            self.register_buffer("copy", self.mid.weight.detach()[2:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.mid(self.emb(x).mean(1)))


@pytest.mark.parametrize("personal", ["head", "emb", "head.weight", "emb.weight"])
def test_one_tensor_cannot_be_personal_and_global(personal: str) -> None:
    with pytest.raises(
        ValueError, match=r"^(head|emb)\.weight is personal and (emb|head)\.weight is not, but they are"
    ):
        ft.Split(Tied(), (personal,))


def test_tied_weights_on_one_side_stay_tied() -> None:
    both = ft.Split(Tied(), ("head", "emb"))
    assert both.personal_names == ("emb.weight", "head.bias")
    assert both.global_names == ("mid.weight", "mid.bias")
    neither = ft.Split(Tied(), ("head.bias",))
    assert neither.n_global == 160 + 72
    model = neither.assemble(torch.ones(neither.n_global), neither.initial_personal())
    assert model.head.weight is model.emb.weight


@pytest.mark.parametrize("tie", ["memory", "buffer"])
def test_two_tensors_in_one_memory_are_refused(tie: str) -> None:
    """A copy of the model, such as every device has, would hold them apart."""
    with pytest.raises(ValueError, match=r"^\w+\S* and \w+\S* share memory but are two tensors"):
        ft.Split(Tied(tie), ("mid",))


def test_models_that_are_none_or_not_ready_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^model must be a torch\.nn\.Module, got function$"):
        ft.Split(train)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^0\.weight has no shape yet: run the model once"):
        ft.Split(nn.Sequential(nn.LazyLinear(3)), ())
    broken = Net()
    with torch.no_grad():
        broken.fc.weight[3, 4] = float("nan")
    with pytest.raises(ValueError, match=r"^parameter fc\.weight holds a number that is not finite$"):
        ft.Split(broken)


class InPlainList(Net):
    def __init__(self, hidden: Any) -> None:
        super().__init__()
        self.hidden = hidden


@pytest.mark.parametrize(
    "hidden", [[nn.Linear(2, 2)], {"a": nn.Linear(2, 2)}, ([nn.Identity()],), [nn.Parameter(torch.zeros(2))]]
)
def test_layers_that_torch_does_not_know_are_refused(hidden: Any) -> None:
    with pytest.raises(ValueError, match=r"^hidden holds layers that are not part of the model; use nn\.ModuleList"):
        ft.Split(InPlainList(hidden))
    known = Net()
    known.parts = [known.fc, {"head": known.head}]  # named twice, known once
    ft.Split(known)


# Models that write where they should not.


class InPlace(Net):
    def before(self, x: torch.Tensor) -> torch.Tensor:
        return x.sub_(0.3).div_(0.4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: InPlace(),
        lambda: nn.Sequential(nn.ELU(inplace=True), nn.Flatten(), nn.Linear(64, 9), nn.Linear(9, 10)),
        lambda: nn.Sequential(nn.Flatten(), nn.ELU(inplace=True), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 10)),
    ],
)
@pytest.mark.parametrize("fast", [True, False])
def test_data_are_never_written_to(make: Callable[[], nn.Module], fast: bool) -> None:
    data = [ft.DeviceData(s.train_x - 0.5, s.train_y, s.test_x - 0.5, s.test_y) for s in shares()]
    before = [[t.clone() for t in s.tensors] for s in data]
    model = make()
    name = list(dict(model.named_parameters()))[-1].rpartition(".")[0]
    one = train(model, data, (name,), fast=fast)
    for share, old in zip(data, before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(share.tensors, old, strict=True))
    two = train(model, data, (name,), fast=fast)
    assert one.records == two.records
    assert torch.equal(one.u, two.u)


class Counts(Net):
    calls = 0

    def before(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x


class Recurrent(Net):
    def __init__(self) -> None:
        super().__init__()
        self.kept = torch.zeros(64)

    def before(self, x: torch.Tensor) -> torch.Tensor:
        self.kept = 0.5 * self.kept + x.flatten(1).mean(0).detach()
        return x.flatten(1) + self.kept


class Remembers(Net):
    def __init__(self, memory: Any) -> None:
        super().__init__()
        self.memory = memory

    def before(self, x: torch.Tensor) -> torch.Tensor:
        self.memory.append(float(x.mean()))
        return x


class StartsFromData(Net):
    """Its scale is set by the first batch it ever sees."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: torch.Tensor | None = None

    def before(self, x: torch.Tensor) -> torch.Tensor:
        if self.scale is None:
            self.scale = x.abs().mean().detach()
        return x / self.scale


class DrawsElsewhere(Net):
    def before(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.1 * float(np.random.random())  # noqa: NPY002


class OnlyInEvaluation(Net):
    seen = 0

    def before(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            self.seen += 1
        return x


class Inside(nn.Module):
    def __init__(self, held: Any) -> None:
        super().__init__()
        self.held = held


class Nested(Net):
    def __init__(self) -> None:
        super().__init__()
        self.part = Inside({"steps": [0]})

    def before(self, x: torch.Tensor) -> torch.Tensor:
        self.part.held["steps"][0] += 1
        return x


SHARED = {"calls": 0}


class Outside(Net):
    def before(self, x: torch.Tensor) -> torch.Tensor:
        SHARED["calls"] += 1
        return x * SHARED["calls"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Counts, r"^the model keeps calls from one call to the next in training.*register_buffer"),
        (Recurrent, r"^the model keeps kept from one call to the next in training"),
        (lambda: Remembers([]), r"^the model keeps memory from one call"),
        (lambda: Remembers(deque(maxlen=3)), r"^the model keeps memory from one call"),
        (StartsFromData, r"^the model keeps scale from one call"),
        (Nested, r"^the model keeps part\.held from one call"),
        (OnlyInEvaluation, r"^the model keeps seen from one call to the next in evaluation"),
        (DrawsElsewhere, r"^the model gives the same inputs another answer when it is asked again in training"),
        (Outside, r"^the model gives the same inputs another answer when it is asked again"),
    ],
)
def test_a_model_that_keeps_something_between_calls_is_refused(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(make())


class KeepsLast(Net):
    """What many models do for those who look at them: the last features, overwritten with every call."""

    def before(self, x: torch.Tensor) -> torch.Tensor:
        self.last = x.detach().clone()
        self.shapes = {"input": tuple(x.shape)}
        return x


class CountsInBuffer(Net):
    steps: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def before(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps += 1
        return x / (1 + 0.01 * self.steps)


class NoisyByTorch(Net):
    def before(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.1 * torch.randn_like(x) if self.training else x


@pytest.mark.parametrize("make", [KeepsLast, CountsInBuffer, NoisyByTorch])
def test_what_is_a_function_of_the_call_or_a_buffer_is_taken(make: Callable[[], Net]) -> None:
    plain = train(make())
    assert all(len(p.buffers) == (make is CountsInBuffer) for p in plain.personal)
    if make is CountsInBuffer:  # personal, probe and pruned steps of two rounds, less the probes: these are thrown away
        assert [float(p.buffers[0]) for p in plain.personal] == [8.0] * 4


# Planners, workers and missing packages.


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, r"^the planner must return a RoundPlan, got NoneType: it ends without a return$"),
        (0.5, r"^the planner must return a RoundPlan, got float$"),
        ("solution", r"^the planner must return a RoundPlan, got Solution: make it RoundPlan\(s\.pruning_ratio, "),
    ],
)
def test_a_planner_that_returns_something_else(returned: Any, message: str) -> None:
    if returned == "solution":
        import kktalloc as ka

        devices = ka.Devices(
            channel_gain=np.full(4, 1e-11),
            tx_power_max_w=0.2,
            payload_bits=1e6,
            pruned_compute_s=0.1,
            pruned_compute_j=0.1,
        )
        cell = ka.Cell(bandwidth_hz=1e7, noise_psd_w_per_hz=4e-21, deadline_s=1.0)
        returned = ka.solve(ka.Problem(cell, devices))
    with pytest.raises(ValueError, match=message):
        ft.train(ft.Split(Net()), shares(), ft.TrainConfig(), lambda t, work: returned, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"participates": np.array([True, True, 0.5, True], dtype=object)},
            r"^plan\.participates must hold one number",
        ),
        ({"participates": np.array([1, 1, 0.5, 1])}, r"^plan\.participates\[2\] must be True or False, got 0\.5$"),
        ({"participates": np.array([1, 1, np.nan, 1])}, r"^plan\.participates\[2\] must be True or False, got nan$"),
        ({"latency_s": ["a"] * 4}, r"^plan\.latency_s must hold one number for each of 4 devices, got \['a'"),
        ({"energy_j": np.zeros(4, complex)}, r"^plan\.energy_j must hold one number"),
        ({"pruning_ratio": np.ma.masked_equal([0, 1, 0, 0], 1)}, r"^plan\.pruning_ratio must hold one number"),
    ],
)
def test_a_plan_that_holds_something_else(change: dict[str, Any], message: str) -> None:
    plan = replace(Constant(4).plan, **change)
    with pytest.raises(ValueError, match=message):
        ft.train(ft.Split(Net()), shares(), ft.TrainConfig(), lambda t, work: plan, progress=False)


def test_a_planner_may_not_write_into_the_work_of_later_rounds() -> None:
    def planner(t: int, work: ft.Workload) -> ft.RoundPlan:
        work.payload_bits[0] *= 2.0
        return Constant(4).plan

    with pytest.raises(ValueError, match=r"read-only"):
        ft.train(ft.Split(Net()), shares(), ft.TrainConfig(), planner, progress=False)


def test_a_model_that_no_other_process_can_import() -> None:
    """As in a notebook: the main program is no file. Only a model of torch's own classes can go to workers."""
    program = """
import sys
sys.path.insert(0, sys.argv[1])
from test_fltrain_checks import *
class Mine(Net):
    pass
if __name__ == "__main__":
    for model in (Mine(), nn.Sequential(nn.Flatten(), nn.Linear(64, 10))):
        name = "head" if isinstance(model, Mine) else "1.bias"
        try:
            ft.train(ft.Split(model, (name,)), shares(), ft.TrainConfig(**QUICK), Constant(4), False, workers=2)
            print("trained")
        except ValueError as error:
            print(error)
"""
    folder = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-", folder], input=program, capture_output=True, text=True, check=True)
    refused, trained = done.stdout.splitlines()
    assert "cannot import what the model is made of: Can't get attribute 'Mine'" in refused
    assert refused.endswith("(a notebook's or a function's own cannot be imported), or use workers=1")
    assert trained == "trained"


def test_a_model_that_cannot_be_sent_is_refused() -> None:
    class Local(Net):
        pass

    with pytest.raises(ValueError, match=r"^workers > 1 needs a model that can be sent to another process: .*Local"):
        ft.train(ft.Split(Local()), shares(), ft.TrainConfig(), Constant(4), progress=False, workers=2)


@pytest.mark.parametrize("missing", ["torch", "tqdm"])
def test_without_torch_the_extra_is_named(missing: str, tmp_path: Path) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None\nimport fltrain"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    said = done.stderr.splitlines()[-1]
    says = f"fltrain needs {missing}, which an extra brings: pip install 'kktalloc[train]'"
    assert said == f"ModuleNotFoundError: {says}"
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError('none', name='{missing}')")
    command = [sys.executable, "-m", "fltrain", "columns"]
    path = os.pathsep.join([str(tmp_path), str(Path(ft.__file__).parents[1])])
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (2, f"fltrain: error: {says}\n")
