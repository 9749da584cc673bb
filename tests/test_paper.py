"""The paper: no number is typed by hand, it states what was verified and measured, and LaTeX sets it cleanly."""

from __future__ import annotations

import copy
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
import sympy

from paper import proofs, theorem
from paper.assertions import check_words
from paper.make import HERE, compile_pdf, generate
from paper.numbers import write_numbers
from paper.results import Report, Results, load
from paper.tex import Macros, escape, fixed, power, significant
from paper.theorem import Factor, Frac, Sum, plus

SOURCES = sorted([HERE / "main.tex", *(HERE / "sections").glob("*.tex")])

# What may hold digits without being a number of the paper: names of things, lengths, and what LaTeX needs to know.
_NOT_TEXT = (
    r"(?<!\\)%[^\n]*",  # comments
    r"\\(?:label|ref|eqref|cite|input|bibliography|bibliographystyle)\{[^}]*\}",
    r"\\includegraphics(?:\[[^\]]*\])?\{[^}]*\}",
    r"\\setlength\{[^}]*\}\{[^}]*\}",
    r"\\needspace\{[^}]*\}",
    r"\\begin\{multicols\}\{2\}",
    r"\\checkedstep\{[^}]*\}",
    r"CIFAR-10",
)
_MATHS = (
    r"\$[^$]*\$",
    r"(?<!\\)\\\[.*?\\\]",
    r"\\begin\{(subequations|equation|alignat|align|multline)\*?\}.*?\\end\{\1\*?\}",
)
# A formula may count with 0, 1 and 2 alone: squares, binary logarithms, halves. Nothing else is a constant of the text.
_CONSTANT = re.compile(r"(?<![\d.,])[012](?![\d.,]*\d)")
_WORDS = re.compile(
    r"\b(three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundreds?|thousands?|"
    r"millions?|dozens?|half|tenth|third|quarter|twice)\b",
    flags=re.IGNORECASE,
)
_IDIOMS = ("half of the squared gradient",)  # of the polarisation identity


def typed_numbers(source: str) -> list[str]:
    """Numbers in a hand-written source that are neither macros nor constants of a formula."""
    if r"\begin{document}" in source:
        source = source[source.index(r"\begin{document}") :]
    source = re.sub(r"(\\begin\{alignat\*?\})\{\d\}", r"\1", source)
    for pattern in _NOT_TEXT:
        source = re.sub(pattern, " ", source)
    formulas: list[str] = []

    def take(found: re.Match[str]) -> str:
        formulas.append(found[0])
        return " "

    for pattern in _MATHS:
        source = re.sub(pattern, take, source, flags=re.DOTALL)
    for idiom in _IDIOMS:
        source = re.sub(idiom.replace(" ", r"\s+"), " ", source)
    text = re.findall(r"\S*\d\S*", source) + [found[0] for found in _WORDS.finditer(source)]
    return text + [formula for formula in formulas if re.search(r"\d", _CONSTANT.sub("", formula))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_number_is_typed(path: Path) -> None:
    assert typed_numbers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        (r"in 41\,\% of the time", 1),
        (r"in $41$\,\% of the time", 1),
        (r"a factor of $2.5$", 1),
        (r"a ratio of 0.71", 1),
        (r"on five seeds of half the data", 2),
        (r"\begin{align}x &\le 3\end{align}", 1),
        (r"$\rho = 0.2$", 1),
        (r"$10$ devices", 1),
        (r"$x^2 + \log_2(1 + y)/2$ of \MnistTime\,\% % 41 in a comment", 0),
        (r"see \ref{fig:1} and~\cite{liu2024adaptive}", 0),
    ],
)
def test_the_rule_sees_typed_numbers(source: str, count: int) -> None:
    assert len(typed_numbers(source)) == count


@pytest.fixture(scope="module")
def results() -> Results:
    return load()


@pytest.fixture(scope="module")
def source(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper's sources with everything generated, in a folder of their own."""
    folder = tmp_path_factory.mktemp("paper")
    for path in [*SOURCES, HERE / "references.bib"]:
        target = folder / path.relative_to(HERE)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    generate(results, folder / "generated")
    return folder


def test_every_macro_and_step_that_is_used_is_defined(source: Path) -> None:
    macros = (source / "generated" / "macros.tex").read_text(encoding="utf-8")
    own = (HERE / "main.tex").read_text(encoding="utf-8")
    defined = set(re.findall(r"\\newcommand\{\\(\w+)\}", macros + own))
    latex = {"Gamma", "Delta", "Bigl", "Bigr", "IEEEPARstart"}
    steps = set(re.findall(r"^\\definestep\{([^}]*)\}", (source / "generated" / "steps.tex").read_text(), re.MULTILINE))
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"\\([A-Z][A-Za-z]*)", text)) <= defined | latex, path.name
        assert set(re.findall(r"\\checkedstep\{([^}]*)\}", text)) <= steps, path.name


