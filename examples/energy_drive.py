"""Drives past a base station on an average energy budget: a queue, the same budget in every round, and an oracle.

Four phones drive past again and again, at different times, with fading on top. Each may spend a budget per round on
average. Compared:

- every round within the budget (`kktalloc.solve`);
- `kktalloc.EnergyQueue`, which knows what has been spent and this round's channels, nothing of those to come; it starts
  from the price of energy that the first pass, on the same budget in every round, has shown;
- the oracle, which knows the whole drive: by convexity its optimum is one price per device and joule for all rounds.
  Any prices give a lower bound on what anybody could reach; a few steps towards those that meet the budgets make it
  tight.

Run: python examples/energy_drive.py [rounds]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

import kktalloc as ka

AVERAGE_J = np.array([0.03, 0.04, 0.03, 0.02])
PATIENCE_J2 = 0.5  # chosen on seed 0
SEED = 300
PASS = 10  # rounds from one end of the road to the other
ORACLE_STEPS = 12


@dataclass(frozen=True)
class Drive:
    """Mean pruning ratio over the rounds, and the most that a device's average is over its budget, in percent."""

    every_round: float
    queue: float
    oracle_bound: float
    queue_over_percent: float


def rounds_of(count: int, seed: int = 0) -> ka.Problem:
    """A batch of `count` rounds of four phones."""
    rng = np.random.default_rng(seed)
    along = (np.arange(count)[:, None] / PASS % 1.0) * 2.0 - 1.0
    distance_m = np.hypot(60.0, 400.0 * (along - np.array([-0.6, -0.2, 0.2, 0.6])))
    gain = 1e-3 * distance_m**-3.5 * rng.gamma(4.0, 0.25, (count, 4))
    devices = ka.Devices(gain, 0.2, 4e6, 0.2, pruned_compute_j=0.01)
    return ka.Problem(ka.Cell(1.5e6, 2e-20, 1.0), devices)


def drive(count: int = 100, seed: int = 0) -> Drive:
    """All three on the same drive."""
    batch = rounds_of(count, seed)
    d, cell = batch.devices, batch.cell
    of_devices = {n: np.asarray(v) for n, v in vars(d).items() if n != "name"}
    capped = ka.Problem(
        ka.Cell(cell.bandwidth_hz[:, 0], cell.noise_psd_w_per_hz[:, 0], cell.deadline_s[:, 0]),
        ka.Devices(**of_devices | {"energy_budget_j": AVERAGE_J}),
    )
    each = ka.solve(capped)

    # The first pass goes on the same budget in every round, and its mean price of energy is where the queue begins.
    price = each.prices.energy_per_j[:PASS].mean(axis=0)
    queue = ka.EnergyQueue(AVERAGE_J, PATIENCE_J2, PATIENCE_J2 * price)
    spent, kept = each.energy_j[:PASS].sum(axis=0), list(each.objective[:PASS])
    for r in range(PASS, count):
        one = ka.Problem(
            ka.Cell(cell.bandwidth_hz[r, 0], cell.noise_psd_w_per_hz[r, 0], cell.deadline_s[r, 0]),
            ka.Devices(**{n: v[r] for n, v in of_devices.items()}),
        )
        answer = queue.solve(one)
        kept.append(float(answer.objective))
        spent, queue = spent + answer.energy_j, queue.after(answer.energy_j)

    price, bound = np.full(4, 1.0), -np.inf
    for _ in range(ORACLE_STEPS):
        answer = ka.solve_priced(batch, energy_price_per_j=price)
        used = answer.energy_j.mean(axis=0) / AVERAGE_J
        bound = max(bound, float(answer.lower_bound.mean() - price @ AVERAGE_J))
        price = price * used**1.5
    over = float((spent / count / AVERAGE_J - 1.0).max())
    return Drive(float(each.objective.mean()), float(np.mean(kept)), bound, 100.0 * over)


def shown(count: int, found: Drive) -> list[str]:
    """The table of docs/allocator.md; lower is better."""
    over = found.queue_over_percent
    budgets = f"at least {-over:.2f} % below every budget" if over <= 0.0 else f"at most {over:.2f} % over a budget"
    return [
        f"| {count} rounds | mean pruning ratio |",
        "|---|---|",
        f"| the same budget in every round | {found.every_round:.4f} |",
        "| queue, which begins after the first pass with the price that it has shown "
        f"| {found.queue:.4f}, and {budgets} |",
        f"| oracle that knows the whole drive: nobody within the budgets is below | {found.oracle_bound:.4f} |",
    ]


def main() -> None:
    """One row for each."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    print("\n".join(shown(count, drive(count, seed=SEED))))


if __name__ == "__main__":
    main()
