"""What the first cell of every notebook runs: `helpers` can be imported, and a hosted notebook lacks no package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers import environment  # noqa: E402

environment.complete()
del Path, environment, sys  # `%run` would leave them among the learner's names
