"""Which of the package's inequality steps `suggest` proves by itself: ``python tests/proof_suggestions.py``.

Each step is offered without its certificate, with the statements known before it: all of them, or (`--hinted`)
those that the shipped certificate uses. ``--theory KEY`` tries one theory, ``--seconds`` bounds each search.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from types import FrameType

from kktalloc import _command
from kktalloc.proof import Step, Theory, suggest
from kktalloc.proof._report import COROLLARIES, theories


def inequality_steps(theory: Theory, skipped: frozenset[str] = frozenset()) -> Iterator[tuple[Step, Theory]]:
    """Each inequality step, and the theory as it stands before it."""
    for n, step in enumerate(theory.steps):
        if step.claim.relation == "<=" and step.name not in skipped:
            yield step, replace(theory, steps=theory.steps[:n])


def search(step: Step, before: Theory, hinted: bool) -> Step | None:
    """A certificate for the claim of a step, found without looking at the shipped one's multipliers and squares."""
    return suggest(step.claim, before, {use.fact for use in step.uses} if hinted else None)


class OutOfTime(Exception):  # noqa: N818 - a verdict, not a malfunction
    """The search was stopped."""


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise OutOfTime


def main() -> int:
    """Search all and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--theory", choices=list(theories()))
    parser.add_argument("--hinted", action="store_true")
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    signal.signal(signal.SIGALRM, _stop)
    found = tried = 0
    every = theories()
    for key, theory in every.items():
        if args.theory not in (None, key):
            continue
        parent = every.get(COROLLARIES.get(key, ""))
        for step, before in inequality_steps(
            theory, frozenset(s.name for s in parent.steps) if parent else frozenset()
        ):
            tried += 1
            began = time.perf_counter()
            signal.alarm(args.seconds)
            try:
                answer = "found" if search(step, before, args.hinted) else "-"
            except OutOfTime:
                answer = f"- ({args.seconds} s)"
            signal.alarm(0)
            found += answer == "found"
            print(f"{answer:>10}  {key}: {step.name} ({time.perf_counter() - began:.1f} s)", flush=True)
    print(f"found {found} of {tried}")
    return 0


if __name__ == "__main__":
    sys.exit(_command.run("proof_suggestions", main))
