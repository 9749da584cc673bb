"""Tensors in, tensors out; and what NumPy users hand in is neither copied nor changed."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import kktalloc as ka
from kktalloc.bound import Constants, Schedule
from kktalloc.plan import plan, time_to_target

DOUBLE = torch.float64
NUMPY = {
    "channel_gain": np.array([2e-12, 5e-12, 1e-11, 4e-11]),
    "tx_power_max_w": 0.1,
    "payload_bits": np.full(4, 4e6),
    "pruned_compute_s": np.array([0.3, 0.2, 0.2, 0.4]),
    "energy_budget_j": [0.05, 0.2, 0.2, np.inf],
    "pruned_compute_j": 0.02,
}
CELL = ka.Cell(1e6, 4e-21, 1.0)
PROBLEM = ka.Problem(CELL, ka.Devices(**NUMPY))


def in_torch(**changes: Any) -> ka.Problem:
    """The problem with some of its fields as tensors."""
    tensors = {"channel_gain": torch.tensor(NUMPY["channel_gain"])} | changes
    return ka.Problem(replace(CELL, bandwidth_hz=torch.tensor(1e6)), ka.Devices(**NUMPY | tensors))


def assert_twins(got: Any, want: Any) -> None:
    """Tensors of the same numbers and kinds wherever the other has arrays."""
    for f in fields(want):
        one, other = getattr(got, f.name), getattr(want, f.name)
        if f.name in ("problem", "diagnosis"):
            continue
        if isinstance(other, np.ndarray | np.generic) and other.dtype.kind in "biuf":
            assert isinstance(one, torch.Tensor), f.name
            assert one.numpy().dtype == other.dtype, f.name
            np.testing.assert_array_equal(one.numpy(), other)
        elif hasattr(other, "__dataclass_fields__"):
            assert_twins(one, other)


def test_a_solution_comes_back_as_tensors() -> None:
    got, want = ka.solve(in_torch()), ka.solve(PROBLEM)
    assert got.pruning_ratio.dtype == got.prices.energy_per_j.dtype == got.objective.dtype == DOUBLE
    assert_twins(got, want)
    assert got.status is ka.Status.OPTIMAL
    assert got.certificate.ok
    assert isinstance(want.pruning_ratio, np.ndarray)


def test_tensor_answers_travel_between_processes_and_are_copied() -> None:
    s = ka.solve(in_torch())
    for again in (pickle.loads(pickle.dumps(s)), copy.deepcopy(s)):
        assert_twins(again, ka.solve(PROBLEM))
        assert_twins(ka.solve(again.problem), ka.solve(PROBLEM))
        assert again.certificate.ok


def test_every_question_answers_in_tensors() -> None:
    problem, size, level = in_torch(), torch.tensor(180e3), torch.tensor([0.5] * 4)
    assert_twins(ka.solve_blocks(problem, size), ka.solve_blocks(PROBLEM, 180e3))
    assert_twins(ka.solve_minmax(problem), ka.solve_minmax(PROBLEM))
    assert_twins(ka.least_energy(problem, 0.6), ka.least_energy(PROBLEM, 0.6))
    assert_twins(ka.select(problem), ka.select(PROBLEM))
    for question in (ka.least_bandwidth, ka.least_deadline):
        answer = question(problem, level)
        assert answer.dtype == DOUBLE
        assert float(answer) == question(PROBLEM, 0.5)
        assert isinstance(question(PROBLEM, level), torch.Tensor)  # the level alone says whose answer it is
    assert ka.select(problem).message == ka.select(PROBLEM).message


def test_plans_answer_in_tensors() -> None:
    constants = Constants(1.0, 1.0, 0.1, 0.1, 1.0, 0.1, 0.9, 0.05)
    schedule = Schedule(1, 5, 5, 0.01, 0.1)
    got, want = (plan(p, constants, schedule, 60.0) for p in (in_torch(), PROBLEM))
    assert_twins(got, want)
    assert (got.rounds, got.pruning_error, got.gradient_bound) == (want.rounds, want.pruning_error, want.gradient_bound)
    target = 1.1 * want.gradient_bound
    assert_twins(*(time_to_target(p, constants, schedule, target) for p in (in_torch(), PROBLEM)))


def test_the_certificate_takes_tensors_and_still_refuses() -> None:
    problem = in_torch()
    s = ka.solve(problem)
    assert ka.certify(problem, s.pruning_ratio, s.bandwidth_hz, s.tx_power_w, regime=s.regime).ok
    assert not ka.certify(problem, s.pruning_ratio, 0.99 * s.bandwidth_hz, s.tx_power_w).ok
    assert not replace(s, objective=0.99 * s.objective).certificate.ok
    assert replace(s, objective=0.99 * s.objective).status is ka.Status.UNCERTIFIED


def test_gradients_do_not_flow_and_half_precision_is_widened() -> None:
    gain = torch.tensor(NUMPY["channel_gain"], dtype=torch.float32, requires_grad=True)
    s = ka.solve(in_torch(channel_gain=gain))
    assert not s.objective.requires_grad
    assert s.objective.dtype == DOUBLE
    assert ka.solve(in_torch(payload_bits=torch.tensor(2.0**22, dtype=torch.bfloat16))).certificate.ok


def test_curves_take_tensors() -> None:
    square = ka.PowerLaw(torch.tensor([2.0] * 4, dtype=torch.bfloat16, requires_grad=True))
    table = ka.Table(torch.tensor([0.0, 0.5, 1.0], requires_grad=True), torch.tensor([0, 1, 4]))
    for curve, same in ((square, ka.PowerLaw(2.0)), (table, ka.Table([0.0, 0.5, 1.0], [0, 1, 4]))):
        got, want = (ka.solve(ka.Problem(CELL, ka.Devices(**NUMPY), c)) for c in (curve, same))
        np.testing.assert_array_equal(got.bandwidth_hz, want.bandwidth_hz)  # a curve has no say in whose arrays


def test_an_infeasible_problem_in_tensors() -> None:
    strict = in_torch(pruning_ratio_max=torch.tensor(0.1))
    with pytest.raises(ka.InfeasibleError, match="need more bandwidth"):
        ka.solve(strict)
    s = ka.solve(strict, throw=False)
    assert s.pruning_ratio.isnan().all()
    assert s.status is ka.Status.INFEASIBLE


def test_two_devices_are_refused() -> None:
    elsewhere = torch.empty(4, device="meta")
    want = "devices.payload_bits: an array of torch on meta, but cell.bandwidth_hz is one of torch on cpu"
    with pytest.raises(ValueError, match=want):
        in_torch(payload_bits=elsewhere)
    s = ka.solve(in_torch())
    with pytest.raises(ValueError, match="bandwidth_hz: an array of torch on meta, but problem is one of torch on cpu"):
        ka.certify(in_torch(), s.pruning_ratio, elsewhere, s.tx_power_w)


@pytest.mark.parametrize(
    "bad",
    [torch.tensor([1.0, 2.0]).to_sparse(), torch.tensor([1j]), torch.tensor([True]), torch.empty(4, device="meta")],
)
def test_a_tensor_without_numbers_is_refused_in_one_line(bad: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"^devices.channel_gain: expected numbers, got [^\n]*$"):
        ka.Problem(CELL, ka.Devices(**NUMPY | {"channel_gain": bad}))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([1e-11, "a", 3e-12], "[1]: expected numbers, got 'a'"),
        ([*[1e-11] * 1000, None], "[1000]: expected numbers, got None"),
        ([1e-11, 1j], "[1]: expected numbers, got 1j"),
        ((True, False), "[0]: expected numbers, got True"),
        (["1e-11"], "[0]: expected numbers, got '1e-11'"),
        ([[1e-11, 2e-11], [3e-11, {}]], "[1, 1]: expected numbers, got {}"),
        ([1e-11, 10**400], f"[1]: expected numbers, got 1{'0' * 79}"),
        ([1e-11, torch.empty(1, device="meta")], "[1]: expected numbers, got tensor(..., device='meta', size=(1,))"),
        ([[1e-11], [1e-11, 2e-11]], "[1]: shape (2,) differs from (1,) of the entries before it"),
        ([[1e-11, 2e-11], [1e-11, [2e-11]]], "[1, 1]: shape (1,) differs from () of the entries before it"),
        (np.array([True, False]), "[0]: expected numbers, got True"),
        (np.array([[1e-11, 2e-11], [3e-11, "a"]], dtype=object), "[1, 1]: expected numbers, got 'a'"),
        (np.array([1e-11, 2e-11], dtype=object), ": expected numbers, got array([1e-11, 2e-11], dtype=object)"),
        (np.array("a"), ": expected numbers, got array('a', dtype='<U1')"),
        ({"gain": 1e-11}, ": expected numbers, got {'gain': 1e-11}"),
    ],
)
def test_the_first_entry_that_is_no_number_is_named(bad: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(f"devices.channel_gain{message}") + "$"):
        ka.Problem(CELL, ka.Devices(**NUMPY | {"channel_gain": bad}))


def test_a_list_that_holds_itself_is_refused() -> None:
    endless: list[Any] = [1e-11]
    endless.append(endless)
    with pytest.raises(ValueError, match="expected numbers"):
        ka.Problem(CELL, ka.Devices(**NUMPY | {"channel_gain": endless}))


def test_a_bad_number_in_a_tensor_is_named() -> None:
    with pytest.raises(ValueError, match=r"^devices.payload_bits\[1\] = 0.0: must be > 0 and finite$"):
        in_torch(payload_bits=torch.tensor([1.0, 0.0, 1.0, 1.0]))


class Elsewhere:
    """An array of a library that follows the array API standard, on a device that NumPy cannot read directly."""

    device = "far"

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def __array_namespace__(self) -> Any:
        return LIBRARY

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("not on the host")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, *, dl_device: tuple[int, int] | None = None, **kwargs: Any) -> Any:
        assert dl_device == (1, 0)
        return self.values.__dlpack__()


def asarray(values: Any, *, device: str) -> Elsewhere:
    assert device == "far"
    return Elsewhere(values)


LIBRARY = SimpleNamespace(__name__="elsewhere", asarray=asarray)


def test_arrays_of_the_standard_go_home_too() -> None:
    s = ka.solve(in_torch(channel_gain=NUMPY["channel_gain"]))
    far = ka.Problem(CELL, ka.Devices(**NUMPY | {"channel_gain": Elsewhere(NUMPY["channel_gain"])}))
    got = ka.solve(far)
    assert isinstance(got.pruning_ratio, Elsewhere)
    np.testing.assert_array_equal(got.pruning_ratio.values, s.pruning_ratio)
    with pytest.raises(ValueError, match=r"devices.channel_gain: an array of elsewhere on far, but cell.bandwidth_hz"):
        in_torch(channel_gain=Elsewhere(NUMPY["channel_gain"]))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_arrays_are_neither_copied_nor_changed(kind: Any) -> None:
    gain = np.array(NUMPY["channel_gain"])
    problem = ka.Problem(CELL, ka.Devices(**NUMPY | {"channel_gain": kind(gain)}))
    assert np.shares_memory(problem.devices.channel_gain, gain)
    before = gain.copy()
    ka.solve(problem)
    np.testing.assert_array_equal(gain, before)
    assert gain.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        problem.devices.channel_gain[0] = 1.0


def test_what_is_written_after_the_verdict_is_noticed_by_the_next() -> None:
    gain = np.array(NUMPY["channel_gain"])
    problem = ka.Problem(CELL, ka.Devices(**NUMPY | {"channel_gain": gain}))
    s = ka.solve(problem)
    allocation = s.pruning_ratio, s.bandwidth_hz, s.tx_power_w
    gain[1] *= 0.5
    assert not ka.certify(problem, *allocation).ok
    assert ka.solve(problem).certificate.ok
    gain[1] = np.nan
    assert not ka.certify(problem, *allocation).ok


def test_odd_layouts_mean_the_same() -> None:
    gain = NUMPY["channel_gain"]
    odd = np.frombuffer(b"x" + gain.tobytes(), dtype=np.uint8)[1:].view(np.float64)
    assert not odd.flags.aligned
    want = ka.solve(PROBLEM).pruning_ratio
    for layout in (np.repeat(gain, 2)[::2], gain[::-1].copy()[::-1], gain.astype(">f8"), odd, list(gain)):
        got = ka.solve(ka.Problem(CELL, ka.Devices(**NUMPY | {"channel_gain": layout}))).pruning_ratio
        np.testing.assert_array_equal(got, want)
