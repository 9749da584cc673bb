"""Natural clients: each device is one writer, whose digits of all classes share a hand of its own.

No package at hand carries digits with their writers, so the hands are synthetic: every writer's share of scikit-learn's
digits is slanted, turned, widened and inked as one hand would. Classes are the same for all, so what differs between
devices is how a digit looks and not which ones there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

if TYPE_CHECKING:
    import fltrain as ft

SLANT, TURN, WIDTH, INK = 0.45, 0.35, (0.75, 1.25), (0.6, 1.7)
"""Most shear and turn (radians) either way; least and greatest width and exponent of the grey values."""


def shares(data: ft.Dataset, devices: int, test_fraction: float, seed: int) -> list[ft.DeviceData]:
    """Every writer's digits, dealt evenly and at random, each with held-out ones of the same hand."""
    import fltrain as ft

    order = np.random.default_rng(seed).permutation(len(data.y))
    dealt = ft.deal(data, np.array_split(order, devices), test_fraction=test_fraction, seed=seed)
    return [_written(share, np.random.default_rng((seed, k))) for k, share in enumerate(dealt)]


def _written(share: ft.DeviceData, rng: np.random.Generator) -> ft.DeviceData:
    from dataclasses import replace

    import torch

    hand, ink = draw_hand(rng), float(np.exp(rng.uniform(*np.log(INK))))
    train_x, test_x = (torch.from_numpy(write(x.numpy(), hand, ink)) for x in (share.train_x, share.test_x))
    return replace(share, train_x=train_x, test_x=test_x)


def draw_hand(rng: np.random.Generator) -> NDArray[np.float64]:
    """One writer's map (2, 2) from where a point is seen to where it was: slant, turn and width."""
    slant, turn, width = rng.uniform(-SLANT, SLANT), rng.uniform(-TURN, TURN), rng.uniform(*WIDTH)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(rotation @ np.array([[1.0, 0.0], [slant, 1.0 / width]]))


def write(images: NDArray[np.float32], hand: NDArray[np.float64], ink: float) -> NDArray[np.float32]:
    """The images (n, 1, height, width), in [0, 1], in one hand; an exponent `ink` below 1 makes strokes heavier."""
    centre = (np.array(images.shape[2:]) - 1) / 2
    offset = centre - hand @ centre
    moved = np.stack([ndimage.affine_transform(image[0], hand, offset, order=1) for image in images])
    return np.asarray(np.clip(moved, 0.0, 1.0) ** ink, dtype=np.float32)[:, None]
