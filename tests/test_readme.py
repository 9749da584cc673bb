"""What the README shows is what happens. ``python tests/test_readme.py`` draws its chart anew from docs/results."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

from validation.measures import mean_interval

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def test_the_library_example_prints_what_the_readme_says() -> None:
    text = README.read_text(encoding="utf-8")
    code, printed = re.findall(r"```python\n(.*?)```\n\n((?:    [^\n]*\n)+)", text, flags=re.DOTALL)[0]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    assert out.getvalue() == re.sub("^    ", "", printed, flags=re.MULTILINE)


def test_links_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (README.parent / target).exists(), target


def chart() -> str:
    """Bars in text, which every reader of the README can show, of the time to the tuned unpruned scheme's accuracy."""
    lines = [
        "simulated time to the accuracy of unpruned training less one point, means over all devices; mean, "
        "95 % interval",
        "",
    ]
    lines.append(f"{'unpruned':<24}{40 * '█'} 100 %")
    for name, title in (("digits", "digits"), ("mnist", "MNIST"), ("fashion_mnist", "Fashion-MNIST")):
        found = json.loads((ROOT / "docs" / "results" / f"adaptive-{name}.json").read_text(encoding="utf-8"))
        (shares,) = [
            of["wide"] for of_name, of in found["entries"].items() if of_name.startswith("joint-fill-chosen-rate")
        ]
        mean, (low, high) = sum(shares) / len(shares), mean_interval(shares) or (0.0, 0.0)
        bar = round(0.4 * mean) * "█"
        lines.append(f"{'planned, ' + title:<24}{bar:<40} {mean:3.0f} %  ({low:.0f} to {high:.0f})")
    return "".join(f"    {line}".rstrip() + "\n" for line in lines)


CHART = re.compile(r"(?<=<!-- chart -->\n).*?(?=<!-- /chart -->)", flags=re.DOTALL)


def test_the_chart_is_that_of_the_results() -> None:
    (drawn,) = CHART.findall(README.read_text(encoding="utf-8"))
    assert drawn == f"\n{chart()}\n"


def test_the_common_ratio_is_that_of_the_results() -> None:
    means = []
    for name in ("digits", "mnist", "fashion_mnist"):
        found = json.loads((ROOT / "docs" / "results" / f"adaptive-{name}.json").read_text(encoding="utf-8"))["entries"]
        (shares,) = [of["wide"] for entry, of in found.items() if entry.startswith("common-fill-chosen-rate")]
        means.append(sum(shares) / len(shares))
    said = "one common ratio planned alike takes {:.0f}, {:.0f} and {:.0f} %".format(*means)
    assert said in README.read_text(encoding="utf-8")


def test_speeds_are_those_of_the_table() -> None:
    """Rounded, on the README and the comparison: within a third of the last table, as machines differ."""
    table = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    for row, words in (
        (
            "K = 10: CVXPY+Clarabel cold / kktalloc",
            r"(\d+) times as fast (?:as CVXPY with Clarabel|at ten devices, a cert)",
        ),
        (
            "K = 10: IPOPT / kktalloc",
            r"(?:Clarabel, |, about )(\d+)\s+times as (?:fast as )?(?:IPOPT|fast at ten devices, and)",
        ),
    ):
        measured = float(re.search(re.escape(f"| {row}, calls in a row |") + r"[^|]*\| ([\d.e+]+)", table)[1])  # type: ignore[index]
        for page in (README, ROOT / "docs" / "compare.md"):
            said = re.findall(words, " ".join(page.read_text(encoding="utf-8").split()))
            assert said, (page, row)
            assert all(0.67 < int(n) / measured < 1.34 for n in said), (page, row, said)
    # A single call, between those of the peers, and against a problem of CVXPY that is solved again.
    single = [float(x) for x in re.findall(r"the same, one call between the others' \|[^|]*\| ([\d.e+]+)", table)]
    again = float(re.search(r"re-solved with parameters / kktalloc, calls in a row \|[^|]*\| ([\d.e+]+)", table)[1])  # type: ignore[index]
    for page, words, measured in (
        (README, r"a single call: (\d+) and (\d+) times", single[:2]),
        (ROOT / "docs" / "compare.md", r"a single call: (\d+), and (\d+) in a row", [single[0], again]),
        (ROOT / "docs" / "compare.md", r"a single call: (\d+)\)", [single[1]]),
    ):
        (said,) = re.findall(words, " ".join(page.read_text(encoding="utf-8").split()))
        numbers = [int(n) for n in ([said] if isinstance(said, str) else said)]
        assert all(0.67 < n / m < 1.34 for n, m in zip(numbers, measured, strict=True)), (page, words, said)


def test_both_files_of_exact_versions_agree() -> None:
    """pip takes both for Flower, and finds nothing that meets two versions of one package."""
    pins = {}
    for path in (ROOT / "constraints.txt", ROOT / "examples" / "flower" / "constraints.txt"):
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                name, version = line.split("==")
                assert pins.setdefault(name.lower(), version) == version, name


if __name__ == "__main__":
    README.write_text(CHART.sub(f"\n{chart()}\n", README.read_text(encoding="utf-8")), encoding="utf-8")
