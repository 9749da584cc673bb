"""Random cells for the fuzz of prices, in units of any size; with bandwidth limits of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from clock_cases import clock_cells, rows
from numpy.typing import NDArray
from problems import random_problem

import kktalloc as ka
from kktalloc._problem.variant import variant

FloatArray = NDArray[np.float64]
NOISE = 4e-21
CURVES = (ka.Linear(), ka.PowerLaw(2.5), ka.Table([0.0, 0.3, 0.6, 1.0], [0.0, 0.02, 0.3, 1.0]))
DECADES = 6.0  # of each unit, up and down


@dataclass(frozen=True, eq=False)
class Units:
    """What a cell's own seconds, joules and bits are in s, J and bit, and its gains in those of the radio; ``(N,)``.

    Powers of two, so that only what a solver does with the numbers is another, not the numbers.
    """

    s: FloatArray
    j: FloatArray
    bit: FloatArray
    gain: FloatArray

    @classmethod
    def drawn(cls, rng: np.random.Generator, cells: int) -> Units:
        """At random, up to `DECADES` either way; of half of the cells 1."""
        most = DECADES * np.log2(10.0) * (rng.random(cells) < 0.5)
        return cls(*(2.0 ** np.round(rng.uniform(-most, most)) for _ in range(4)))

    def of(self, problem: ka.Problem) -> ka.Problem:
        """The same batch of cells in these units."""
        w, hz, psd = self.j / self.s, self.bit / self.s, self.j / self.bit * self.gain
        by = {
            "bandwidth_hz": hz, "noise_psd_w_per_hz": psd, "deadline_s": self.s, "channel_gain": self.gain,
            "tx_power_max_w": w, "circuit_power_w": w, "payload_bits": self.bit, "overhead_bits": self.bit,
            "pruned_compute_s": self.s, "fixed_compute_s": self.s, "fixed_latency_s": self.s,
            "energy_budget_j": self.j, "pruned_compute_j": self.j, "fixed_compute_j": self.j, "fixed_energy_j": self.j,
            "bandwidth_max_hz": hz,
        }  # fmt: skip
        cell = [np.asarray(getattr(problem.cell, n))[:, 0] * by[n] for n in CELL]
        fields = {n: np.asarray(v) * by[n][:, None] if n in by else v for n, v in vars(problem.devices).items()}
        return ka.Problem(ka.Cell(*cell), ka.Devices(**fields), problem.pruning_error)


CELL = ("bandwidth_hz", "noise_psd_w_per_hz", "deadline_s")


def plain_cells(rng: np.random.Generator, cells: int, devices: int) -> ka.Problem:
    """Cells without clocks, of all regimes, in one batch; a third of them far beyond real ones."""
    drawn = [random_problem(rng, devices, stress=bool(rng.random() < 0.3)) for _ in range(cells)]
    fields = {n: np.array([getattr(p.devices, n) for p in drawn]) for n in vars(drawn[0].devices)}
    noise = np.array([p.cell.noise_psd_w_per_hz[0] for p in drawn])
    fields["channel_gain"] = fields["channel_gain"] * (NOISE / noise)[:, None]
    hz, s = (np.array([getattr(p.cell, n)[0] for p in drawn]) for n in ("bandwidth_hz", "deadline_s"))
    return ka.Problem(ka.Cell(hz, NOISE, s), ka.Devices(**fields))


def with_own_limits(rng: np.random.Generator, problem: ka.Problem) -> ka.Problem:
    """In a third of the cells half of the devices have one, from a hundredth of the band to twice of it."""
    some = (rng.random(problem.shape) < 0.5) & (rng.random(problem.batch_shape) < 0.3)[:, None]
    hz = np.asarray(problem.cell.bandwidth_hz) * 10.0 ** rng.uniform(-2.0, 0.3, problem.shape)
    return variant(problem, bandwidth_max_hz=np.where(some, hz, np.inf))


def bit_cell(rng: np.random.Generator, devices: int) -> ka.Problem:
    """One cell, with clocks or without; in one of four all devices are alike."""
    batch = clock_cells(rng, 1, devices, roomy=True) if rng.random() < 0.5 else plain_cells(rng, 1, devices)
    batch = with_own_limits(rng, batch)
    problem = rows(Units.drawn(rng, 1).of(batch), 0)
    if rng.random() < 0.25:
        same = {n: np.asarray(v)[:1].repeat(devices) for n, v in vars(problem.devices).items()}
        problem = ka.Problem(one_cell(problem), ka.Devices(**same))
    hz = float(problem.cell.bandwidth_hz[0]) * 10.0 ** rng.uniform(-1.0, 0.2)
    return variant(problem, CURVES[int(rng.integers(2)) * 2], bandwidth_hz=hz)


def one_cell(problem: ka.Problem) -> ka.Cell:
    """The cell of one problem, of numbers."""
    return ka.Cell(*(float(np.asarray(getattr(problem.cell, n))[0]) for n in CELL))
