"""The compiled extensions built in another way, and tests run against them: ``python tests/builds.py address thread``.

Ways: ``gcc-11`` is the compiler of Ubuntu 22.04 and RHEL 9; ``address`` watches memory and undefined behaviour, and
``thread`` races, by the sanitizers of the compiler at hand; ``baseline``, ``avx2`` and ``avx512`` use one instruction
set alone, whatever else the processor has. Each builds a copy of the source tree in a temporary folder and fails where
an extension is missing, a test fails or a sanitizer speaks. ``--short`` runs the tests of seconds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kktalloc import _command

ROOT = Path(__file__).parents[1]
PARTS = ("kktalloc", "fltrain", "tests", "setup.py", "pyproject.toml", "README.md", "LICENSE")
SHORT = (
    "tests/test_threads.py",
    "tests/test_fltrain_chain.py",
    "tests/test_fltrain_chain_boundary.py",
    "tests/test_fltrain_chain_layers.py",
)
LONG = (
    *SHORT,
    "tests/test_kernel.py",
    "tests/test_engine.py",
    "tests/test_engine_curves.py",
    "tests/test_solve.py",
    "tests/test_arrays.py",
    "tests/test_engine_floors.py",
    "tests/test_dead_devices.py",
    "tests/test_clock.py",
)
# Autograd is watched as well, which is slow: every line of the chain is reached by these cases already.
# CasADi loads IPOPT in a way that the sanitizers do not allow.
WATCHED = "(not test_against_autograd or (70 and all)) and not ipopt"
# How each way compiles, and what has to be loaded before Python. Flags given here come after those of setup.py.
ONE_SET = "-DFOR_EVERY_CPU= -march="
WAYS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "gcc-11": ("gcc-11", "", ()),
    "address": (
        "cc",
        "-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all",
        ("libasan.so", "libubsan.so"),
    ),
    "thread": ("cc", "-g -O1 -fsanitize=thread", ("libtsan.so",)),
    "baseline": ("cc", f"{ONE_SET}x86-64", ()),
    "avx2": ("cc", f"{ONE_SET}x86-64-v3", ()),
    "avx512": ("cc", f"{ONE_SET}x86-64-v4", ()),
}
# What Python keeps until it ends is no leak; libraries that are not instrumented show races that are none.
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1 ignore_noninstrumented_modules=1 report_signal_unsafe=0",
    "KKTALLOC_ENGINE": "compiled",
}


def build(way: str, where: Path) -> dict[str, str]:
    """Copy the sources to `where` and build there; returns the environment in which to run them."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, where / part, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(ROOT / part, where / part)
    compiler = where / "compiler"
    name, flags, preloaded = WAYS[way]
    compiler.write_text(f'#!/bin/sh\nexec {name} "$@" {flags}\n')
    compiler.chmod(0o755)
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    environment = os.environ | ENVIRONMENT | {"CC": str(compiler)}
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
    if not all(list((where / package).glob("_*.so")) for package in ("kktalloc", "fltrain")):
        sys.exit(f"{way}: an extension was not built\n{done.stdout}\n{done.stderr}")
    found = [
        subprocess.run(["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in preloaded
    ]
    return environment | {"PYTHONPATH": str(where)} | ({"LD_PRELOAD": " ".join(found)} if found else {})


def check(way: str, tests: tuple[str, ...]) -> int:
    """Build and run; returns pytest's exit code."""
    with tempfile.TemporaryDirectory(prefix="kktalloc-") as folder:
        environment = build(way, Path(folder))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        if WAYS[way][2]:
            command += ["-k", WATCHED]
            if shutil.which("setarch"):
                command = ["setarch", "-R", *command]  # shadow memory wants fixed addresses
        return subprocess.run(command, cwd=folder, env=environment).returncode


def main() -> int:
    """Run the ways asked for; 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ways", nargs="+", choices=WAYS)
    parser.add_argument("--short", action="store_true", help="tests of seconds only")
    arguments = parser.parse_args()
    failed = [way for way in arguments.ways if check(way, SHORT if arguments.short else LONG)]
    print(f"{', '.join(arguments.ways)}: {'FAIL in ' + ', '.join(failed) if failed else 'clean'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(_command.run("builds", main))
