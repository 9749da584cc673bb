"""Compiled modules built from other sources than those at hand are refused by one line that says what to do."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fltrain import chain
from kktalloc._extension import load
from kktalloc._problem import kernel

ROOT = Path(__file__).parents[1]
# What functions take and return, as far as their sources' formats and enumerations tell. Whoever changes that raises
# INTERFACE in module.c and the number beside `load`, and writes the new digest here.
INTERFACES = {"kktalloc": (3, "0633a4b1d087"), "fltrain": (2, "064747a592dc")}


def digest(folder: Path) -> str:
    source = (folder / "module.c").read_text()
    said = re.findall(r'PyArg_ParseTuple\(\w+, ("[^"]*"|[^;]*?")', source) + re.findall(r'\{"(\w+)", py_', source)
    for header in folder.glob("problem.h"):
        said += re.findall(r"enum \w*\s*\{[^}]*\}", header.read_text())
    return hashlib.sha256("\n".join(" ".join(text.split()) for text in said).encode()).hexdigest()[:12]


@pytest.mark.parametrize("package", INTERFACES)
def test_a_changed_interface_has_a_new_number(package: str) -> None:
    folder = ROOT / package / "kernel"
    number = int(re.findall(r"INTERFACE = (\d+)", (folder / "module.c").read_text())[0])
    assert (number, digest(folder)) == INTERFACES[package]


@pytest.mark.skipif(kernel._KERNEL is None or chain._chain is None, reason="installed without a C compiler")
def test_modules_of_these_sources_are_taken() -> None:
    assert kernel._KERNEL.interface == INTERFACES["kktalloc"][0]
    assert chain._chain.interface == INTERFACES["fltrain"][0]


def test_a_module_that_is_not_there_is_no_reason_to_warn() -> None:
    module, why = load("kktalloc._no_such_kernel", 1)
    assert module is None
    assert why == "No module named 'kktalloc._no_such_kernel'; pip install -v shows what the compiler said"


STALE = """
import sys, types, warnings
for name in ("kktalloc._kernel", "fltrain._chain"):
    sys.modules[name] = stale = types.ModuleType(name)
    stale.__file__ = f"/somewhere/{name.rpartition('.')[2]}.so"
    if sys.argv[1] == "older":
        stale.interface = 0
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    import kktalloc as ka
    print(ka.engine(), "|", ka.engine().why)
    from fltrain import chain
print(chain._chain)
print(ka.solve(ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices([1e-10, 2e-10], 0.1, 1e6, 0.1))).status.name)
print([str(w.message) for w in told])
"""


@pytest.mark.parametrize("stale", ["older", "without a number"])
def test_modules_of_other_sources_are_refused(stale: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "KKTALLOC_ENGINE"}
    command = [sys.executable, "-c", STALE, stale]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
    rebuild = "was built from other sources; rebuild: python setup.py build_ext --inplace"
    assert done.stdout.splitlines() == [
        f"numpy | there is no compiled kernel: _kernel.so {rebuild}",
        "None",
        "OPTIMAL",
        str([
            f"kktalloc._kernel is not used: _kernel.so {rebuild}",
            f"fltrain._chain is not used: _chain.so {rebuild}",
        ]),
    ]  # fmt: skip
    asked = environment | {"KKTALLOC_ENGINE": "compiled"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=asked, cwd=ROOT)
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: KKTALLOC_ENGINE=compiled, but the kktalloc in {ROOT / 'kktalloc'} has no compiled kernel: "
        f"_kernel.so {rebuild}"
    )
