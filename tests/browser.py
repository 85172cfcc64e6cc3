"""A notebook in the hands of a learner: a real JupyterLab, a real browser, its cells run, sliders moved by keyboard.

    python tests/browser.py [--whole] [NOTEBOOK ...]

nbval runs the cells, but knows nothing of what the browser makes of them; widgets are only alive here. The notebooks
(all of them by default) run in a temporary copy of the course, so nothing is written back: sliders are moved, a picture
is uploaded, a question of the quiz answered. The copy keeps the code cells that these need, which takes half a
minute a notebook; `--whole` keeps all of them. One line per notebook, and a screenshot under build/browser.
Exit code 0, or 1 where a notebook fails, or 2 where playwright or Chromium is missing (`pip install playwright`; any
Chromium or Chrome on the PATH, or its path in CHROMIUM).
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import symtable
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from notebooks import run  # noqa: E402

PICTURE = ROOT / "data" / "images" / "rocket.png"  # uploaded; no notebook begins with it
SHOTS = ROOT / "build" / "browser"
PATIENCE = 1200  # seconds for a notebook to run
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER_OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
LAB_OPTIONS = [
    *("--no-browser", "--allow-root", "--ip=127.0.0.1", "--ServerApp.port_retries=0"),
    *("--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True", "--LabApp.collaborative=False"),
]
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}

# What the browser is asked. `window.jupyterapp` is there because of `expose_app_in_browser`.
READY = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
RUN_ALL = """async () => {
    await window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs');
    await window.jupyterapp.commands.execute('notebook:run-all-cells');
}"""
FAULTS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === 'code' && cell.model.sharedModel.getSource().trim())
    .flatMap((cell, index) => {
        const errors = cell.model.outputs.toJSON().filter(output => output.output_type === 'error');
        const faults = errors.map(error => `${error.ename}: ${error.evalue}`);
        if (cell.model.executionCount === null) faults.push('it did not run');
        return faults.map(fault => `code cell ${index + 1}: ${fault}`);
    })"""
CHANGED = """([area, before]) => {
    const picture = [...area.querySelectorAll('.widget-output img')].pop();
    return picture && picture.src && picture.src !== before;
}"""
ALIVE = re.compile(r"\bipywidgets\b|\bwidgets\.own|\bquizzes\.show")  # in a cell that puts something to use on the page
ERRORS = ".jp-NotebookPanel [data-mime-type='application/vnd.jupyter.stderr']:has-text('Traceback (most recent')"
BOXES = ".jp-NotebookPanel .widget-interact:has(.noUi-handle):has(.widget-output img)"
UPLOADS = ".jp-NotebookPanel .widget-upload"
CHOICES = ".jp-NotebookPanel .jp-OutputArea details"


class Failure(Exception):
    """What is wrong with a notebook, in one sentence."""


class Missing(Exception):
    """Something that has to be installed before this can run."""


# ---------------------------------------------------------------------------------------- JupyterLab


@contextmanager
def lab(root: Path) -> Iterator[str]:
    """The address of a JupyterLab on `root`, with settings of its own: no news, and all cells in the page."""
    with tempfile.TemporaryDirectory(prefix="lab-", ignore_cleanup_errors=True) as folder:
        home, labconfig = Path(folder), Path(folder, "config", "labconfig")
        labconfig.mkdir(parents=True)
        (labconfig / "default_setting_overrides.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
        folders = {f"JUPYTER_{name.upper()}_DIR": str(home / name) for name in ("config", "data", "runtime")}
        folders |= {"IPYTHONDIR": str(home / "ipython"), "OMP_WAIT_POLICY": "PASSIVE"}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "jupyterlab", *LAB_OPTIONS, f"--port={port}", f"--ServerApp.root_dir={root}"]
        with open(home / "lab.log", "w", encoding="utf-8") as log:
            server = subprocess.Popen(command, env=os.environ | folders, stdout=log, stderr=log)
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
        try:
            while not answers(url):
                if time.monotonic() > end or server.poll() is not None:
                    raise Missing("JupyterLab did not start: " + (home / "lab.log").read_text(encoding="utf-8")[-500:])
                time.sleep(0.25)
            yield url
        finally:
            server.terminate()  # asked politely, it ends its kernels
            server.wait(60)


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url + "/api/status", timeout=5).close()
        return True
    except OSError:
        return False


# ------------------------------------------------------------------------------------ the cells that it takes


def shorten(path: Path) -> None:
    """Leave in a notebook the first code cell, those with a widget or the quiz, and those whose names these use."""
    book = run.read(path)
    cells = run.code(book)
    used, made = zip(*map(names, cells), strict=True)
    kept, wanted = set(), [0, *(index for index, cell in enumerate(cells) if ALIVE.search(cell.source))]
    while wanted:
        index = wanted.pop()
        if index not in kept:
            kept.add(index)
            makers = ([before for before in range(index) if name in made[before]] for name in used[index])
            wanted += [found[-1] for found in makers if found]
    left_out = {cell.id for index, cell in enumerate(cells) if index not in kept}
    book.cells = [cell for cell in book.cells if cell.id not in left_out]
    run.write(book, path)


