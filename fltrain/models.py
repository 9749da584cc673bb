"""Small models whose last layer is named ``head``, the usual personal part."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal, get_args

from torch import nn

from fltrain._random import seeded
from fltrain.data import Dataset

ModelName = Literal["mlp", "cnn", "cnn_bn"]
_SMALL_IMAGE = 16  # below this, 5 x 5 filters without padding leave nothing to pool


def build_model(name: ModelName, data: Dataset, seed: int = 0) -> nn.Module:
    """A model of suitable size for `data`, initialised from `seed`.

    ``mlp`` is 784-128-64-10 on 28 x 28 images and half as wide on smaller ones. ``cnn`` is the two-layer
    5 x 5 CNN of the MNIST papers (McMahan et al. 2017; 582,026 parameters on 28 x 28 grey images), or a
    3 x 3 one on images smaller than 16 x 16. ``cnn_bn`` is for colour images such as CIFAR-10: three stages of
    two 3 x 3 convolutions with batch norm, 32, 64 and 128 channels, then the mean over the image; 288,746
    parameters. Its batch-norm statistics stay on the device. ``mlp`` takes inputs of any shape (N, ...), tables
    (N, features) too; the others take images (N, channels, height, width).

    Raises
    ------
    ValueError
        Unknown name, or inputs of a shape that the model does not take.
    """
    if name not in get_args(ModelName):
        raise ValueError(f"model must be one of {', '.join(get_args(ModelName))}, got {name!r}")
    if name == "mlp":
        if data.x.ndim < 2:
            raise ValueError(f"x must have shape (N, features) or more dimensions, got {data.x.shape}")
        inputs = math.prod(data.x.shape[1:])
        with seeded(seed):
            return _mlp(inputs, (128, 64) if inputs >= 784 else (64, 32), data.classes)
    if data.x.ndim != 4:
        raise ValueError(
            f"x must have shape (N, channels, height, width) for {name}, got {data.x.shape}; mlp takes any shape"
        )
    channels, height, width = data.x.shape[1:]
    with seeded(seed):
        if name == "cnn_bn":
            return _cnn_bn(channels, (32, 64, 128), data.classes)
        if min(height, width) < _SMALL_IMAGE:
            return _cnn(channels, height, width, (16, 32), 3, 1, 64, data.classes)
        return _cnn(channels, height, width, (32, 64), 5, 0, 512, data.classes)


def _mlp(inputs: int, hidden: tuple[int, int], classes: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(inputs, hidden[0]),
            relu1=nn.ReLU(),
            fc2=nn.Linear(hidden[0], hidden[1]),
            relu2=nn.ReLU(),
            head=nn.Linear(hidden[1], classes),
        )
    )


def _cnn(
    channels: int,
    height: int,
    width: int,
    filters: tuple[int, int],
    kernel: int,
    padding: int,
    hidden: int,
    classes: int,
) -> nn.Module:
    shrink = kernel - 1 - 2 * padding
    rows, columns = (((side - shrink) // 2 - shrink) // 2 for side in (height, width))
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, filters[0], kernel, padding=padding),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(filters[0], filters[1], kernel, padding=padding),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(filters[1] * rows * columns, hidden),
            relu3=nn.ReLU(),
            head=nn.Linear(hidden, classes),
        )
    )


def _cnn_bn(channels: int, stages: tuple[int, ...], classes: int) -> nn.Module:
    layers: list[tuple[str, nn.Module]] = []
    for s, filters in enumerate(stages, 1):
        for i in (1, 2):
            layers += [
                (f"conv{s}{i}", nn.Conv2d(channels, filters, 3, padding=1, bias=False)),
                (f"norm{s}{i}", nn.BatchNorm2d(filters)),
                (f"relu{s}{i}", nn.ReLU()),
            ]
            channels = filters
        layers.append((f"pool{s}", nn.MaxPool2d(2) if s < len(stages) else nn.AdaptiveAvgPool2d(1)))
    layers += [("flatten", nn.Flatten()), ("head", nn.Linear(channels, classes))]
    return nn.Sequential(OrderedDict(layers))