def test_every_macro_is_used(source: Path) -> None:
    macros = (source / "generated" / "macros.tex").read_text(encoding="utf-8")
    defined = set(re.findall(r"^\\newcommand\{\\(\w+)\}", macros, re.MULTILINE))
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    assert len(defined) > 100
    assert defined - set(re.findall(r"\\([A-Za-z]+)", re.sub(r"(?<!\\)%[^\n]*", "", text))) == set()


def test_the_appendix_leaves_no_step_of_the_general_theorem_out() -> None:
    report, _ = proofs.check()
    uses = {(theory["key"], step["name"]): step["uses"] for theory in report["theories"] for step in theory["steps"]}
    pending, needed = [("convergence", "theorem"), ("target", "target statement")], set()
    while pending:
        key, name = pending.pop()
        if (key, name) not in uses:
            continue  # a fact
        # A corollary prints what it adds: the theorem's own steps stand under the theorem.
        own = key if ("convergence", name) not in uses else "convergence"
        needed.add(f"{own}:" + re.sub(r"[^A-Za-z0-9]", "-", name))
        pending += [(own, use["fact"]) for use in uses[own, name]]
    assert len(needed) > 25
    assert needed <= set(re.findall(r"\\checkedstep\{([^}]*)\}", (HERE / "sections" / "appendix.tex").read_text()))


@pytest.mark.parametrize("name", [field.name for field in fields(theorem.round_terms(theorem.GENERAL))])
def test_a_theorem_that_was_not_verified_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: Factor = Sum((plus(sympy.Rational(1001, 1000), theorem._GENERAL[name]),))
    monkeypatch.setitem(theorem._GENERAL, name, wrong)
    with pytest.raises(ValueError, match="not what was verified"):
        theorem.statement(Macros())


