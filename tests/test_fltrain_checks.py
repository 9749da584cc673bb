"""Data, planners and processes that people bring: taken rightly, or refused in one line that says the remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checks_cases import Net, train
from fltrain_cases import Constant, digits, shares
from torch import nn

import fltrain as ft

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
import fltrain as ft
from checks_cases import QUICK, Net
from fltrain_cases import Constant, shares
from torch import nn
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
