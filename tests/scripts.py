"""Notebooks as plain scripts: cells as code, and stand-ins for what only Jupyter has."""

import ast
import contextlib
import re
import sys
import types
from collections.abc import Callable

QUICK_STEPS = 3


class Widget(contextlib.nullcontext):
    """Stands for each widget: it has a value, and does nothing."""

    def __init__(self, value=None, *_, **options):
        self.__dict__.update(options, value=value, model_id="", enter_result=self)

    def __getattr__(self, name: str):
        return lambda *_, **__: None


def interact(function: Callable, **knobs) -> Callable:
    """Call the function once, as the real one does at first."""
    function(**{name: getattr(knob, "value", knob) for name, knob in knobs.items()})
    return function


def without_jupyter() -> None:
    """Put stand-ins where notebooks import IPython and ipywidgets from."""
    shell, display, widgets = (types.ModuleType(name) for name in ("IPython", "IPython.display", "ipywidgets"))
    shell.display, shell.version_info, shell.get_ipython = display, (9, 0), lambda: None
    display.display = display.Image = display.HTML = lambda *_, **__: None
    for name in ("FileUpload", "FloatSlider", "IntSlider", "Text", "Output", "HBox"):
        setattr(widgets, name, Widget)
    widgets.interact = interact
    sys.modules |= {module.__name__: module for module in (shell, display, widgets)}


class Shorter(ast.NodeTransformer):
    """Code for a smoke test: loops that train take three turns, asserts are computed and not held to."""

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return ast.copy_location(ast.Expr(node.test), node)

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        if any(isinstance(part, ast.Attribute) and part.attr == "backward" for part in ast.walk(node)):
            short = f"__import__('itertools').islice({ast.unparse(node.iter)}, {QUICK_STEPS})"
            node.iter = ast.parse(short, mode="eval").body
        return node


def compiled(source: str, name: str, quick: bool):
    """A cell as code: lines that are IPython's own do nothing."""
    plain = re.sub(r"^(\s*)[!%].*$", r"\1pass", source, flags=re.MULTILINE)
    if quick:
        plain = re.sub(r"^(\w+_STEPS) = [\d_]+", rf"\1 = {QUICK_STEPS}", plain, flags=re.MULTILINE)
    tree = ast.parse(plain, name)
    return compile(ast.fix_missing_locations(Shorter().visit(tree)) if quick else tree, name, "exec")
