"""The packages as a stranger meets them: ``python tests/packages.py`` builds wheel and source archive and tries both.

The wheel goes into a fresh environment with the core dependencies alone; there, in another folder, README's example and
``kktalloc solve`` run, and what needs an extra says so in one line. With each extra in turn, what it is for runs. The
source archive is unpacked in another folder, built there, and its quick tests run. ``--wheel FILE`` tries a wheel that
is there without extras, by the Python that runs this; ``--installed`` tries what this Python has installed; ``--all``
runs every test from the source archive.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUICK = ("tests/test_solve.py", "tests/test_cli.py", "tests/test_readme.py", "tests/test_layers.py")


def clean() -> dict[str, str]:
    """The environment without what would let the checkout in."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KKTALLOC"))}


def call(*command: str | Path, cwd: Path, want: int = 0) -> str:
    """Run a command, show it, and return what it printed; an error if it does not end with `want`."""
    print("$", *command, flush=True)
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=clean(), capture_output=True, text=True)
    if done.returncode != want:
        sys.exit(f"exit code {done.returncode} instead of {want}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def fresh(folder: Path, *what: str | Path, cwd: Path | None = None) -> Path:
    """The folder of programs of a new environment with these packages, by exact versions where known."""
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    pins = (ROOT / "constraints.txt", ROOT / "examples" / "flower" / "constraints.txt")
    limits = [part for pin in pins for part in ("--constraint", pin)] if sys.version_info[:2] == (3, 11) else []
    call(programs / "python", "-m", "pip", "install", "--quiet", *limits, *what, cwd=cwd or folder)
    return programs


def try_installed(programs: Path, elsewhere: Path) -> None:
    """What a user of the wheel does first, in a folder that is not the checkout."""
    python = programs / "python"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code, printed = re.findall(r"```python\n(.*?)```\n\n((?:    [^\n]*\n)+)", readme, flags=re.DOTALL)[0]
    (elsewhere / "example.py").write_text(code)
    assert call(python, "example.py", cwd=elsewhere) == re.sub("^    ", "", printed, flags=re.MULTILINE)
    (elsewhere / "cell.toml").write_text((ROOT / "examples" / "ten_devices.toml").read_text())
    solved = json.loads(call(programs / "kktalloc", "solve", "cell.toml", "--json", cwd=elsewhere))
    assert solved["status"] == "optimal"
    assert solved["certificate"]["ok"]
    assert "holds" in call(programs / "kktalloc", "solve", "cell.toml", cwd=elsewhere)
    where = call(
        python, "-c", "import kktalloc as ka; print(ka.__file__, ka.__version__, ka.engine(), ka.engine().why)",
        cwd=elsewhere,
    )  # fmt: skip
    assert str(ROOT) not in where, where
    assert "compiled" in where, where
    print(where, end="")
    for module, extra in (("fltrain", "train"), ("kktalloc.plot", "plot")):
        told = call(python, "-c", f"import {module}", cwd=elsewhere, want=1)
        assert f"pip install 'kktalloc[{extra}]'" in told, told
    size = sum(path.stat().st_size for path in programs.parent.rglob("*") if path.is_file()) / 1e6
    print(f"environment with core dependencies: {size:.0f} MB", flush=True)


# What each extra is for. Flower's own simulation takes minutes: `make test-flower` runs it.
USES = {
    "plot": "import kktalloc as ka, kktalloc.plot as plot\n"
    "plot.allocation(ka.solve(ka.load_scenario('cell.toml'))).savefig('cell.png')",
    "train": "from fltrain.__main__ import main\nassert main(['train', '--rounds', '2']) == 0",
    "flower": "import ray, fltrain.flower; print(fltrain.flower.client_app)",
}


def try_extras(wheel: Path, work: Path, elsewhere: Path) -> None:
    """Each extra of the wheel in an environment of its own: it installs there, and what it is for runs."""
    for extra, code in USES.items():
        programs = fresh(work / extra, f"{wheel}[{extra}]")
        print(call(programs / "python", "-c", code, cwd=elsewhere), end="")


def try_source(archive: Path, folder: Path, every: bool) -> None:
    """Unpack, install from there with what the tests need, run them."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (tree,) = (path for path in folder.iterdir() if path.is_dir())
    programs = fresh(folder / "environment", "--requirement", "requirements/dev.txt", cwd=tree)
    tests = () if every else QUICK
    print(call(programs / "python", "-m", "pytest", "-q", *tests, cwd=tree).splitlines()[-1])


def main() -> None:
    """Build and try."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, help="try this wheel and nothing else")
    parser.add_argument("--installed", action="store_true", help="try what this Python has installed")
    parser.add_argument("--all", action="store_true", help="every test from the source archive")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        elsewhere = work / "elsewhere"
        elsewhere.mkdir()
        if args.installed:
            return try_installed(Path(sys.executable).parent, elsewhere)
        if args.wheel:
            return try_installed(fresh(work / "wheel", args.wheel.resolve()), elsewhere)
        builder = fresh(work / "builder", "build")
        call(builder / "python", "-m", "build", "--outdir", work / "dist", ROOT, cwd=work)
        (wheel,), (archive,) = (list((work / "dist").glob(kind)) for kind in ("*.whl", "*.tar.gz"))
        print(
            f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB; {archive.name}: {archive.stat().st_size / 1e6:.1f} MB"
        )
        assert "-cp311-abi3-" in wheel.name, wheel.name
        try_installed(fresh(work / "wheel", wheel), elsewhere)
        try_extras(wheel, work, elsewhere)
        return try_source(archive, work / "source", args.all)


if __name__ == "__main__":
    main()
