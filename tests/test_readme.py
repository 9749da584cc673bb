"""What the README shows is what happens."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


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
