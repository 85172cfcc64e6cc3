"""What the first cell of every notebook runs: `helpers` can be imported, and a hosted notebook lacks no package."""

import sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root))
loaded = sys.modules.get("helpers")
if loaded and loaded.__file__ != str(root / "helpers" / "__init__.py"):  # a learner's own, imported before
    for loaded in [name for name in sys.modules if name.partition(".")[0] == "helpers"]:
        del sys.modules[loaded]

from helpers.service import environment  # noqa: E402

environment.complete()
del Path, environment, loaded, root, sys  # `%run` would leave them among the learner's names
