"""Results files: one JSON per run, written whole or not at all, with what is needed to run it again."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from kktalloc._durable import write_durably

FORMAT = 1
_ROOT = Path(__file__).resolve().parent.parent
# What a run's numbers come from; figures and texts may change without training again.
_SOURCES = (
    "kktalloc/*.py", "kktalloc/_*/*.py", "kktalloc/kernel/*.[ch]", "fltrain/*.py", "fltrain/kernel/*.[ch]", "setup.py",
)  # fmt: skip
COMPARISON_SOURCES = ("config", "radio", "schemes", "study")
"""Modules of this package that make the numbers of a comparison of schemes."""


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all; NaN and infinity are refused."""
    write_durably(path, _encoded(value))


def _encoded(value: Any) -> str:
    return json.dumps(value, allow_nan=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    """Arrays and NumPy scalars as JSON holds them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def read_json(path: Path) -> Any:
    """Content of a JSON file; ValueError names the file if it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error})") from None
    except RecursionError:
        raise ValueError(f"{path} is not JSON that we wrote (nested too deeply)") from None


@contextmanager
def opened(out: Path, config: dict[str, Any]) -> Iterator[Callable[[Path, Any], None]]:
    """Write study.json into the results folder `out`, made if need be; yields what writes a results file into it.

    An unwritable folder is thus found before the work, and work that fails at once leaves nothing: what is empty at the
    end is taken away again. Another study may have come into the folder meanwhile, and that may be what takes it away.
    So only empty folders are removed, and every results file makes sure of its folder and its study.json.
    """
    runs, study, text = out / "runs", out / "study.json", _encoded(config)
    fresh = [folder for folder in (out, *out.parents) if not folder.exists()]

    def own() -> bool:
        return study.exists() and study.read_bytes() == text.encode()

    def present() -> None:
        runs.mkdir(parents=True, exist_ok=True)
        if not own():
            write_durably(study, text)

    def write(path: Path, run: Any) -> None:
        present()
        if path.exists() and (odd := first_difference(run["config"], read_run(path)["config"])):
            raise ValueError(f"{path} has meanwhile come from another study ({odd})")
        write_json(path, run)

    present()
    try:
        yield write
    finally:
        with suppress(OSError):  # not empty, or gone: somebody else's
            if fresh and own() and not any(runs.iterdir()):
                study.unlink()
                for folder in (runs, *fresh):
                    folder.rmdir()


def run_path(out: Path, scheme: str, seed: int) -> Path:
    """Where the results of one run lie."""
    return out / "runs" / f"{scheme}-seed{seed}.json"


def read_run(path: Path) -> dict[str, Any]:
    """Results of one run; ValueError names the file if it holds none."""
    run = read_json(path)
    if not isinstance(run, dict) or run.get("format") != FORMAT:
        raise ValueError(f"{path} is not a results file of format {FORMAT}")
    found: dict[str, Any] = run
    return found


def first_difference(wanted: dict[str, Any], found: dict[str, Any], prefix: str = "") -> str | None:
    """The first field in which two nested configs differ, with both values."""
    for name in sorted(wanted.keys() | found.keys()):
        mine, other = wanted.get(name), found.get(name)
        if isinstance(mine, dict) and isinstance(other, dict):
            if odd := first_difference(mine, other, f"{prefix}{name}."):
                return odd
        elif mine != other:
            return f"{prefix}{name} is {other}, not {mine}"
    return None


def source_digest(modules: tuple[str, ...] = COMPARISON_SOURCES) -> str:
    """Fingerprint of the code that makes the numbers: a run made by other code is not reused.

    `modules` are those of this package, ``bound/terms`` and the like. The engines count as they are loaded, so that a
    build left behind by its sources is not taken for a new one.
    """
    hasher = hashlib.sha256()
    for package, module in _compiled().items():
        built = b"" if module is None else Path(module.__file__).read_bytes()
        hasher.update(package.encode() + b"\0" + hashlib.sha256(built).digest())
    for pattern in (*_SOURCES, *(f"validation/{name}.py" for name in modules)):
        for path in sorted(_ROOT.glob(pattern)):
            hasher.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return hasher.hexdigest()[:16]


def engines() -> dict[str, str]:
    """Which engine serves each package: ``compiled``, or ``python`` (NumPy and autograd)."""
    return {package: "python" if module is None else "compiled" for package, module in _compiled().items()}


def _compiled() -> dict[str, Any]:
    """By package, the compiled module that serves it in this process, or None."""
    kernel = import_module("kktalloc._problem.kernel").kernel()
    try:
        chain = import_module("fltrain.chain")._chain
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        chain = None  # nothing can be trained; studies of the allocator alone do not need it
    return {"kktalloc": kernel, "fltrain": chain}


def provenance(modules: tuple[str, ...] = COMPARISON_SOURCES) -> dict[str, Any]:
    """Commit, engines, versions and machine, as recorded in every results file."""
    versions = {}
    for package in ("kktalloc", "numpy", "scipy", "torch", "scikit-learn", "matplotlib"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "from the checkout"
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_modified": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "source": source_digest(modules),
        "engines": engines(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def _git(*arguments: str) -> str | None:
    """Output of a git command in this checkout; None outside a repository or without git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
