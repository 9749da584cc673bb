"""What would leave the arrays that the compiled module is handed is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fltrain import chain

pytestmark = pytest.mark.skipif(chain._chain is None, reason="installed without a C compiler")


def arguments(**changes: Any) -> tuple[Any, ...]:
    layer = [4, 3, 1, 1, 1, 1, 0, 0, 1, 1, False]
    for i, value in changes.pop("layer", {}).items():
        layer[i] = value
    f = {
        "weight": np.zeros((3, 4), np.float32), "bias": np.zeros(3, np.float32), "mask": None,
        "set": 1, "x": np.zeros((5, 4), np.float32), "y": np.zeros(5, np.int64), "samples": 5,
        "batches": np.zeros((2, 2), np.int64), "steps": 2, "size": 2, "loss": np.zeros(2, np.float32),
    } | changes  # fmt: skip
    layers = ((*layer, (f["weight"], 0.1, f["mask"]), (f["bias"], 0.1, None)),)
    rest = [f[name] for name in ("set", "x", "y", "samples", "batches", "steps", "size", "loss")]
    return changes.get("layers", layers), *rest


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": ()},
        {"layers": 65 * arguments()[0]},
        {"layers": 2 * arguments()[0]},
        {"layers": list(arguments()[0])},
        *({"layer": {i: 0}} for i in (0, 1, 2, 3, 4, 5, 8, 9)),
        *({"layer": {i: -1}} for i in (6, 7)),
        {"layer": {4: 2}},
        {"layer": {5: 2}},
        {"layer": {8: 2}},
        {"layer": {9: 2}},
        {"layer": {6: 5, 7: 50, 8: 8, 9: 16}},
        {"layer": {0: 1 << 25}},
        {"weight": np.zeros((3, 5), np.float32)},
        {"weight": np.zeros((3, 4))},
        {"weight": np.zeros((4, 3), np.float32).T},
        {"bias": np.zeros(4, np.float32)},
        {"mask": np.zeros((3, 3), np.float32)},
        {"mask": np.zeros((3, 4), np.int32)},
        {"set": 0},
        {"set": 9},
        {"x": np.zeros((5, 3), np.float32)},
        {"y": np.full(5, 3)},
        {"y": np.full(5, -1)},
        {"y": np.zeros(5, np.int32)},
        {"samples": 4},
        {"samples": -5},
        {"batches": np.full((2, 2), 5)},
        {"batches": np.full((2, 2), -1)},
        {"steps": 3},
        {"steps": -2},
        {"size": 0},
        {"size": 1},
        {"loss": np.zeros(3, np.float32)},
        # Products that overflow must not pass for the size of the arrays that came along.
        {"samples": 1 << 62, "x": np.zeros(0, np.float32), "y": np.zeros(0, np.int64)},
        {"samples": 1 << 61, "x": np.zeros(0, np.float32), "y": np.zeros(0, np.int64)},
        {"steps": 1 << 62, "batches": np.zeros(0, np.int64), "loss": np.zeros(0, np.float32)},
        {"steps": 1 << 61, "size": 1 << 3, "batches": np.zeros(0, np.int64), "loss": np.zeros(0, np.float32)},
        {"size": 1 << 62, "batches": np.zeros(0, np.int64)},
    ],
)
def test_the_boundary_refuses_what_would_leave_the_arrays(changes: dict[str, Any]) -> None:
    chain._chain.train(*arguments())
    with pytest.raises((ValueError, TypeError, BufferError)):
        chain._chain.train(*arguments(**changes))


@pytest.mark.parametrize("samples", [1 << 62, 1 << 61, 1 << 40, -1, -(1 << 63)])
def test_outputs_of_samples_that_cannot_be_counted_are_refused(samples: int) -> None:
    layers, *_ = arguments()
    with pytest.raises(ValueError, match=r"cannot be counted|are due"):
        chain._chain.outputs(layers, 1, np.zeros(0, np.float32), samples, np.zeros(0, np.float32))


def test_read_only_parameters_are_refused() -> None:
    weight = np.zeros((3, 4), np.float32)
    weight.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        chain._chain.train(*arguments(weight=weight))


def test_images_out_are_refused_as_classes() -> None:
    layer = (
        1,
        3,
        4,
        4,
        2,
        2,
        0,
        0,
        1,
        1,
        False,
        (np.zeros((3, 1, 2, 2), np.float32), 0.1, None),
        (np.zeros(3, np.float32), 0.1, None),
    )
    with pytest.raises(ValueError, match="classes"):
        chain._chain.train(*arguments(layers=(layer,), x=np.zeros((5, 16), np.float32)))
