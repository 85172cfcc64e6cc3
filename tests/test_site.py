"""The website: built as `make site` builds it, then read as a browser would read it. Nothing comes from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import browser
import nbformat
import pytest

for package in ("myst_nb", "sphinx_book_theme", "sphinx-mathjax-offline", "bs4"):
    pytest.importorskip(package, reason="the website's packages are not installed: pip install -e '.[site]'")

from bs4 import BeautifulSoup  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
BUILD = ["-m", "sphinx", "-EW", "--keep-going", "-q", "-b", "html", "-c", "docs"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
TEXTS = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of the built site; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    assert " ".join(BUILD) in (ROOT / "Makefile").read_text(encoding="utf-8")
    command = [sys.executable, *BUILD, "-d", str(folder / "doctrees"), ".", str(folder / "html")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, BeautifulSoup]:
    """Every page, parsed."""
    return {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in html(site)}


def html(site: Path) -> list[Path]:
    """The pages of a site; the theme leaves a template among its static files."""
    return [path for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts]


def page_of(source: Path, site: Path) -> Path:
    return site / source.relative_to(ROOT).with_suffix(".html")


def local(page: Path, address: str) -> tuple[Path, str] | None:
    """The file and the anchor that an address on a page means; None where it leads elsewhere."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    return (page.parent / unquote(parts.path)).resolve() if parts.path else page, unquote(parts.fragment)


def test_every_source_has_its_page_and_the_home_page_lists_the_notebooks(site, pages):
    for source in [*NOTEBOOKS, *TEXTS]:
        assert pages[page_of(source, site)].select_one("article h1"), source
    links = [link["href"] for link in pages[site / "index.html"].select(".bd-sidebar-primary li a")]
    assert links[: len(NOTEBOOKS)] == [f"notebooks/{path.stem}.html" for path in NOTEBOOKS]


def test_nothing_is_loaded_from_elsewhere(site, pages):
    loads = "script[src], img[src], iframe[src], source[src], link[rel=stylesheet], link[rel=icon], link[rel=preload]"
    for path, page in pages.items():
        for tag in page.select(loads):
            target = local(path, tag.get("src") or tag["href"])
            assert target and target[0].is_file(), f"{path.name}: {tag}"
    for path in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text(encoding="utf-8")), path


def test_every_picture_is_described(pages):
    for path, page in pages.items():
        for image in page.select("img"):  # Sphinx puts the file's name where it has no description
            assert image.get("alt", "").strip() and Path(image["src"]).name not in image["alt"], f"{path.name}: {image}"


def test_every_link_leads_to_a_file_and_its_anchor_or_to_a_file_of_the_repository_without_a_page(site, pages):
    anchors = {path: {tag["id"] for tag in page.select("[id]")} for path, page in pages.items()}
    for path, page in pages.items():
        for link in page.select("a[href]"):
            if target := local(path, link["href"]):
                file, anchor = target
                assert file.is_file() and anchor in {"", *anchors.get(file, ())}, f"{path.name}: {link['href']}"
    addresses = [link["href"] for page in pages.values() for link in page.select("article a[href]")]
    repository = re.search(r"git clone (\S+)\.git", README)[1]
    files = {found[1] for found in map(re.compile(rf"{repository}/blob/\w+/([^#]+)").match, addresses) if found}
    assert "helpers/baselines.py" in files
    for file in files:
        assert (ROOT / file).exists() and not page_of(ROOT / file, site).is_file(), file


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebooks_page_shows_what_is_stored(notebook, site, pages):
    """Figures with their descriptions, solutions folded, a sentence for each slider, no progress bar, the badge."""
    page, cells = pages[page_of(notebook, site)], nbformat.read(notebook, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    stored = [output for output in outputs if "image/png" in output.get("data", {})]
    alts = [image["alt"] for image in page.select(".cell_output img")]
    assert alts == [output.metadata["image/png"]["alt"] for output in stored]
    folded = page.select(".cell > details:not([open])")
    solutions = [cell.source.strip() for cell in cells if "@title Solution" in cell.source]
    assert [fold.pre.get_text().strip() for fold in folded] == solutions
    widgets = [output for output in outputs if "(children=" in output.get("data", {}).get("text/plain", "")]
    assert len(page.select(".needs-kernel")) == len(widgets) > 0
    text = page.select_one("article").get_text()
    assert not [relic for relic in ("(children=", "it/s]", "step/s]", "<IPython", "Traceback (most") if relic in text]
    badge, *sliders = page.select("a.badge-link, .needs-kernel a")
    address = re.search(rf"\((https://colab[^()]+/{notebook.name})\)", README)[1]
    assert badge.get_text() == "Open in Colab"
    assert {link["href"] for link in (badge, *sliders)} == {address} and sliders


@pytest.mark.slow
def test_in_a_browser(site):
    """On a phone: no page is wider than the screen, mathematics is drawn, search finds, no other machine is asked."""
    home, asked, said = "http://localhost/", [], []

    def serve(route) -> None:
        asked.append(route.request.url)
        route.fulfill(path=site / unquote(urlsplit(asked[-1]).path)[1:])

    try:
        with browser.chromium() as chromium:
            page = chromium.new_page(viewport={"width": 390, "height": 844})
            page.route("**/*", serve)
            page.on("console", lambda message: said.append((message.type, message.text)))
            page.on("pageerror", lambda error: said.append(("error", str(error))))
            for path in html(site):
                page.goto(home + path.relative_to(site).as_posix())
                assert page.evaluate("document.documentElement.scrollWidth") <= 390, path.name
            page.goto(f"{home}notebooks/{NOTEBOOKS[0].stem}.html")
            page.wait_for_selector("div.math mjx-container svg")
            page.goto(f"{home}search.html?q=bicubic")
            page.wait_for_selector("#search-results li a")
    except browser.Missing as why:
        pytest.skip(str(why))
    assert asked and all(url.startswith(home) for url in asked)
    assert not [text for kind, text in said if kind in ("error", "warning")]
