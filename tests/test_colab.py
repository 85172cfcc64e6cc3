"""On Colab the setup cell installs exactly what the course imports and Colab lacks, and nothing anywhere else."""

import ast
import re
import sys
from pathlib import Path

import notebook_lint as lint
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What Colab carries of the packages that we use, by the names they are imported under: googlecolab/backend-info,
# 19 August 2026 (torch 2.11, torchvision 0.26, NumPy 2.1, scikit-image 0.25, ipywidgets 7.7, IPython 7.34, …).
COLAB = {
    *("torch", "torchvision", "numpy", "PIL", "matplotlib", "skimage", "pywt", "scipy", "pandas", "tqdm"),
    *("IPython", "ipywidgets", "safetensors", "tensorboard"),
}


def imported(source: str) -> set[str]:
    """The packages that Python code imports, anywhere in it; lines of IPython's own (`!git`, `%pip`) are left out."""
    plain = re.sub(r"^(\s*)[!%].*$", r"\1pass", source, flags=re.MULTILINE)
    found = set()
    for node in ast.walk(ast.parse(plain)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"helpers"}


def installed(setup: str) -> set[str]:
    return {name for line in re.findall(r"pip install -q (.+)", setup) for name in line.split()}


def everything() -> set[str]:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "helpers").rglob("*.py")]
    sources += [cell.source for path in NOTEBOOKS for cell in lint.code(lint.load(path))]
    return set().union(*map(imported, sources))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_setup_cell_installs_what_colab_lacks(path):
    setup = lint.setup_of(lint.load(path))
    assert installed(setup) == everything() - COLAB
    assert "torch" not in installed(setup)
    assert all(f'"{name}"' in setup for name in installed(setup))  # looked for; the next test runs it


def test_setup_installs_on_colab_only(monkeypatch, tmp_path):
    """The cell run here, with its shell lines counted instead of run."""
    source = lint.setup_of(lint.load(NOTEBOOKS[0]))
    counted = re.sub(r"^(\s*)([!%].*)$", r"\1shell.append(r'''\2''')", source, flags=re.MULTILINE)
    counted = counted.replace("/content/course", str(tmp_path / "course"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(ROOT / "notebooks")
    for modules, missing, wanted in (
        ({}, True, []),
        ({"google.colab": None}, False, ["!git"]),
        ({"google.colab": None}, True, ["!git", "%pip"]),
    ):
        shell = []
        monkeypatch.setattr("importlib.util.find_spec", lambda name, missing=missing: None if missing else object())
        with monkeypatch.context() as patch:
            for name in modules:
                patch.setitem(sys.modules, name, sys)
            exec(counted, {"shell": shell})
        assert [line.split()[0] for line in shell] == wanted


def test_imports_are_found_anywhere():
    source = (
        "import os, torch.nn as nn\n!git clone x\nif os:\n    %pip install y\ndef f():\n    from lightning.x import y\n"
    )
    assert imported(source) == {"torch", "lightning"}
