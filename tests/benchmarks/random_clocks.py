"""Random cells of ten devices with a clock, over the plain cell:
``PYTHONPATH=tests python tests/benchmarks/random_clocks.py``.

The cells are `clock_cell` of ``tests/clock_cases.py``, which meet far more corners than phones do. Processor time, each
cell in turns with the plain one, the best of the repeats of both; certificates included.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
from clock_cases import clock_cell
from questions import questions

import kktalloc as ka
from kktalloc import _command


def _once(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first cell; each has its own")
    parser.add_argument("--repeats", type=int, default=40)
    args = parser.parse_args()
    plain, _ = questions()
    ratios = []
    for seed in range(args.seed, args.seed + args.cells):
        problem = clock_cell(np.random.default_rng(seed), 10, roomy=True)
        if ka.solve(problem, throw=False).diagnosis is not None:
            continue
        pairs = [(_once(lambda p=problem: ka.solve(p)), _once(plain)) for _ in range(args.repeats)]  # type: ignore[misc]
        ratios.append(min(one for one, _ in pairs) / min(two for _, two in pairs))
    found = np.array(ratios)
    quantiles = np.quantile(found, [0.5, 0.9, 1.0])
    print(f"{found.size} feasible cells: half within {quantiles[0]:.3g} times the plain cell, 90 % within "
          f"{quantiles[1]:.3g}, all within {quantiles[2]:.3g}; {np.mean(found <= 10.0):.0%} within 10")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(_command.run("random_clocks", main))
