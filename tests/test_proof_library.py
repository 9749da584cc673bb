"""`kktalloc.proof` for others: print that belongs to the theory, residuals, signs by facts, files of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sympy import Rational

import kktalloc.proof
from kktalloc.__main__ import main
from kktalloc.proof._checker import verify
from kktalloc.proof._language import Sign, Sort, Square, Theory, Use, eq, le, total
from kktalloc.proof._notation import Notation


def test_index_letters_belong_to_the_theory() -> None:
    theory = Theory("t")
    sig = theory.signature
    word = Sort("word", sig.parameter("n", Sign.POSITIVE))
    chance = Sort("chance", 1, expectation=True)
    w, t = sig.index("w", word), sig.index("t", word)
    s, s2 = sig.index("s", chance, r"\sigma", understood=True), sig.index("s2", chance, "s'")
    x, y = sig.family("x", (word, word)), sig.family("y", (word, chance))
    notation = Notation(sig)
    assert notation.plain(total(x(w, t), w)) == "sum_w(x[w,t])"
    assert notation.latex(total(x(w, t), w)) == r"\sum_{w} {x}_{w,t}"
    assert notation.plain(total(y(t, s), s)) == "E[y[t]]"
    assert notation.latex(total(y(t, s), s)) == r"\mathbb{E}\left[{y}_{t}\right]"
    assert notation.plain(total(y(t, s2), s2)) == "E_s2[y[t,s2]]"
    assert notation.latex(total(y(t, s2), s2)) == r"\mathbb{E}_{s'}\left[{y}_{t,s'}\right]"
    with pytest.raises(ValueError, match="only one index"):
        sig.index("s3", chance, understood=True)


def _young() -> tuple[Theory, Square]:
    theory = Theory("Young")
    sig = theory.signature
    j = sig.index("j", Sort("coordinate", sig.parameter("d", Sign.POSITIVE)))
    a, b = sig.family("a", [sig.indices["j"]]), sig.family("b", [sig.indices["j"]])
    square = Square(a(j) - b(j), 1, (j,))
    theory.prove("young", le(2 * total(a(j) * b(j), j), total(a(j) ** 2 + b(j) ** 2, j)), "", (), (square,))
    return theory, square


def test_a_residual_is_printed_whole_as_a_formula(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    theory, _ = _young()
    step = theory.steps.pop()
    theory.prove("young", le(step.claim.lhs, 3 * step.claim.rhs + 7), "", (), step.squares)
    (verdict,) = verify(theory)
    assert not verdict.verified
    left = Notation(theory.signature).plain(verdict.residual)
    assert left == "2*sum_j(a[j]**2) + 2*sum_j(b[j]**2) + 7"
    assert verdict.reason == f"right side - left side - certificate is not 0 but {left}"
    # What is left, taken to the left side, makes the step hold.
    theory.steps.clear()
    theory.prove("mended", le(step.claim.lhs + verdict.residual, 3 * step.claim.rhs + 7), "", (), step.squares)
    assert verify(theory)[0].verified


def test_a_residual_with_more_indices_than_letters() -> None:
    theory = Theory("t")
    sig = theory.signature
    k = sig.index("k", Sort("item", sig.parameter("n", Sign.POSITIVE)))
    x = sig.family("x", [sig.indices["k"]] * 2)
    square = total(total(x(k, k), k) * x(k, k), k) ** 2
    inner = total(x(k, k), k)
    theory.prove("false", eq(total(inner**2 * x(k, k), k), square), "")
    (verdict,) = verify(theory)
    assert "sum_k(x[k,k])" in verdict.reason
    assert Notation(sig).latex(verdict.residual)


def _descent() -> Theory:
    """Gradient descent in one step, with a multiplier that only a fact shows to be non-negative."""
    theory = Theory("gradient descent")
    sig = theory.signature
    lip, eta = sig.parameter("L", Sign.POSITIVE), sig.parameter("eta", Sign.POSITIVE, r"\eta")
    f, f_next, g2 = (sig.parameter(name, Sign.REAL) for name in ("f", "f_next", "g2"))
    theory.given("step size", le(lip * eta, 1), "eta <= 1/L")
    theory.given("norm", le(0, g2), "a squared norm")
    theory.given("descent", le(f_next, f - eta * (1 - lip * eta / 2) * g2), "the descent lemma")
    uses = (Use("descent"), Use("norm", eta * (1 - lip * eta) / 2, since=("step size",)))
    theory.prove("decrease", le(f_next, f - eta / 2 * g2), "half the squared gradient", uses)
    return theory


def test_a_multiplier_may_use_a_fact() -> None:
    theory = _descent()
    assert verify(theory)[0].verified
    step = theory.steps.pop()
    descent, norm = step.uses
    theory.prove("without", step.claim, "", (descent, Use(norm.fact, norm.times)))
    assert "not shown non-negative" in verify(theory)[0].reason


def test_a_step_may_show_a_sign_and_an_equality_too() -> None:
    theory = Theory("t")
    sig = theory.signature
    a, b = sig.parameter("a", Sign.REAL), sig.parameter("b", Sign.REAL)
    p, theta = sig.parameter("p", Sign.NONNEGATIVE), sig.parameter("theta", Sign.REAL)
    theory.given("name", eq(p, 1 - a), "1 - a is not negative, as p is not")
    theory.given("b", le(0, b), "")
    theory.given("theta", eq(theta, Rational(4, 5) + p), "")
    theory.prove("at least", le(Rational(4, 5), theta), "", (Use("theta", -1),), (Square(1, p),))
    theory.prove("by an equality", le(0, (1 - a) * b), "", (Use("b", 1 - a, since=("name",)),))
    theory.prove("by a lower bound", le(0, 3 * theta * b), "", (Use("b", 3 * theta, since=("at least",)),))
    theory.prove("a square", le(0, (1 - a) * b**2), "", (), (Square(b, 1 - a, since=("name",)),))
    theory.prove("wrong way", le(0, (a - 1) * b), "", (Use("b", a - 1, since=("name",)),))
    assert [verdict.verified for verdict in verify(theory)] == [True, True, True, True, False]


MINE = """
from kktalloc.proof import Sign, Square, Theory, le

