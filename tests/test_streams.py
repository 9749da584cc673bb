"""Every command line, with streams that are closed, full or abandoned, and interrupted at any moment: one line each."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kktalloc._command import emit, printable, run

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "ten_devices.toml"
KKTALLOC, VALIDATION, PAPER = ([sys.executable, "-m", name] for name in ("kktalloc", "validation", "paper"))
SOLVE = [*KKTALLOC, "solve", str(EXAMPLE)]
posix = pytest.mark.skipif(os.name != "posix", reason="shells and signals of POSIX")
pytestmark = posix


def shell(command: list[str], redirection: str, **options: Any) -> subprocess.CompletedProcess[str]:
    line = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120, **options)


@pytest.mark.parametrize(
    ("command", "redirection", "says"),
    [
        (SOLVE, "> /dev/full", "kktalloc: error: standard output: No space left on device"),
        ([*SOLVE, "--json"], "> /dev/full", "kktalloc: error: standard output: No space left on device"),
        ([*KKTALLOC, "--help"], "> /dev/full", "kktalloc: error: standard output: No space left on device"),
        ([*KKTALLOC, "--version"], "> /dev/full", "kktalloc: error: standard output: No space left on device"),
        ([*VALIDATION, "--help"], "> /dev/full", "validation: error: standard output: No space left on device"),
        ([*PAPER, "--help"], "> /dev/full", "paper: error: standard output: No space left on device"),
        (SOLVE, ">&-", "kktalloc: error: standard output is closed"),
        ([*KKTALLOC, "solve", "-"], "<&-", "kktalloc: error: <stdin>: standard input is closed"),
        ([*KKTALLOC, "solve", "--help"], ">&-", "kktalloc: error: standard output is closed"),
        ([*SOLVE, "--out", "/dev/full"], "", "kktalloc: error: /dev/full: No space left on device"),
        ([*SOLVE, "--out", "/dev/full"], ">&-", "kktalloc: error: /dev/full: No space left on device"),
        ([*VALIDATION, "overview", "nowhere", "--out", "/proc/nowhere"], ">&-", "validation: error: "),
    ],
)
def test_one_line_and_exit_code_2(command: list[str], redirection: str, says: str) -> None:
    done = shell(command, redirection)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith(says)


@pytest.mark.parametrize("redirection", ["2>&-", "2> /dev/full"])
@pytest.mark.parametrize(
    ("command", "code"),
    [(SOLVE, 0), ([*KKTALLOC, "solve", "nowhere.toml"], 2), ([*VALIDATION, "map", "--seeds", "0"], 2)],
)
def test_without_standard_error_the_exit_code_tells(command: list[str], code: int, redirection: str) -> None:
    done = shell(command, redirection)
    assert done.returncode == code
    assert ("certificate: holds" in done.stdout) == (code == 0)
    assert "error" not in done.stdout


def test_with_out_no_standard_output_is_needed(tmp_path: Path) -> None:
    done = shell([*SOLVE, "--json", "--out", str(tmp_path / "s.json")], ">&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "s.json").read_text())["status"] == "optimal"


def test_json_on_standard_input_may_begin_with_a_byte_order_mark() -> None:
    text = json.dumps(
        {
            "cell": {"bandwidth_hz": 1e6, "noise_psd_w_per_hz": 4e-21, "deadline_s": 1.0},
            "devices": {"channel_gain": [1e-12], "tx_power_max_w": 0.1, "payload_bits": 4e6, "pruned_compute_s": 0.3},
        }
    )
    for content, code in ((b"\xef\xbb\xbf" + text.encode(), 0), (text.encode(), 0), (b"\xff" + text.encode(), 2)):
        done = subprocess.run([*KKTALLOC, "solve", "-", "--json"], input=content, capture_output=True, check=False)
        assert done.returncode == code, done.stderr
    assert done.stderr == b"kktalloc: error: <stdin>: not UTF-8 text\n"


@pytest.mark.parametrize("depth", [65, 900, 100_000])
@pytest.mark.parametrize("kind", ["json", "toml"])
@pytest.mark.parametrize("where", ["cell", "devices", "cell.deadline_s", "devices.pruned_compute_s", "name", "whole"])
def test_nested_too_deeply(tmp_path: Path, depth: int, where: str, kind: str) -> None:
    tables: dict[str, Any] = {
        "cell": {"bandwidth_hz": 1e6, "noise_psd_w_per_hz": 4e-21, "deadline_s": 1.0},
        "devices": {"channel_gain": [1e-12], "tx_power_max_w": 0.1, "payload_bits": 4e6, "pruned_compute_s": 0.3},
    }
    deep = "[" * depth + "0.3" + "]" * depth
    table, _, field = where.partition(".")
    if where == "whole":
        text = deep if kind == "json" else f"x = {deep}"
    else:
        if field:
            tables[table][field] = "DEEP"
        else:
            tables[table] = "DEEP"
        if kind == "json":
            text = json.dumps(tables)
        else:
            plain = [f"{k} = {json.dumps(v)}" for k, v in tables.items() if not isinstance(v, dict)]
            for name, content in tables.items():
                if isinstance(content, dict):
                    plain += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in content.items())]
            text = "\n".join(plain)
        text = text.replace('"DEEP"', deep)
    path = tmp_path / f"deep.{kind}"
    path.write_text(text)
    from kktalloc.__main__ import main

    stderr, sys.stderr = sys.stderr, io.StringIO()
    try:
        code, said = main(["solve", str(path)]), sys.stderr.getvalue()
    finally:
        sys.stderr = stderr
    assert code == 2
    assert said.startswith(f"kktalloc: error: {path}: ")
    assert said.count("\n") == 1
    assert len(said) < 300 + len(str(path))


@pytest.mark.parametrize("command", ["kktalloc solve", "validation explore --no-browser", "validation map"])
def test_names_of_files_do_not_drive_the_terminal(tmp_path: Path, command: str) -> None:
    hostile = b"a\x1b[31m\r\n" + "\x9b\u202e".encode() + b"\xff.toml"
    path = os.fsencode(tmp_path) + b"/" + hostile
    Path(os.fsdecode(path)).write_text("[cell]\n")
    argv = [sys.executable, "-m", *command.split(), path]
    done = subprocess.run(argv, capture_output=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 2
    said = done.stderr.decode()
    assert said.count("\n") == 1
    assert printable(said[:-1]) == said[:-1]
    assert "/a\\x1b[31m\\r\\n\\x9b\\u202e\\udcff.toml" in said


def test_printable() -> None:
    assert printable("a ü 漢 \\ '") == "a ü 漢 \\ '"
    assert printable("\x1b[31m\t\n\x00\x7f\x9b\u2028\udcff") == "\\x1b[31m\\t\\n\\x00\\x7f\\x9b\\u2028\\udcff"


def test_output_that_a_stream_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    emit("phone ü\x1b\nnext\n")
    assert stream.buffer.getvalue() == b"phone \\xfc\\x1b\nnext\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "p: interrupted"),
        (ValueError("a\nb"), 2, "p: error: a\\nb"),
        (OSError(errno.ENOSPC, "No space left on device", "x\x1b"), 2, "p: error: x\\x1b: No space left on device"),
        (OSError("words"), 2, "p: error: words"),
        (MemoryError(), 2, "p: error: out of memory"),
        (ModuleNotFoundError("No module named 'torch'"), 2, "p: error: No module named 'torch'"),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_whatever_stops_a_command(
    raised: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> int:
        raise raised

    assert run("p", body) == code
    assert capsys.readouterr().err == (f"{line}\n" if line else "")


def test_faults_of_the_program_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run("p", lambda: 1 // 0)


INTERRUPT = """
import os, runpy, signal, sys
from importlib.abc import MetaPathFinder

