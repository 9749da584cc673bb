"""The documentation site: `make docs` builds it without a network, and every warning is an error."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import gallery  # noqa: E402

project = "kktalloc"
author = "The kktalloc founders"
release = version = installed("kktalloc")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml", "reference", "gallery"]
exclude_patterns = ["_build", "_ext", "results"]

myst_enable_extensions = ["dollarmath", "colon_fence", "substitution"]
myst_substitutions = gallery.headline(HERE / "results")
myst_heading_anchors = 3

# Flower is an extra that not every reader has; its page needs names and docstrings alone.
autodoc_mock_imports = ["flwr", "ray"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes and units stand in the docstrings
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = False
napoleon_attr_annotations = False
default_role = "py:obj"

html_theme = "furo"
html_title = f"kktalloc {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
