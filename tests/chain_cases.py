"""Models that compiled code trains, of shapes that fit nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from torch import nn


def dense(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def lenet() -> nn.Sequential:
    """No size is a multiple of another; taps are the rows of the first products, channels of the second."""
    pool, conv = nn.MaxPool2d(2), nn.Conv2d(3, 37, (3, 2))
    return nn.Sequential(
        nn.Conv2d(2, 3, 4), nn.ReLU(), pool, conv, nn.MaxPool2d((2, 2)), nn.ReLU(), nn.Flatten(), nn.Linear(37, 5)
    )


def padded() -> nn.Sequential:
    """Padding, no ReLU, no pooling, pooling that drops an edge."""
    first = [nn.Conv2d(2, 5, 3, padding=(0, 1)), nn.Conv2d(5, 4, (2, 3), padding=(3, 1)), nn.ReLU(), nn.MaxPool2d(3)]
    return nn.Sequential(*first, nn.Conv2d(4, 6, (1, 3), padding=(0, 1)), nn.Flatten(), nn.ReLU(), nn.Linear(90, 5))


def unbiased() -> nn.Sequential:
    """No convolution and no linear layer but the last has a bias."""
    first = [nn.Conv2d(2, 5, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, (2, 3), bias=False)]
    return nn.Sequential(*first, nn.ReLU(), nn.Flatten(), nn.Linear(32, 7, bias=False), nn.ReLU(), nn.Linear(7, 5))


def oblong() -> nn.Sequential:
    """Pools of three by two, one row, one column, edges dropped."""
    first = [nn.Conv2d(2, 5, 2), nn.ReLU(), nn.MaxPool2d((3, 2)), nn.Conv2d(5, 4, (2, 1)), nn.MaxPool2d((1, 3))]
    return nn.Sequential(*first, nn.ReLU(), nn.Conv2d(4, 6, 1), nn.MaxPool2d((2, 1)), nn.Flatten(), nn.Linear(6, 5))


def rows() -> nn.Sequential:
    """One-dimensional convolutions, padded and not, with and without bias, pooled and not."""
    first = [nn.Conv1d(26, 7, 3, padding=2, bias=False), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(7, 40, 2)]
    return nn.Sequential(*first, nn.MaxPool1d((2,)), nn.Conv1d(40, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))


MODELS: dict[str, Callable[[], nn.Sequential]] = {
    "linear": lambda: dense(286, 5),
    "mlp": lambda: dense(286, 45, 33, 5),
    "lenet": lenet,
    "padded": padded,
    "unbiased": unbiased,
    "oblong": oblong,
    "rows": rows,
}


SHAPES = {name: (26, 11) if name == "rows" else (2, 13, 11) for name in MODELS}
