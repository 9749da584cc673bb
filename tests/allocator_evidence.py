"""The allocator against its certificate, CVXPY and SLSQP on 500 random problems: python tests/allocator_evidence.py.

The tests do the same on fewer; this takes about half an hour on one core. Exit code 1 if any bound is broken.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from independent import objective_at, slsqp
from problems import REGIMES, random_problem
from tqdm import tqdm

import kktalloc as ka
from kktalloc import _command


def main() -> int:
    """Print the worst of every comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--starts", type=int, default=3, help="SLSQP starts per problem; 0 leaves it out")
    arguments = parser.parse_args()
    rng = np.random.default_rng(20231)
    worst: dict[str, float] = {}
    regimes = np.zeros(len(ka.Regime), dtype=int)

    def note(name: str, value: float) -> None:
        worst[name] = max(worst.get(name, -np.inf), value)

    for i in tqdm(range(arguments.count)):
        problem = random_problem(rng, regime=REGIMES[i % len(REGIMES)])
        s = ka.solve(problem)
        regimes += np.bincount(s.regime, minlength=regimes.size)
        for certificate in (s.certificate, ka.certify(problem, s.pruning_ratio, s.bandwidth_hz, s.tx_power_w)):
            note("duality gap", abs(float(certificate.duality_gap)))
            for name, residual in certificate.residuals.items():
                note(f"residual {name}", float(residual))
        # Both rivals' bandwidths are made exactly feasible first: upper bounds that no tolerance blurs.
        rival = objective_at(problem, ka.solve_reference(problem).bandwidth_hz)
        note("worse than CVXPY by", float(s.objective) - rival)
        if arguments.starts:
            rival = slsqp(problem, np.random.default_rng(i), arguments.starts)
            note("worse than SLSQP by", float(s.objective) - rival)

    print(f"{arguments.count} problems, devices by regime:")
    print("  " + ", ".join(f"{r.name.lower()} {n}" for r, n in zip(ka.Regime, regimes, strict=True) if n))
    for name, value in worst.items():
        print(f"  {name:30s} {value: .2e}")
    limits = {"worse than CVXPY by": 1e-8, "worse than SLSQP by": 1e-8}
    return int(any(not value <= limits.get(name, 1e-9) for name, value in worst.items()))


if __name__ == "__main__":
    sys.exit(_command.run("allocator_evidence", main))
