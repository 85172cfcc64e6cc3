"""How far a learner has come: which exercises and builds have passed, as the saved notebooks of a folder say."""

import json
import os
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt

from .. import plots

MINE = re.compile(r"^check\.(\w+)\((?:my_|My)", re.MULTILINE)  # a check of a learner's answer, not of a solution
SAID = re.compile(r"^(?:Exercise|Build) \d+\.\w+: (passed|not yet|not attempted)", re.MULTILINE)
COLOURS = {"passed": plots.COLOURS[2], "not yet": plots.COLOURS[4], "not attempted": "white"}


def progress(folder: str | os.PathLike = ".") -> None:
    """Draw the exercises and builds of each notebook in a folder, and print how many have passed.

    It reads the outputs that are stored there, so save a notebook first. Nothing leaves this machine.
    """
    books = {path.stem: found for path in sorted(Path(folder).glob("*.ipynb")) if (found := results(path))}
    if not books:
        print(f"No saved notebook of this course is in {Path(folder).resolve().name}.")
        return
    figure, axis = plt.subplots(figsize=(7, 0.4 * len(books) + 0.6), layout="constrained")
    for row, found in enumerate(books.values()):
        for place, (label, said) in enumerate(found.items()):
            axis.scatter(place, row, s=300, color=COLOURS[said], edgecolors="0.3")
            axis.text(place, row, label.partition(".")[2], ha="center", va="center", fontsize=9)
    axis.set(yticks=range(len(books)), yticklabels=books, xticks=[], ylim=(len(books) - 0.5, -0.5))
    axis.spines[:].set_visible(False)
    axis.grid(False)
    every = [said for found in books.values() for said in found.values()]
    passed, tried = every.count("passed"), every.count("not yet")
    told = f"{passed} of {len(every)} have passed, {tried} not yet, {len(every) - passed - tried} are not attempted"
    plots.show(figure, f"A circle for each exercise of each notebook: {told}.")
    print(f"Exercises and builds in the saved notebooks: {told}.")


def results(path: Path) -> dict[str, str]:
    """What was last said of each answer in a notebook, by the exercise's label; not attempted where nothing was."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError):  # half saved, or no notebook
        return {}
    found = {}
    for cell in cells:
        if cell["cell_type"] == "code" and (mine := MINE.search("".join(cell["source"]))):
            label = getattr(getattr(sys.modules[__package__], mine[1], None), "label", None)  # if it is an exercise's
            said = SAID.findall("".join("".join(output.get("text", "")) for output in cell.get("outputs", ())))
            found |= {label: said[-1] if said else "not attempted"} if label else {}
    return found
