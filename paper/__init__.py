"""The paper: `python -m paper` writes its numbers, tables, figures and proofs from results, then sets the PDF."""
