"""The table of docs/papers.md, in Markdown: every paper's own method beside the optimum, or those that are named.

Run: python examples/papers [paper ...]
"""

from __future__ import annotations

import sys
from importlib import import_module

from comparison import shown_s, two_digits

PAPERS = ("liu2024", "tt_prune", "phfl", "ltfl", "fedl", "yang2021")


def main() -> None:
    """One row for each."""
    print("| paper | it minimises | own method | optimum | gap | own time | optimum's time | own / optimum's |")
    print("|---|---|---|---|---|---|---|---|")
    for paper in sys.argv[1:] or PAPERS:
        c = import_module(paper).compare()
        print(
            f"| [{c.paper}](../examples/papers/{paper}.py) | {c.unit} | {c.own:.5g} | {c.best:.5g} "
            f"| {c.gap_percent:.2f} % | {shown_s(c.own_s)} | {shown_s(c.best_s)} | {two_digits(c.own_s / c.best_s)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
