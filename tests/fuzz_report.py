"""Chunks of cells judged by worker processes: what is wrong is printed at once, counts and worst figures at the end."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm


def report(
    judge: Callable[..., tuple[Any, ...]],
    jobs: Sequence[tuple[Any, ...]],
    cells: Sequence[int],
    workers: int,
    ended: Callable[[int, tuple[Any, ...]], None] = lambda number, found: None,
) -> int:
    """Judge every job, of so many cells each; exit code 1 if anything was wrong.

    `judge` returns counts, the worst of each figure and lines of what is wrong; `ended` sees what it returned, in the
    order of the jobs.
    """
    counts: Counter[str] = Counter()
    worst: dict[str, float] = {}
    wrong: list[str] = []
    deaf = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)  # after Ctrl-C workers end what they have in hand
    with ProcessPoolExecutor(workers, initializer=deaf) as pool, tqdm(total=sum(cells), unit="cell") as bar:
        for number, found in enumerate(pool.map(judge, *zip(*jobs, strict=True))):
            ended(number, found)
            counts += found[0]
            worst = {n: max(found[1].get(n, -np.inf), worst.get(n, -np.inf)) for n in found[1] | worst}
            wrong += found[2]
            for line in found[2]:
                tqdm.write(line)
            bar.update(cells[number])
    width = max(map(len, (*counts, *worst)), default=0) + 2
    for name, count in sorted(counts.items()):
        print(f"{name:{width}s}{count}")
    for name, value in sorted(worst.items()):
        print(f"{name:{width}s}{value:.2e}")
    print(f"{'wrong':{width}s}{len(wrong)}")
    return 1 if wrong else 0
