"""The reduced problem: what this folder computes with. `kktalloc._device.reduced` makes it and undoes it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.curves import PruningError


@dataclass(frozen=True, eq=False)
class Reduced:
    """The reduced problem. Every field has shape ``(N, K)``: batch dimensions are flattened to one."""

    weight: FloatArray  # alpha
    compute: FloatArray  # A = pruned compute time / window
    rate0: FloatArray  # nat/s of the overhead, per Hz of the cell
    rate1: FloatArray  # the same per unit of s
    power0: FloatArray  # energy-limited power at s = 0, in peaks; inf where energy is no limit
    power1: FloatArray  # its slope in s
    snr: FloatArray  # gamma: SNR at peak power spread over the whole bandwidth
    s_min: FloatArray
    s_max: FloatArray  # inf where the pruned steps at keep ratio 1 do not fit the window
    s_full: FloatArray  # the same without regard to the device's own bandwidth limit
    b_max: FloatArray  # the most bandwidth it can use, in cells; inf where that is no limit
    q_min: FloatArray
    power_share: FloatArray  # a device's peak over the cell's total power; 0 where that is no limit
    error: PruningError  # e(rho); the objective is sum weight e(1 - q)
    late: np.ndarray  # bool: the floor's compute does not fit the deadline
    drained: np.ndarray  # bool: the floor's compute does not fit the energy budget

    def rows(self, keep: np.ndarray) -> Reduced:
        """The problems selected by the boolean mask `keep` of shape ``(N,)``."""
        arrays = {f.name: getattr(self, f.name)[keep] for f in fields(self) if f.name != "error"}
        return Reduced(**arrays, error=self.error.rows(keep, self.weight.shape))

    def power_limit(self, s: FloatArray) -> FloatArray:
        """The most power at s, in peaks; a constant limit stays one at an infinite s."""
        return np.clip(
            self.power0 + np.multiply(self.power1, s, out=np.zeros(s.shape), where=self.power1 != 0.0), 0.0, 1.0
        )

    def keep_ratio(self, s: FloatArray) -> FloatArray:
        """The keep ratio q at s."""
        return s / (1.0 + self.compute * s)
