"""`kktalloc verify`: everything holds, failures show, and what is written is what was checked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sympy
from matplotlib.mathtext import MathTextParser
from sympy.core.function import AppliedUndef

import kktalloc.proof
from kktalloc.proof import _report
from kktalloc.proof._checker import verify
from kktalloc.proof._hypotheses import THEORY, alpha, b, covered, e, grad_at, i, k, noise, pgrad, pnoise, unbiased, z
from kktalloc.proof._hypotheses import before as before_step
from kktalloc.proof._language import Sign, Theory, le
from kktalloc.proof._report import rests_on, theories
from kktalloc.proof._theorem import convergence

ALL = theories()


@pytest.mark.parametrize("key", list(ALL))
def test_every_step_holds(key: str) -> None:
    assert [v.step.name for v in verify(ALL[key]) if not v.verified] == []


def test_what_is_derived() -> None:
    names = {key: [step.name for step in theory.steps] for key, theory in ALL.items()}
    for needed in ("Jensen", "Young", "polarisation", "masked Pythagoras", "coverage", "coverage is tight"):
        assert needed in names["lemmas"]
    for needed in ("descent lemma", "coverage lemma", "drift sum", "server variance", "one round", "personal phase"):
        assert needed in names["convergence"]
    assert names["convergence"][-1] == "theorem, agreeing masks"
    assert names["target"][-1] == "target statement"
    assert names["one_step"][-1] == "one masked step"
    for needed in ("objective is convex", "rate is concave", "energy branch", "stationarity in u", "interior SNR"):
        assert needed in names["allocation"]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert kktalloc.proof.run(True, None) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verified"] is True
    assert found["failed"] == []
    assert found["steps"] == sum(len(theory.steps) for theory in ALL.values())
    (theorem,) = (
        step
        for theory in found["theories"]
        if theory["key"] == "convergence"
        for step in theory["steps"]
        if step["name"] == "theorem"
    )
    assert theorem["verified"]
    assert {"heterogeneity", "pruning error", "coverage at least Gamma", "variance in u"} <= set(theorem["rests_on"])
    assert "agreement" not in theorem["rests_on"]


def test_text_says_what_was_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert kktalloc.proof.run() == 0
    text = capsys.readouterr().out
    assert "FAILED" not in text
    assert "[verified] theorem:" in text
    assert re.search(r"^\d+ of \d+ steps verified$", text, re.MULTILINE)


def test_a_broken_step_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken() -> dict[str, Theory]:
        theory = ALL["lemmas"]
        young = next(step for step in theory.steps if step.name == "Young")
        worse = replace(young, claim=le(young.claim.lhs, young.claim.rhs / 2))
        steps = [worse if step is young else step for step in theory.steps]
        return {**ALL, "lemmas": replace(theory, steps=steps)}

    monkeypatch.setattr(_report, "theories", broken)
    assert kktalloc.proof.run(False, tmp_path) == 1
    text = capsys.readouterr().out
    assert "[FAILED] Young:" in text
    assert "1 FAILED" in text
    assert "NOT VERIFIED" in (tmp_path / "lemmas.tex").read_text()
    assert kktalloc.proof.run(True, None) == 1
    assert json.loads(capsys.readouterr().out)["failed"] == ["Young"]


def test_latex_files(tmp_path: Path) -> None:
    assert kktalloc.proof.run(False, tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == {f"{key}.tex" for key in (*ALL, "terms")}
    parser = MathTextParser("path")
    formulas: set[str] = set()
    for path in tmp_path.glob("*.tex"):
        text = path.read_text()
        assert "NOT VERIFIED" not in text
        assert text.count("{") == text.count("}")
        assert text.count(r"\begin{proof}") == text.count(r"\end{proof}")
        formulas |= set(re.findall(r"(?<!\\)\$(.+?)\$", text))
    for formula in formulas:
        # mathtext lacks these two spellings of what it can set
        plain = formula.replace(r"\displaystyle", "").replace(r"\tbinom", r"\binom")
        parser.parse(f"${plain}$")
    assert len(formulas) > 100


def test_a_directory_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write to .*file"):
        kktalloc.proof.run(True, tmp_path / "file")


def test_there_is_no_floating_point_in_the_proofs() -> None:
    for theory in ALL.values():
        said = [side for it in (*theory.facts, *theory.steps) for side in (it.claim.lhs, it.claim.rhs)]
        said += [use.times for step in theory.steps for use in step.uses]
        said += [part for step in theory.steps for square in step.squares for part in (square.base, square.times)]
        assert not any(expr.has(sympy.Float) for expr in said)
    folder = Path(kktalloc.proof.__file__).parent
    for path in folder.glob("*.py"):
        assert not re.search(r"(?<![\w.])\d+\.\d|\bfloat\(|numpy|evalf|Float", path.read_text()), path.name


def test_importing_kktalloc_does_not_import_sympy() -> None:
    code = "import sys, kktalloc, kktalloc.bound; sys.exit('sympy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_hypothesis_is_needed() -> None:
    theory = ALL["convergence"]
    used = set(rests_on(theory, "theorem")) | set(rests_on(theory, "theorem, agreeing masks"))
    assert {fact.name for fact in theory.facts} == used


def test_a_copy_of_the_theory_is_its_own() -> None:
    before = list(THEORY.facts)
    convergence().given("more", le(0, 1), "")
    assert before == THEORY.facts
    assert "more" not in {fact.name for fact in convergence().facts}


def test_unbiasedness_asks_what_is_known() -> None:
    before = list(THEORY.facts)
    segment = next(fact for fact in before if fact.name == "smooth on the segment").claim
    later = next(a for a in segment.lhs.atoms(sympy.Function) if a.func.__name__ == "segment")
    for unknown in (later, pgrad(k, e) * later):
        with pytest.raises(ValueError, match="is not known when"):
            unbiased("of the future", noise(k, i), unknown, "")
    with pytest.raises(ValueError, match="is not known when"):
        unbiased("of the pruned phase", pnoise, covered, "")
    with pytest.raises(ValueError, match="same round"):
        unbiased("without chance", noise(k, i), alpha(k), "")
    assert before == THEORY.facts
    # One's own gradient at the same step is known; at any other step the condition is written into the fact.
    unbiased("own iterate", noise(k, i), grad_at(k, i), "")
    unbiased("other iterate", noise(k, i), grad_at(k, b), "")
    own, other = THEORY.facts[-2:]
    del THEORY.facts[-2:]
    assert not own.claim.lhs.has(before_step(i, b))
    assert other.claim.lhs.has(1 - before_step(i, b))
    assert before == THEORY.facts


def test_no_certificate_totals_what_has_no_mean_over_the_segment() -> None:
    """z is uniform on (0, 1]: in a total over it, 1/z is infinite and an identity with it says nothing."""

    def inverted(expr: sympy.Expr) -> bool:
        return any(
            power.exp.is_negative and power.base.func.__name__ == "position"
            for power in expr.atoms(sympy.Pow)
            if isinstance(power.base, AppliedUndef)
        )

    found = 0
    for key in ("convergence", "target", "one_step"):
        theory = ALL[key]
        claims = {statement.name: statement.claim for statement in (*theory.facts, *theory.steps)}
        for claim in claims.values():
            assert not inverted(claim.lhs)
            assert not inverted(claim.rhs)
        for step in theory.steps:
            found += any(inverted(use.times) for use in step.uses)
            for part in (*step.uses, *step.squares):
                assert z not in part.over or not inverted(part.times), step.name
    assert found  # pointwise, it stands there


def test_the_target_shows_what_it_declares_positive() -> None:
    """theta and headroom are positive under the target's step sizes, shown where nothing says that they are."""
    target = ALL["target"]
    real = dict.fromkeys(("theta", "headroom"), Sign.REAL)
    signature = replace(target.signature, parameters=target.signature.parameters | real)
    names = ("theta is at least 4/5", "headroom is at least 1/2")
    steps = [step for step in target.steps if step.name in names]
    assert all({use.fact for use in step.uses} <= {fact.name for fact in target.facts} for step in steps)
    verdicts = verify(Theory("without the signs", signature, target.facts, steps))
    assert [(verdict.step.name, verdict.verified) for verdict in verdicts] == [(name, True) for name in names]
    assert not all(verdict.verified for verdict in verify(Theory("all", signature, target.facts, target.steps)))


@pytest.mark.parametrize("key", list(ALL))
def test_no_two_names_are_printed_alike(key: str) -> None:
    names = list(ALL[key].signature.latex.values())
    assert sorted(names) == sorted(set(names))


def test_an_average_is_not_printed_as_a_sum(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert kktalloc.proof.run(False, tmp_path) == 0
    text, tex = capsys.readouterr().out, (tmp_path / "convergence.tex").read_text()
    assert "avg_z(position[z]) == 1/2" in text
    assert r"\int_0^1 \mathrm{d}z\,{\zeta}_{z} = \frac{1}{2}" in tex
    assert r"$\int_0^1 \mathrm{d}z\,\left(1\right)$ times \emph{descent, pointwise}" in tex
    for name, sort in ALL["convergence"].signature.indices.items():
        if sort.size == 1:
            assert f"sum_{name}(" not in text
            assert rf"\sum_{{{name}}}" not in tex
