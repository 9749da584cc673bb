"""Models that people bring: taken rightly, or refused in one line that says the remedy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from checks_cases import Net, train
from fltrain_cases import digits, shares
from torch import nn

import fltrain as ft

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
