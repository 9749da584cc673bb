"""What devices receive: the whole global part, or only what moved since they last received it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fltrain.accounting import HEADER_BITS, VALUE_BITS, subset_bits

NEVER = -1


@dataclass(frozen=True)
class Received:
    """Who holds which version of the global part; a new one after each round, none is changed.

    Parameters
    ----------
    moved : int32 tensor (n_global,)
        Round in which a coordinate last moved; `NEVER`: not since the start.
    held : int64 (K,)
        Round at whose start a device last received the global part; `NEVER`: not yet, so that it holds nothing.
    """

    moved: torch.Tensor
    held: NDArray[np.int64]

    @classmethod
    def nothing(cls, n: int, devices: int) -> Received:
        """Before the first round."""
        return cls(torch.full((n,), NEVER, dtype=torch.int32), np.full(devices, NEVER, dtype=np.int64))

    def bits(self) -> NDArray[np.float64]:
        """Size (K,) of what brings each device up to date: the coordinates that moved and which they are, or all."""
        n = self.moved.numel()
        by_round = np.bincount(self.moved.numpy() + 1, minlength=int(self.held.max()) + 2)
        # Those that moved in the round at whose start it last received the global part are among what it lacks.
        since = n - np.concatenate([[0], np.cumsum(by_round)])[self.held + 1]
        moved = np.where(self.held == NEVER, n, since)
        size = {int(count): min(VALUE_BITS * n, VALUE_BITS * count + subset_bits(n, int(count))) for count in moved}
        return np.array([HEADER_BITS + size[int(count)] for count in moved], dtype=np.float64)

    def after(self, round_index: int, moved: torch.Tensor, receivers: NDArray[np.bool_]) -> Received:
        """When a round has moved the coordinates `moved` (n_global,) and `receivers` (K,) had received what was."""
        return Received(
            torch.where(moved, torch.tensor(round_index, dtype=torch.int32), self.moved),
            np.where(receivers, round_index, self.held),
        )
