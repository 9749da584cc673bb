"""What the README shows is what happens."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def test_the_library_example_prints_what_the_readme_says() -> None:
    text = README.read_text(encoding="utf-8")
    code, printed = re.findall(r"```python\n(.*?)```\n\n((?:    [^\n]*\n)+)", text, flags=re.DOTALL)[0]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    assert out.getvalue() == re.sub("^    ", "", printed, flags=re.MULTILINE)


def test_extras_are_those_of_the_project() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    assert set(re.findall(r"^\| `(\w+)` \|", README.read_text(encoding="utf-8"), flags=re.MULTILINE)) == extras
    for page in (README, ROOT / "Makefile", *(ROOT / "docs").glob("*.md")):
        for named in re.findall(r"'\.\[([\w,]+)\]'", page.read_text(encoding="utf-8")):
            assert set(named.split(",")) <= extras, (page, named)


def test_make_bench_installs_the_peers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"\W", n)[0] for n in project["dependencies"] + project["optional-dependencies"]["bench"]}
    peers = (ROOT / "tests" / "benchmarks" / "allocator_peers.py").read_text()
    assert set(re.findall(r"^ +import (\w+)", peers, flags=re.MULTILINE)) <= declared
    command = ["make", "-n", "VENV=/nowhere", "bench"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--editable '.[dev]'" in planned
    assert re.search(r"[\[,]bench[\],]", project["optional-dependencies"]["dev"][0])


def test_links_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (README.parent / target).exists(), target
