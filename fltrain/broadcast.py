"""What devices receive: the whole global part, or only what moved since they last received it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fltrain._fields import real_number, whole_number
from fltrain.accounting import HEADER_BITS, VALUE_BITS, subset_bits

NEVER = -1
OVERLAP = 0.5
"""Of masks, before the first pruned round. On digits it is 0.2 to 1 later on, less where less is pruned; with that
of the last round the next broadcast is predicted to 15 % (``pytest tests/test_fltrain_broadcast.py``)."""


@dataclass(frozen=True)
class Moves:
    """What is known of the coordinates that a round will move, and so of the size of the next broadcast.

    A coordinate stays where it is if every device prunes it. If masks had nothing to do with each other, that share
    would be the product of the pruning ratios. Masks of devices that train alike overlap: it is taken to be the product
    to a power, which the last round in which all pruned half or more tells. What moved before and what the round moves
    are taken to have nothing to do with each other, and devices that a planner leaves out to receive no next broadcast.

    Parameters
    ----------
    n : int
        Coordinates of the global part.
    overlap : float
        That power, > 0; 1: masks are independent, less: they overlap.
    behind : float
        Share of the coordinates, in [0, 1], that some device lacks already which is drawn for the next round and not
        for this one.

    Raises
    ------
    ValueError
        One of these is out of range: names it and the value.
    """

    n: int
    overlap: float = OVERLAP
    behind: float = 0.0

    def __post_init__(self) -> None:  # noqa: D105
        whole_number("n", self.n, least=1)
        real_number("overlap", self.overlap, "a finite number > 0", lambda value: value > 0.0)
        real_number("behind", self.behind, "in [0, 1]", lambda value: 0.0 <= value <= 1.0)

    def next_bits(self, pruning_ratio: ArrayLike) -> NDArray[np.float64]:
        """Expected size (...) of the broadcast after a round with these ratios (..., S), in [0, 1]; else ValueError."""
        ratio = np.atleast_1d(np.asarray(pruning_ratio, dtype=np.float64))
        wrong = ~((ratio >= 0.0) & (ratio <= 1.0))
        if wrong.any():
            raise ValueError(f"pruning_ratio must be in [0, 1], got {ratio[wrong][0]}")
        stay = np.prod(ratio, axis=-1) ** self.overlap
        count = self.n * (1.0 - (1.0 - self.behind) * stay)
        return np.array([_bits(self.n, each) for each in count.ravel().tolist()]).reshape(count.shape)


@dataclass(frozen=True)
class Received:
    """Who holds which version of the global part; a new one after each round, none is changed.

    Parameters
    ----------
    moved : int32 tensor (n_global,)
        Round in which a coordinate last moved; `NEVER`: not since the start.
    held : int64 (K,)
        Round at whose start a device last received the global part; `NEVER`: not yet, so that it holds nothing.
    overlap : float
        See `Moves`.
    """

    moved: torch.Tensor
    held: NDArray[np.int64]
    overlap: float = OVERLAP

    @classmethod
    def nothing(cls, n: int, devices: int) -> Received:
        """Before the first round."""
        return cls(torch.full((n,), NEVER, dtype=torch.int32), np.full(devices, NEVER, dtype=np.int64))

    def bits(self) -> NDArray[np.float64]:
        """Size (K,) of what brings each device up to date: the coordinates that moved and which they are, or all."""
        n, lacks = self.moved.numel(), self._lacks()
        size = {count: _bits(n, count) for count in set(lacks.tolist())}
        return np.array([size[count] for count in lacks.tolist()])

    def moves(self, absent: NDArray[np.bool_]) -> Moves:
        """What is known of a round before the next one's broadcast, which the devices `absent` (K,) receive, too."""
        n = self.moved.numel()
        return Moves(n, self.overlap, float(self._lacks()[absent].max()) / n if absent.any() else 0.0)

    def _lacks(self) -> NDArray[np.int64]:
        """How many coordinates (K,) each device does not hold as they are now."""
        n = self.moved.numel()
        by_round = np.bincount(self.moved.numpy() + 1, minlength=int(self.held.max()) + 2)
        # Those that moved in the round at whose start it last received the global part are among what it lacks.
        since = n - np.concatenate([[0], np.cumsum(by_round)])[self.held + 1]
        return np.where(self.held == NEVER, n, since)

    def after(
        self, round_index: int, moved: torch.Tensor, receivers: NDArray[np.bool_], pruning_ratio: NDArray[np.float64]
    ) -> Received:
        """When a round has moved the coordinates `moved` (n_global,) and `receivers` (K,) had received what was.

        `pruning_ratio` (S,): of the devices whose uploads moved them.
        """
        n = moved.numel()
        stayed = n - int(moved.sum())
        # Next to one that prunes little the others hardly show in the product.
        told = 0 < stayed < n and (pruning_ratio >= 0.5).all() and (pruning_ratio < 1.0).any()
        overlap = math.log(stayed / n) / float(np.log(pruning_ratio).sum()) if told else self.overlap
        return Received(
            torch.where(moved, torch.tensor(round_index, dtype=torch.int32), self.moved),
            np.where(receivers, round_index, self.held),
            overlap,
        )


def _bits(n: int, count: float) -> float:
    """Of a broadcast that brings `count` of `n` coordinates up to date."""
    return HEADER_BITS + min(VALUE_BITS * n, VALUE_BITS * count + subset_bits(n, count))