def names(cell) -> tuple[set[str], set[str]]:
    """The names that a cell takes from cells before it (or from Python), and those that it makes."""
    top = symtable.symtable(TransformerManager().transform_cell(cell.source), "cell", "exec")
    made = {name.get_name() for name in top.get_symbols() if name.is_assigned() or name.is_imported()}
    used, scopes = set(), [top]
    for scope in scopes:  # it grows by the functions within
        scopes += scope.get_children()
        taken = (name for name in scope.get_symbols() if name.is_referenced() and (scope is top or name.is_global()))
        used |= {name.get_name() for name in taken}
    return used - made, made


# ------------------------------------------------------------------------------------------- browser


@contextmanager
def chromium():
    """A headless browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise Missing("playwright is not installed: pip install playwright") from None
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), "")
    if not Path(path).is_file():
        raise Missing("Chromium was not found: install it (apt-get install chromium), or name its path in CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=BROWSER_OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


def run_all(page, address: str) -> None:
    """Open a notebook, run every cell, wait for the kernel. Raises Failure."""
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    page.wait_for_function(READY)
    page.evaluate(RUN_ALL)
    page.wait_for_function(READY)
    assert_sound(page)


def assert_sound(page) -> None:
    """Every cell ran, and no error is shown, in a cell or in a widget. Raises Failure."""
    faults = page.evaluate(FAULTS)
    if not faults and page.locator(ERRORS).count():
        faults.append("a widget shows an error: " + page.locator(ERRORS).first.inner_text().splitlines()[-1])
    if page.locator(".jp-NotebookPanel").get_by_text("Error displaying widget").count():
        faults.append("a widget is not shown")
    if faults:
        raise Failure("; ".join(faults))


def change(page, area, act: Callable[[], object], said: str) -> None:
    """Act, and wait for another picture in the area. Raises Failure where the old one stays."""
    from playwright.sync_api import TimeoutError as TooLong

    before = area.locator(".widget-output img").last.get_attribute("src")
    act()
    try:
        page.wait_for_function(CHANGED, arg=[area.element_handle(), before], timeout=120_000)
    except TooLong:
        assert_sound(page)  # an error in the widget says more
        raise Failure(f"{said}, and the picture stays the same") from None
    page.wait_for_function(READY)


def move_slider(page, box) -> str:
    """Press the arrow key on the box's first slider; its new value."""
    handle = box.locator(".noUi-handle").first
    handle.scroll_into_view_if_needed()
    handle.focus()
    value, now, end = (handle.get_attribute(f"aria-value{part}") for part in ("text", "now", "max"))
    change(page, box, lambda: handle.press("ArrowLeft" if now == end else "ArrowRight"), "the slider was moved")
    return f"{value} → {handle.get_attribute('aria-valuetext')}"


def upload(page) -> str:
    """Give the notebook's last cell for one's own picture a file."""
    button = page.locator(UPLOADS).last
    area = button.locator("xpath=ancestor::*[contains(@class, 'jp-OutputArea ')]").last

    def choose() -> None:
        with page.expect_file_chooser() as chooser:
            button.click()
        chooser.value.set_files(PICTURE)

    change(page, area, choose, "a picture was uploaded")
    return "uploaded a picture"


def answer(page) -> str:
    """Unfold the quiz's first choice, whose explanation then shows."""
    choice = page.locator(CHOICES).first
    choice.locator("summary").click()
    choice.get_by_text(re.compile("Right|No")).wait_for(timeout=30_000)
    return "answered the quiz"


def try_notebook(page, address: str) -> str:
    """What was seen, in a few words. Raises Failure."""
    start = time.monotonic()
    run_all(page, address)
    seen = [f"ran in {time.monotonic() - start:.0f} s"]
    boxes = page.locator(BOXES)
    if not boxes.count():
        raise Failure("it has no slider under a picture")
    for which, box in {"first": boxes.first, "last": boxes.last}.items():
        seen.append(f"{which} slider {move_slider(page, box)}, new picture")
    seen += [upload(page), answer(page)]
    assert_sound(page)
    return "; ".join(seen)


# -------------------------------------------------------------------------------------- command line


def check(browser, url: str, notebook: str) -> bool:
    """Try one notebook, and say in one line how it went."""
    from playwright.sync_api import Error

    page = browser.new_page(viewport={"width": 1300, "height": 1500})
    page.set_default_timeout(PATIENCE * 1000)
    try:
        print(f"{notebook}: {try_notebook(page, f'{url}/lab/tree/{notebook}?reset')}", flush=True)
        return True
    except (Failure, Error) as why:
        print(f"{notebook}: FAILED: {str(why).splitlines()[0]}", flush=True)
        return False
    finally:
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"{Path(notebook).stem}.png")
        page.close()


def in_course(path: str) -> str:
    """A notebook's address within the course."""
    try:
        found = Path(path).resolve(strict=True).relative_to(ROOT)
    except (OSError, ValueError):
        raise argparse.ArgumentTypeError(f"{path}: no notebook of this course") from None
    return found.as_posix()


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("notebooks", nargs="*", type=in_course, metavar="NOTEBOOK", help="by default all")
    options.add_argument("--whole", action="store_true", help="run all cells, not only those that the widgets need")
    chosen = options.parse_args()
    notebooks = chosen.notebooks or [in_course(str(path)) for path in run.lessons()]
    try:
        with chromium() as browser, run.course_copy() as root:
            for notebook in notebooks:
                if not chosen.whole:
                    shorten(root / notebook)
            with lab(root) as url:
                return int(not all([check(browser, url, notebook) for notebook in notebooks]))
    except Missing as why:
        print(why, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
