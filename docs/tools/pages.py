"""What the website changes in the course's files on their way to pages; conf.py has the settings.

README.md gets the table of contents that GitHub does not want. A notebook's figures get the alt text that is stored
with them, and its sliders, dead without a kernel, a sentence. Links lead to the page of a file where there is one, and
to the file in the repository where there is none.
"""

import re
import shutil
from base64 import b64decode
from hashlib import sha256
from pathlib import Path, PurePosixPath
from posixpath import dirname, join, normpath

import badges
import nbformat
from docutils import nodes
from nbformat import NotebookNode
from sphinx import addnodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TITLE = re.search(r"^# (.+)$", README, re.MULTILINE)[1]
SLUG, BRANCH = badges.said(ROOT)
COLAB = f"https://colab.research.google.com/github/{SLUG}/blob/{BRANCH}"
REPOSITORY = f"https://github.com/{SLUG}"
FILES = f"{REPOSITORY}/blob/{BRANCH}"

FIRST = ("guide", "results", "originals", "glossary", "own", "colab", "scaling", "instructors")  # of the other pages
NOTEBOOK = re.compile(r"\[(\d+ · [^\]]+)\]\((notebooks/\w+)\.ipynb\)")  # the README names them, short and in order
PROGRESS = re.compile(r"\s*\d+%\|")
WIDGET = re.compile(r"\w+\(\w+=")  # what a widget prints of itself: interactive(children=…
NEEDS_KERNEL = (
    '<p class="needs-kernel">Here are sliders. They move where the notebook runs:'
    ' <a href="{}">in Colab</a>, or on your machine after <code>make lab</code>.</p>'
)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", prepare)
    app.connect("doctree-read", describe_figures)
    app.connect("doctree-read", link_files, priority=400)  # before Sphinx collects them for download
    app.connect("build-finished", give_a_home)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# ------------------------------------------------------------------------------- before a file is parsed


def prepare(app: Sphinx, docname: str, source: list[str]) -> None:
    """Change the text of a file. Addresses in the repository become paths, so that a link to a page finds it."""
    text = source[0].replace(f"]({REPOSITORY}#", "](/README.md#").replace(f"]({FILES}/", "](/")
    if docname == app.config.root_doc:
        text += contents(app.env.found_docs)
    elif docname.startswith("notebooks/"):
        text = nbformat.writes(readable(nbformat.reads(text, as_version=4), docname))
    source[0] = text


def contents(found: set[str]) -> str:
    """The table of contents: the notebooks as the README names and orders them, then every other page."""
    notebooks = NOTEBOOK.findall(README)
    others = found - {"README"} - {page for _, page in notebooks}
    places = {f"docs/{name}": place for place, name in enumerate(FIRST)}
    reference = sorted(others, key=lambda page: (places.get(page, len(FIRST)), "docs/" not in page, page))
    lessons = [f"{title} <{page}>" for title, page in notebooks]
    return toctree("Notebooks", lessons) + toctree("Reference", reference)


def toctree(caption: str, entries: list[str]) -> str:
    """A part of the table of contents, in MyST."""
    return "\n".join(["\n\n```{toctree}", ":hidden:", f":caption: {caption}", "", *entries, "```\n"])


def readable(notebook: NotebookNode, docname: str) -> NotebookNode:
    """A notebook without what only a kernel brings to life: progress bars are left out, sliders get a sentence."""
    notebook.metadata.language_info.pygments_lexer = "ipython3"  # knows `!git` and `%pip`
    for cell in notebook.cells:
        if cell.cell_type == "code":
            if "hide-input" in cell.metadata.get("tags", []):  # whoever folds a solution folds its verdict
                cell.metadata.tags = ["hide-cell"]
            cell.outputs = [output for output in cell.outputs if not PROGRESS.match(plain(output))]
            for output in cell.outputs:
                if output.output_type == "display_data" and WIDGET.match(plain(output)):
                    output.data = {"text/html": NEEDS_KERNEL.format(f"{COLAB}/{docname}.ipynb")}
    return notebook


def plain(output: NotebookNode) -> str:
    """What an output says where there are no pictures and no HTML."""
    return output.get("data", {}).get("text/plain", "")


# --------------------------------------------------------------------------------- after it was parsed


def describe_figures(app: Sphinx, doctree: nodes.document) -> None:
    """Give each figure the alt text stored with it, which MyST-NB forgets. It names the files by their SHA-256."""
    if not app.env.docname.startswith("notebooks/"):
        return
    alt = alt_texts(nbformat.read(app.env.doc2path(app.env.docname), as_version=4))
    for image in doctree.findall(nodes.image):
        image.setdefault("alt", alt.get(PurePosixPath(image["uri"]).stem, ""))


def alt_texts(notebook: NotebookNode) -> dict[str, str]:
    """The alt text of each figure by the SHA-256 of its PNG."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    return {sha256(b64decode(o.data["image/png"])).hexdigest(): o.metadata["image/png"]["alt"] for o in figures}


def link_files(app: Sphinx, doctree: nodes.document) -> None:
    """Lead links to what is no page to the repository, and make text of the badges, which would be fetched."""
    for node in [*doctree.findall(addnodes.download_reference), *doctree.findall(addnodes.pending_xref)]:
        if path := pageless(node, app):
            node.replace_self(nodes.reference("", "", *node.children, refuri=f"{FILES}/{path}"))
    for badge in doctree.findall(nodes.reference):
        if badge.children and isinstance(badge[0], nodes.image) and "://" in badge[0]["uri"]:
            badge["classes"].append("badge-link")
            badge[0].replace_self(nodes.Text(badge[0]["alt"]))


def pageless(node: nodes.Element, app: Sphinx) -> str | None:
    """The path of a link's file or folder from the root of the course; None where it is a page, or is not there."""
    target = node["reftarget"]
    if node.get("refdomain") == "doc":  # MyST went by the suffix
        files = [] if target in app.env.found_docs else ROOT.glob(f"{target}.*")
        return next((path.relative_to(ROOT).as_posix() for path in files), None)
    path = normpath(join("/", dirname(app.env.docname), target))[1:]
    return path if (ROOT / path).exists() else None


def give_a_home(app: Sphinx, exception: Exception | None) -> None:
    """The home page under the name by which servers look for it."""
    if exception is None:
        shutil.copyfile(Path(app.outdir, "README.html"), Path(app.outdir, "index.html"))
