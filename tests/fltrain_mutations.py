"""Breaks every reported statistic, durable write and check of fltrain on purpose, and sees a test fail.

    python tests/fltrain_mutations.py              all of them, one after the other (ten minutes and more)
    python tests/fltrain_mutations.py train_loss   those whose name contains the word

They stand in fltrain_mutations.toml. Each works on a copy of the packages. Exit code 1 if one goes unnoticed. Those of
Flower run where it is installed, the others where it is not.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("fltrain", "kktalloc", "validation", "paper", "tests", "docs")


class Mutation(NamedTuple):
    """One line of code made wrong, and where a test must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = [
    Mutation(**entry)
    for entry in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))["mutation"]
]


def survives(mutation: Mutation) -> bool:
    """Whether the tests pass although the code is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        for package in PACKAGES:
            shutil.copytree(
                ROOT / package, Path(folder) / package, ignore=shutil.ignore_patterns("__pycache__", "results")
            )
        shutil.copy(ROOT / "pyproject.toml", folder)
        path = Path(folder) / mutation.file
        path.write_text(mutated(mutation), encoding="utf-8")
        first, *rest = mutation.tests.split(" -k ")
        files = [f"tests/{name}" for name in first.split()]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files]
        command += ["-k", rest[0]] if rest else []
        done = subprocess.run(
            command, cwd=folder, env=_environment(folder), capture_output=True, text=True, check=False
        )
    if done.returncode not in (0, 1):  # 1: a test failed
        raise RuntimeError(f"{mutation.name}: pytest could not run the tests\n{done.stdout[-2000:]}")
    return done.returncode == 0


def mutated(mutation: Mutation) -> str:
    """The file with the mutation; ValueError if the text to replace does not stand in it once."""
    source = (ROOT / mutation.file).read_text(encoding="utf-8")
    if source.count(mutation.old) != 1:
        raise ValueError(
            f"{mutation.name}: {mutation.old!r} stands {source.count(mutation.old)} times in {mutation.file}"
        )
    return source.replace(mutation.old, mutation.new)


def _environment(folder: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{folder}/tests", "OMP_NUM_THREADS": "1", "CI": ""}


def main(words: list[str]) -> int:
    """Run the mutations whose names contain one of `words`, or all."""
    flower = importlib.util.find_spec("flwr") is not None
    chosen = [m for m in MUTATIONS if m.name.startswith("flower") == flower]
    chosen = [m for m in chosen if not words or any(word in m.name for word in words)]
    unnoticed = 0
    for mutation in chosen:
        lives = survives(mutation)
        unnoticed += lives
        print(f"{'UNNOTICED' if lives else 'noticed  '} {mutation.name}", flush=True)
    print(f"{len(chosen) - unnoticed} of {len(chosen)} mutations noticed")
    return int(unnoticed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
