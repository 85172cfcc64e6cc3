"""The modules of `helpers` import only what stands before them in the order that the README gives."""

import ast
import re
from pathlib import Path

import pytest

import helpers

ROOT = Path(__file__).resolve().parent.parent
CHAIN = re.search(r"`(files → [^`]+)`", (ROOT / "README.md").read_text(encoding="utf-8")).group(1)
LEVELS = [part.strip().split(", ") for part in CHAIN.split("→")]
LEVEL = {name: place for place, names in enumerate(LEVELS) for name in names}
APART = {"__init__", "__main__"}  # which lead to all others


def imported(path: Path) -> set[str]:
    """The modules of the package that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "helpers").glob("*.py")), ids=lambda path: path.stem)
def test_a_module_imports_only_what_stands_before_it(path):
    if path.stem in APART:
        pytest.skip("it leads to all others")
    assert path.stem in LEVEL, "it has no place in the README's order"
    for name in imported(path) - {"_MODULES"}:  # a name of the package itself
        assert LEVEL[name] < LEVEL[path.stem], f"{path.stem} imports {name}"


def test_the_package_offers_its_modules_in_that_order():
    assert list(helpers._MODULES) == [name for names in LEVELS for name in names]


def test_every_place_of_the_order_is_a_module():
    for name in LEVEL:
        assert (ROOT / "helpers" / f"{name}.py").exists() or (ROOT / "helpers" / name / "__init__.py").exists(), name
