"""The documentation as a site: ``make docs`` builds it into ``build/site``, offline, and fails on a broken link.

The source is the repository itself, of which the pages below are taken: so relative links between README, ``docs/`` and
files lead to the same places here and on a git host.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from iscl_monai.version import __version__  # noqa: E402

project = "iscl_monai"
author = "iscl_monai contributors"
release = version = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "site_pages"]
include_patterns = ["docs/**", "*.md", "bundles/iscl/docs/*.md"]
exclude_patterns = [
    ".*",
    "build",
    "demo",
    "runs",
    "mutants",
    "iscl_monai",
    "data_prep",
    "tests",
    "test_objects",
    "benchmarks",
]
source_suffix = {".md": "markdown", ".ipynb": "notebook"}
root_doc = "docs/index"
nitpicky = False  # names of other packages have no page here

myst_heading_anchors = 4  # as git hosts make them
myst_enable_extensions = ["attrs_inline"]
suppress_warnings = ["myst.header"]  # a notebook begins where its reader is

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": False}
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"iscl_monai {release}"
html_extra_path = ["site_root"]  # its first page lies in docs/, and browsers ask for one at the top
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}
