"""Checks the proofs, writes what the paper takes from results, sets the PDF."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from kktalloc._durable import write_durably

from . import kinds, proofs, tables
from .assertions import check_words
from .figures import write_figures
from .numbers import write_numbers
from .results import Results
from .tex import Macros
from .theorem import statement

HERE = Path(__file__).resolve().parent
GENERATED_DIR = HERE / "generated"
_TABLES = {
    "headline": tables.headline,
    "schemes": tables.schemes,
    "comparisons": tables.comparisons,
    "tightness": tables.tightness,
    "speed": tables.speed,
    "harder": tables.harder,
    "plan": tables.plan,
    "kinds": tables.kinds,
    "drives": tables.drives,
}


def generate(results: Results, folder: Path = GENERATED_DIR) -> None:
    """Write every generated file into `folder`.

    Raises
    ------
    ValueError
        A step of the proofs fails, the paper's theorem is not the verified one, a result is missing, or one
        contradicts what the text says in words.
    """
    check_words(results)
    folder.mkdir(parents=True, exist_ok=True)
    report, theories = proofs.check()
    macros = Macros()
    statement(macros)
    kinds.statements(macros)
    write_numbers(macros, results)
    macros.update("", proofs.numbers(report, results.mutations).by_name)
    macros.write(folder / "macros.tex")
    proofs.write_steps(folder / "steps.tex", theories)
    for key in ("allocation", "convergence"):
        write_durably(folder / f"facts-{key}.tex", proofs.facts_list(theories[key]))
    for name, make in _TABLES.items():
        write_durably(folder / f"table-{name}.tex", make(results))
    write_durably(folder / "table-verification.tex", proofs.verification_table(report))
    write_figures(folder, results)


def compile_pdf(source: Path, build: Path) -> Path:
    """Set the paper in `source` with pdflatex and bibtex, all files in `build`; returns the PDF's path.

    Raises
    ------
    ValueError
        pdflatex is missing, or LaTeX stops at an error; the message has the lines that say why.
    """
    if shutil.which("pdflatex") is None:
        raise ValueError("pdflatex is missing: see paper/README.md for what to install")
    build.mkdir(parents=True, exist_ok=True)
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"-output-directory={build}", "main.tex"]
    bibtex = ["bibtex", "main"]  # writes only below its own folder
    where = {**os.environ, "BIBINPUTS": f"{source}:"}
    for command in (latex, bibtex, latex, latex):
        cwd = build if command is bibtex else source
        done = subprocess.run(command, cwd=cwd, env=where, capture_output=True, text=True, errors="replace")
        if done.returncode != 0:
            lines = done.stdout.splitlines()
            start = next((n for n, line in enumerate(lines) if line.startswith("!")), max(0, len(lines) - 15))
            said = "; ".join(line.strip() for line in lines[start : start + 6] if line.strip())
            raise ValueError(f"{command[0]} failed: {said} (all of it: {build / 'main.log'})")
    return build / "main.pdf"