@pytest.mark.parametrize("index", range(len(theorem._TARGET)))
def test_a_corollary_that_was_not_verified_is_refused(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    name, layout = theorem._TARGET[index]
    wrong = [*theorem._TARGET]
    wrong[index] = (name, Sum((plus(sympy.Rational(999, 1000), layout),)))
    monkeypatch.setattr(theorem, "_TARGET", tuple(wrong))
    with pytest.raises(ValueError, match="not what was verified"):
        theorem.statement(Macros())


def test_layouts_print_what_they_stand_for() -> None:
    a, b = sympy.symbols("a c")
    layout = Sum((plus(a, Frac((a, b), (sympy.Integer(2),)), Sum((plus(sympy.Integer(1)), theorem.minus(b)))),))
    assert theorem.tex(layout) == r"a\,\frac{a\,c}{2}\,(1-c)"
    assert sympy.expand(theorem.value(layout) - a**2 * b * (1 - b) / 2) == 0


def _numbers(results: Results) -> dict[str, str]:
    macros = Macros()
    write_numbers(macros, results)
    return macros.by_name


def test_numbers_follow_the_results(results: Results) -> None:
    before, mnist = _numbers(results), copy.deepcopy(results.mnist)
    row = next(row for row in mnist["schemes"] if row["scheme"] == "joint")
    time = row["time_to_target_s"]
    time["per_seed"] = [2 * value for value in time["per_seed"]]
    after = _numbers(replace(results, mnist=mnist))
    assert int(after["MnistTime"]) == pytest.approx(2 * int(before["MnistTime"]), abs=1)
    assert before["MnistTimeHalf"] != after["MnistTimeHalf"]
    assert {name for name in before if before[name] != after[name]} <= {
        f"MnistTime{which}" for which in ("", "Range", "Ci", "Half", "Aim")
    }
    # Another way to the headline: the study's own claim.
    claimed = next(c for c in results.mnist["claims"] if c["id"] == "time-half")
    assert before["MnistTime"] == fixed(claimed["measured"]["mean"])


def test_a_seed_that_never_gets_there_is_not_averaged_away(results: Results) -> None:
    mnist = copy.deepcopy(results.mnist)
    next(row for row in mnist["schemes"] if row["scheme"] == "joint")["time_to_target_s"]["per_seed"][0] = None
    with pytest.raises(ValueError, match="never reaches the target"):
        _numbers(replace(results, mnist=mnist))


def test_a_sentence_that_results_contradict_stops_the_build(results: Results) -> None:
    check_words(results)
    bound = copy.deepcopy(results.bound)
    bound["runs"][0]["violations"] = 1
    with pytest.raises(ValueError, match=r"results do not: the bound was never violated$"):
        check_words(replace(results, bound=bound))
    mnist = copy.deepcopy(results.mnist)
    gap = next(c for c in mnist["claims"] if c["id"] == "faster-allocation_only")["measured"]
    gap["per_seed"] = [-value for value in gap["per_seed"]]
    with pytest.raises(ValueError, match=r"results do not: one common ratio [^;]*$"):
        check_words(replace(results, mnist=mnist))


def test_a_missing_results_file_is_named_and_another_ignored(tmp_path: Path) -> None:
    docs = HERE.parent / "docs"
    shutil.copytree(docs / "results", tmp_path / "results")
    for name in ("speed.md", "verification.md"):
        shutil.copy(docs / name, tmp_path)
    (tmp_path / "results" / "another.json").write_text("no study of the paper", encoding="utf-8")
    assert load(tmp_path).scale == load().scale
    (tmp_path / "results" / "scale.json").unlink()
    with pytest.raises(ValueError, match=r"scale\.json does not exist"):
        load(tmp_path)


def test_numbers_and_text_as_latex() -> None:
    assert (fixed(21360), fixed(-0.004, 2), fixed(-0.5, 1)) == ("21{,}360", "0.00", "$-$0.5")
    assert (significant(452.3), significant(0.0023, 1), significant(2300.0, 3)) == ("450", "0.002", "2{,}300")
    assert significant(1e-28, 1) == r"\ensuremath{10^{-28}}"
    assert (power(2.4e-14), power(1e-9)) == (r"\ensuremath{10^{-13}}", r"\ensuremath{10^{-9}}")
    assert escape("a_b & 50 % <= x") == r"a\_b \& 50 \% $\leq$ x"
    with pytest.raises(ValueError, match="letters"):
        Macros().add("Mnist1", "1")


def _claim(report: Report, name: str) -> Report:
    return next(c["measured"] for c in report["claims"] if c["id"] == name)


def test_above_and_below_follow_the_sign(results: Results) -> None:
    harder = copy.deepcopy(results.harder)
    ends = _claim(harder, "end")
    ends["per_seed"] = [-1.5, -2.5, -1.0, -2.0]
    assert _numbers(replace(results, harder=harder))["HarderEndGap"] == "1.75 points below"
    ends["per_seed"] = [1.5, 2.5, 1.0, 2.0]
    assert _numbers(replace(results, harder=harder))["HarderEndGap"] == "1.75 points above"


@pytest.mark.parametrize(
    ("start", "values", "sentence"),
    [
        ("time-half", [None, 60.0], "no seed reaches the unpruned accuracy in time"),
        ("sooner", [50.0, 60.0], "unpruned training takes about as long"),
        ("faster-static", [3.0, -0.1], "ahead of unpruned training and of solving once"),
        ("faster-partial", [-1.0, 2.0], "ahead of unpruned training and of solving once"),
        ("faster-allocation_only", [1.0, 1.1], "one common ratio is not told apart there"),
        ("lost", [-1.0, 0.1], "solving every round loses fewer updates there"),
    ],
)
def test_harder_data_must_bear_the_words_out(
    start: str, values: list[float | None], sentence: str, results: Results
) -> None:
    harder = copy.deepcopy(results.harder)
    _claim(harder, start)["per_seed"] = values
    with pytest.raises(ValueError, match=rf"results do not: [^;]*{sentence}[^;]*$"):
        check_words(replace(results, harder=harder))


def test_ends_must_bear_the_words_out(results: Results) -> None:
    harder, ablation = copy.deepcopy(results.harder), copy.deepcopy(results.ablation)
    rows = {row["scheme"]: row for row in harder["schemes"]}
    joint = rows["joint"]["final_accuracy"]
    rows["allocation_only"]["final_accuracy"] = [end + 0.05 + 0.001 * n for n, end in enumerate(joint)]
    with pytest.raises(ValueError, match=r"results do not: one common ratio is not told apart there$"):
        check_words(replace(results, harder=harder))
    ends = next(row for row in ablation["schemes"] if row["scheme"] == "random")["final_accuracy"]
    ends["per_seed"] = [1.0] * len(ends["per_seed"])
    with pytest.raises(ValueError, match=r"results do not: a shared head and random masks cost accuracy at the end$"):
        check_words(replace(results, ablation=ablation))
    harder = copy.deepcopy(results.harder)
    harder["study"]["dataset"] = "digits"
    with pytest.raises(ValueError, match=r"results do not: the harder data are CIFAR-10$"):
        check_words(replace(results, harder=harder))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX; continuous integration has it")
def test_the_paper_is_set_cleanly(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "paper"
    shutil.copytree(source, folder)
    compile_pdf(folder, tmp_path / "build")
    log = (tmp_path / "build" / "main.log").read_text(encoding="utf-8", errors="replace")
    bibliography = (tmp_path / "build" / "main.blg").read_text(encoding="utf-8")
    assert "Warning" not in bibliography
    for trouble in ("undefined", "multiply defined", "Rerun to get", "Missing character", "No step"):
        assert trouble not in log, trouble
    too_wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)]
    assert max(too_wide, default=0.0) <= 3.0
    pages = re.search(r"Output written on .*?\((\d+) pages", log, flags=re.DOTALL)
    assert pages is not None
    assert 10 <= int(pages[1]) <= 30