class Interrupt(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == where:
            os.kill(os.getpid(), signal.SIGINT)

where, module = sys.argv.pop(1), sys.argv.pop(1)
sys.meta_path.insert(0, Interrupt())
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("where", "command"),
    [
        ("numpy", ["kktalloc", "solve", str(EXAMPLE)]),
        ("kktalloc._kernel", ["kktalloc", "solve", str(EXAMPLE)]),
        ("sympy", ["kktalloc", "verify"]),
        ("numpy", ["validation", "map"]),
        ("validation.map.page", ["validation", "map"]),
        ("torch", ["validation"]),
        ("bokeh", ["validation", "explore", "--no-browser"]),
        ("paper.make", ["paper", "--generate-only"]),
    ],
)
def test_an_interrupt_while_libraries_load(where: str, command: list[str]) -> None:
    argv = [sys.executable, "-c", INTERRUPT, where, *command]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 130, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith(f"{command[0]}: ")
    assert done.stderr.count("\n") == 1


def test_an_interrupt_at_work(tmp_path: Path) -> None:
    """The command waits for a FIFO that nobody fills: it is certainly there when the signal comes."""
    fifo = tmp_path / "scenario.json"
    os.mkfifo(fifo)
    command = [*KKTALLOC, "solve", str(fifo)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        fifo.open("wb"),  # opens when the command does
    ):
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out, said) == (130, "", "kktalloc: interrupted\n")


def test_an_interrupt_of_a_command_with_processes() -> None:
    """Ctrl-C reaches the whole group of processes; one of them answers."""
    command = [sys.executable, str(ROOT / "tests" / "fuzz_allocator.py"), "--count", "100000", "--workers", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        while "/100000" not in process.stderr.readline():  # the bar ends its lines with a carriage return
            pass
        os.killpg(process.pid, signal.SIGINT)
        out, said = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in said
    assert said.endswith("fuzz_allocator: interrupted\n")
