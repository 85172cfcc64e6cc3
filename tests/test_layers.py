"""Imports run one way: a module imports only what stands before it in `helpers._MODULES`, and in no circle."""

import ast
import re
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import helpers

ROOT = Path(__file__).resolve().parent.parent
PLACE = {name: place for place, name in enumerate(helpers._MODULES)}
PATHS = sorted((ROOT / "helpers").glob("[!_]*.py")) + sorted((ROOT / "helpers").glob("*/**/*.py"))
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in PATHS}


def imported(path: Path) -> set[str]:
    """The modules of the package that a module imports, wherever in it."""
    package, found = ".".join(path.relative_to(ROOT).parent.parts), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            source = resolve_name("." * node.level + (node.module or ""), package)
            full = {f"{source}.{alias.name}" for alias in node.names}
            found |= full & set(MODULES) or {source}
    return found


IMPORTS = {name: imported(path) for name, path in MODULES.items()}


def floor(module: str) -> str:
    return module.split(".")[1]


def test_a_module_imports_only_what_stands_before_it():
    wrong = [f"{a} imports {b}" for a in IMPORTS for b in IMPORTS[a] if PLACE[floor(b)] > PLACE[floor(a)]]
    assert not wrong


def test_modules_of_the_package_import_each_other_relatively():
    """So that `imported` sees all of it."""
    absolute = re.compile(r"^\s*(?:from|import) helpers\b", re.MULTILINE)
    assert not [path.name for path in PATHS if absolute.search(path.read_text(encoding="utf-8"))]


def test_there_is_no_circle():
    TopologicalSorter(IMPORTS).prepare()  # raises CycleError


def test_service_is_below_all_and_nothing_needs_what_notebooks_show():
    assert helpers._MODULES[0] == "service"
    assert not [a for a in IMPORTS if floor(a) != "lesson" and "lesson" in map(floor, IMPORTS[a])]


def test_every_module_has_a_place():
    assert set(map(floor, MODULES)) == set(PLACE)