theory = Theory("Mine & yours")
a = theory.signature.parameter("a", Sign.REAL)
theory.prove("square", le(2 * a, a**2 + {constant}), "", squares=(Square(a - 1),))
"""


def test_a_file_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(MINE.format(constant=1))
    bad.write_text(MINE.format(constant=2))
    page = tmp_path / "page.html"
    assert main(["verify", str(good), "--latex", str(tmp_path), "--html", str(page)]) == 0
    text = capsys.readouterr().out
    assert "[verified] square" in text
    assert "(a - 1)**2" in text
    assert r"\left(a - 1\right)^{2}" in (tmp_path / "theory.tex").read_text()
    assert "terms" not in {path.stem for path in tmp_path.iterdir()}
    assert "Mine &amp; yours" in page.read_text()
    assert main(["verify", str(good), str(bad), "--json", "--latex", str(tmp_path), "--html", str(page)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["failed"] == ["square"]
    assert found["theories"][1]["steps"][0]["residual"] == "1"
    assert "What the certificate leaves" in (tmp_path / "theory.tex").read_text()
    assert "is not 0 but 1" in page.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("x = 1\n", "no theory"),
        ("x = 1\ny = 1 / 0\n", r"mine\.py:2: ZeroDivisionError"),
        ("def f(:\n", "SyntaxError"),
    ],
)
def test_a_file_that_is_no_theory(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        kktalloc.proof.run(files=[path])


def test_text_shows_multipliers_and_what_a_name_depends_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert kktalloc.proof.run() == 0
    text = capsys.readouterr().out
    assert "mask[round, device, coordinate, chance]: 0 or 1; known: round start" in text
    assert "index t: round; a total over it is a sum of R terms, left out of the names below" in text
    assert "(1/(2*L*position[z])) * [smooth mean]" in text
    assert "sum_k of (alpha[k]) * [smooth on the segment]" in text
