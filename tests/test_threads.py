"""How many threads the compiled engine takes, which engine serves and why, and what its kernel refuses to count."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from problems import random_problem

import kktalloc as ka
from kktalloc._problem import kernel
from kktalloc._problem import threads as chosen

compiled = pytest.mark.skipif(kernel._KERNEL is None, reason="installed without a C compiler")
LARGE = 1 << 20


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KKTALLOC_THREADS", "OMP_NUM_THREADS", "KKTALLOC_ENGINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("own", "shared", "asked", "want"),
    [
        ("3", "5", 2, 2),
        ("3", "5", None, 3),
        ("", "5", None, 5),
        ("", "5,2", None, 5),
        ("", " 4 ", None, 4),
        ("", "many", None, 7),
        ("", "0", None, 7),
        ("", "", None, 7),
    ],
)
def test_the_argument_then_our_variable_then_openmps_then_the_system(
    monkeypatch: pytest.MonkeyPatch, own: str, shared: str, asked: int | None, want: int
) -> None:
    monkeypatch.setenv("KKTALLOC_THREADS", own)
    monkeypatch.setenv("OMP_NUM_THREADS", shared)
    monkeypatch.setattr(chosen, "usable_processors", lambda: 7)
    assert chosen.threads_for(LARGE, asked) == want
    assert chosen.threads_for(100, asked) == 1


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("KKTALLOC_THREADS", value)
    with pytest.raises(ValueError, match=f"^KKTALLOC_THREADS = {value}: must be a whole number >= 1$"):
        chosen.threads_for(1)


@pytest.mark.parametrize("value", [0, -3, 1.5, "2", True])
def test_a_wrong_argument_is_named(value: Any) -> None:
    problem = ka.Problem(ka.Cell(1e6, 4e-21, 1.0), ka.Devices([1e-10, 2e-10], 0.1, 1e6, 0.1))
    with pytest.raises((ValueError, TypeError), match=r"^threads"):
        ka.solve(problem, threads=value)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_no_more_than_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda who: {0, 3, 5})
    monkeypatch.setattr(chosen, "_quota", lambda: np.inf)
    assert chosen.usable_processors() == 3
    monkeypatch.setattr(chosen, "_quota", lambda: 1.9)
    assert chosen.usable_processors() == 1
    monkeypatch.setattr(chosen, "_quota", lambda: 0.2)
    assert chosen.usable_processors() == 1


@pytest.mark.parametrize(
    ("membership", "files", "want"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, np.inf),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "400000 100000\n"}, 4.0),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n", "a/cpu.max": "400000 100000\n"}, 2.0),
        ("0::/gone\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("4:memory:/m\n3:cpu,cpuacct:/d\n", {"cpu,cpuacct/d/cpu.cfs_quota_us": "300000",
                                             "cpu,cpuacct/d/cpu.cfs_period_us": "100000"}, 3.0),
        ("3:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, np.inf),
        ("0::/\n", {"cpu.max": "nonsense"}, np.inf),
        ("0::/\n", {}, np.inf),
    ],
)  # fmt: skip
def test_quota_of_the_control_group(tmp_path: Path, membership: str, files: dict[str, str], want: float) -> None:
    for name, text in {"proc/self/cgroup": membership, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert chosen._quota(tmp_path) == want


def test_without_control_groups(tmp_path: Path) -> None:
    assert chosen._quota(tmp_path) == np.inf


@compiled
@pytest.mark.parametrize("shape", [(70_001,), (3, 9_000), (3000, 9), (700, 40)])
def test_the_numbers_do_not_depend_on_the_threads(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    gain, count = 10.0 ** rng.uniform(-13, -10, shape), shape[-1]
    devices = ka.Devices(gain, 0.1, rng.uniform(1e6, 3e6, count), 0.2, energy_budget_j=rng.uniform(0.05, 1, shape))
    problem = ka.Problem(ka.Cell(3e5 * count, 4e-21, 1.0), devices)
    one, *others = (ka.solve(problem, threads=n) for n in (1, 2, 5, 100))
    for other in others:
        for name in ("pruning_ratio", "bandwidth_hz", "tx_power_w", "objective"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        np.testing.assert_array_equal(one.prices.energy_per_j, other.prices.energy_per_j)


@compiled
def test_calls_from_several_threads_at_once() -> None:
    problem = random_problem(np.random.default_rng(2), 20_000, "mixed", stress=False)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "import numpy as np, kktalloc as ka\n"
        "from problems import random_problem\n"
        "problem = random_problem(np.random.default_rng(2), 20_000, 'mixed', stress=False)\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    found = list(pool.map(lambda n: ka.solve(problem, threads=n).objective, [1, 2, 3, 4] * 4))\n"
        "print({float(x) for x in found})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str({float(ka.solve(problem).objective)})


@compiled
def test_which_engine_serves_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ka.engine() == "compiled"
    assert "built by" in ka.engine().why
    monkeypatch.setenv("KKTALLOC_ENGINE", "numpy")
    assert ka.engine() == "numpy"
    assert ka.engine().why == "KKTALLOC_ENGINE=numpy asks for it"
    assert repr(ka.engine()) == "Engine('numpy', why='KKTALLOC_ENGINE=numpy asks for it')"


def test_a_missing_kernel_is_said_once_and_only_where_it_matters() -> None:
    code = (
        "import sys, warnings; sys.modules['kktalloc._kernel'] = None\n"
        "import numpy as np, kktalloc as ka\n"
        "print(ka.engine(), '|', ka.engine().why)\n"
        "def solve(n):\n"
        "    with warnings.catch_warnings(record=True) as told:\n"
        "        warnings.simplefilter('always')\n"
        "        ka.solve(ka.Problem(ka.Cell(1e12, 4e-21, 1.0), ka.Devices(np.full(n, 1e-10), 0.1, 1e6, 0.1)))\n"
        "    return [w.category.__name__ + ': ' + str(w.message) for w in told]\n"
        "print(solve(100))\nprint(solve(10_000))\nprint(solve(10_000))\n"
    )
    quiet = {name: value for name, value in os.environ.items() if name != "KKTALLOC_ENGINE"}

    def told(**environment: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=quiet | environment
        )
        return done.stdout.splitlines()

    why, small, first, second = told()
    assert why.startswith("numpy | there is no compiled kernel: ")
    assert small == second == "[]"
    assert first.startswith("['RuntimeWarning: 10000 devices without the compiled engine")
    assert told(KKTALLOC_ENGINE="numpy")[1:] == ["[]"] * 3


CELL = (np.array(1e6), np.array(4e-21), np.array(1.0), np.array(np.inf))
DEVICES = tuple(np.array(v) for v in (1e-11, 0.1, 4e6, 0.2, 0.0, 0.0, np.inf, 0.0, 0.0, 1.0, 1.0, 1.0))
HUGE = [(4, 2**62), (2, 2**62), (2**62, 4), (2**31, 2**33), (1, 2**40), (2**62, 0), (0, 2**62), (2**63 - 1, 2**63 - 1)]
NEGATIVE = [(-1, -1), (1, -1), (-1, 1), (0, -3), (-(2**63), 1), (-(2**63), -1)]


@compiled
@pytest.mark.parametrize(("problems", "devices"), [*HUGE, *NEGATIVE])
def test_sizes_that_cannot_be_counted_are_refused(problems: int, devices: int) -> None:
    """Called directly: an overflowing product must not pass for the size of the arrays that came along."""
    none = np.empty(0)
    codes = np.empty(0, np.int8)
    with pytest.raises(ValueError, match="cannot be counted"):
        kernel._KERNEL.solve(CELL, DEVICES, None, problems, devices, 1, none, codes, 1e-9)
    with pytest.raises(ValueError, match="cannot be counted"):
        kernel._KERNEL.judge(
            CELL, DEVICES, None, problems, devices, 1, np.array(0.1), np.array(1e5), np.array(0.1), np.array(1e-7),
            np.array(0.0), *[None] * 8, none, None, None, None,
        )  # fmt: skip
    with pytest.raises(ValueError, match="cannot be counted"):
        kernel._KERNEL.normalise(np.array(1.0), problems, devices, none)
