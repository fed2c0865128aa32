"""How the documentation becomes a site (make site): Sphinx, Markdown by MyST, API reference from docstrings.

Pages lie where they are read on the repository's page as well, hence links between them work in both places. What the
site is made of is decided by the tables of contents in index.md: a page in none of them fails the build.
"""

from __future__ import annotations

import site
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The site's environment has Sphinx; pik and what it imports come from the workbench, behind it on the path.
for packages in (ROOT / ".venv" / "lib").glob("python3*/site-packages"):
    site.addsitedir(str(packages))

project = "Pipeline Investigation Kit"
author = "The pik authors"
copyright = "2026, The pik authors"  # noqa: A001  (Sphinx's name for it)
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
exclude_patterns = [".*", "*.egg-info", "bench", "notebooks", "pik", "runbooks", "runs", "scripts", "site", "tests"]

myst_heading_anchors = 3
highlight_language = "text"  # most blocks are commands with what they are for; Python says so
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"  # no font, script or picture from elsewhere
html_title = f"pik {release}"
html_extra_path = ["html/index.html"]  # beside the folder docs/, so that the site opens where one looks for it
html_static_path = ["html/site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
