from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PAGE = Path(__file__).parents[1] / "docs" / "training.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All Python of the page in one namespace, top to bottom, as a reader would."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks) == 7
    assert (tmp_path / "run.pt").exists()


def test_flowers_commands_are_those_that_are_tested() -> None:
    """`make test-flower` starts servers and devices by the page's commands, with settings that the app has."""
    page = (ROOT / "docs" / "flower.md").read_text(encoding="utf-8")
    tested = (ROOT / "tests" / "test_fltrain_flower_processes.py").read_text(encoding="utf-8")
    app = tomllib.loads((ROOT / "examples" / "flower" / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"][
        "app"
    ]
    shell = " ".join(re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)).replace("\\\n", " ")
    commands = re.findall(r"examples/flower/quiet (flwr run|flower-\w+)(.*)", shell)
    assert {program for program, _ in commands} == {"flwr run", "flower-superlink", "flower-supernode"}
    for program, given in commands:
        assert all(f'"{word}"' in tested for word in program.split()), program
        for run_config in re.findall(r"--run-config '(.*?)'", given):
            assert set(re.findall(r"([\w-]+)=", run_config)) <= set(app["config"])
        own = re.sub(r"'.*?'", "", given)
        # Where messages are shown, and how many devices are simulated, which `run_simulation` is told there.
        options = set(re.findall(r"--[\w-]+", own)) - {"--stream", "--federation-config"}
        assert all(f'"{option}"' in tested for option in options), options
