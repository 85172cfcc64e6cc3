"""Sphinx settings of the course's website: `make site` builds it from the committed files, and executes nothing.

The folder of the sources is the repository itself: README.md is the home page, and no text is copied. What a file needs
on its way to a page (a table of contents, alt text, links to files that are no pages) is done in tools/pages.py.
"""

import sys
from importlib.resources import files
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "tools"))
import pages

project = pages.TITLE
html_title = project
language = "en"
extensions = ["myst_nb", "pages"]

# Which files are pages. New ones in docs/ are found and listed without an edit here.
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "notebooks/[0-9]*.ipynb", "docs/*.md", "data/README.md"]
exclude_patterns = [".*", "build", "runs", "data/downloads"]  # not even looked into

# Markdown as on GitHub: $…$ is mathematics, [ ] a box to tick, and every heading down to ### has an anchor.
myst_enable_extensions = ["dollarmath", "tasklist"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # a line for the shell, !…, in a block of Python

# Notebooks as they are stored.
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}  # no widget state is stored, and none is fetched
nb_code_prompt_show = "Show the solution"  # a test of the notebooks says that nothing else is folded
nb_code_prompt_hide = "Hide the solution"

# MathJax from a package, in one file without fonts; its menu would load more.
html_static_path = ["_static", str(files("sphinx-mathjax-offline") / "static" / "mathjax" / "tex-svg.js")]
mathjax_path = "tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}

html_theme = "sphinx_book_theme"
html_logo = html_favicon = "_static/logo.svg"
html_css_files = ["course.css"]
html_copy_source = html_show_copyright = html_use_index = False
html_context = {"default_mode": "auto"}  # light or dark as the reader's system
html_theme_options = {
    "logo": {"text": project, "alt_text": "Home"},
    "repository_url": pages.REPOSITORY,
    "repository_branch": pages.BRANCH,
    "use_repository_button": True,
    "use_source_button": True,
    "use_download_button": False,
    "footer_content_items": [],
    "navbar_persistent": [],  # the search field stands in the sidebar already
    "show_toc_level": 2,
    "pygments_light_style": "github-light",
    "pygments_dark_style": "github-dark",
}
