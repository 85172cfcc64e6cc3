"""The shipped networks: `load(name)`, `available()`. Weights are safetensors, checked by SHA-256, never unpickled.

Beside each NAME.safetensors in `data/weights` lies its card, NAME.json: task, network, recipe, data, time, figures.
"""

import json
import os
import re
from pathlib import Path

import safetensors.torch
import torch

from . import degradations, models
from .service.errors import CourseError, require
from .service.files import DATA, atomic, sha256

WEIGHTS = DATA / "weights"
REQUIRED = {"name": str, "task": str, "origin": str, "network": dict, "parameters": int, "bytes": int, "sha256": str}
FILES = (".json", ".safetensors")  # a network of your own is named by either of them
MAX_SCALE = 16  # times that a network enlarges; those of the course do 4


def available():
    """What is shipped, a DataFrame: a row per name with task, parameters, bytes and one line of origin."""
    import pandas as pd  # half a second, which whoever restores one picture need not wait for

    rows = [card(path.stem) for path in sorted(WEIGHTS.glob("*.json"))]
    return pd.DataFrame(rows, columns=["name", "task", "parameters", "bytes", "origin"]).set_index("name")


def card(name: str | os.PathLike) -> dict:
    """The card of a shipped network, or of a trained one by the path of either of its files. Raises CourseError."""
    known = str(name).endswith(FILES)
    path = Path(name).with_suffix(".json") if known else WEIGHTS / f"{name}.json"
    if not os.path.isfile(path):  # which is False, and no error, also for a name that is too long for any file
        require(not known, f"{path}: no such file; name a network, or the card of one that you trained.")
        names = ", ".join(sorted(p.stem for p in WEIGHTS.glob("*.json"))) or "none yet"
        own = "one that you trained is named by its card, such as runs/NAME/NAME.json"
        raise CourseError(f"no network is called {str(name)!r}; there are: {names}; {own}.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        lacks = [key for key, kind in REQUIRED.items() if not isinstance(found.get(key), kind)]
    except (ValueError, AttributeError, RecursionError):
        lacks = list(REQUIRED)
    if lacks:
        raise CourseError(f"{path}: not the card of a network ({lacks[0]} is not on it); get it again, or remove it.")
    return found | {"weights": path.with_suffix(".safetensors")}


def has(name: str) -> bool:
    """Whether a network of that name is shipped."""
    return os.path.isfile(WEIGHTS / f"{name}.json")  # which is False, and no error, for a name that is too long


def write_card(path: Path, about: dict) -> Path:
    """Write a card, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return path


def load(name: str | os.PathLike) -> models.Restorer:
    """A shipped network by name ("srcnn-955-x3"), or a trained one by the path of its card; eval mode, on the CPU.

    Raises CourseError: unknown name (the message lists the names), weights that are missing or not the card's.
    """
    about = card(name)
    unharmed = about["weights"].is_file() and sha256(about["weights"]) == about["sha256"]
    require(unharmed, f"{about['weights']}: missing, or its SHA-256 is not the card's; get the file again.")
    try:
        scale = about["network"].get("scale", 1)  # of which the weights may know nothing
        huge = re.search(r"(?<![\d.])\d{5}", json.dumps(about["network"]))  # ten thousand blocks would fill the memory
        if huge or type(scale) is not int or not 1 <= scale <= MAX_SCALE:
            raise ValueError
        model = models.build(**about["network"])
        model.load_state_dict(safetensors.torch.load_file(about["weights"]))
    except Exception:  # whatever the numbers of a network that cannot be make Python and torch raise
        raise CourseError(f"{about['weights']}: not the weights of the network on its card; get both again.") from None
    return model.eval()


def weights(name: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict]:
    """The weights of a network that `load` knows, or of a .safetensors file such as a run keeps; and a note on them.

    The note is what a card says of a beginning from them: name and SHA-256. Raises CourseError.
    """
    path = Path(name)
    if path.suffix != ".safetensors":
        about = card(name)
        return load(name).state_dict(), {"name": about["name"], "sha256": about["sha256"]}
    try:
        return safetensors.torch.load_file(path), {"name": path.name, "sha256": sha256(path)}
    except (OSError, safetensors.SafetensorError):
        raise CourseError(f"{path}: no file of weights can be read there; check the name, or get it again.") from None


def check_writer(writer: tuple[str, object], reader: tuple[str, object]) -> None:
    """Raise CourseError where the network that wrote a file is not the one that is to read it: names and weights."""
    (name, _), (other, _) = writer, reader
    require(name == other, f"the file was written by {name!r}, not by {other!r}; name no other model.")
    require(writer == reader, f"the file was written by other weights of {name!r}; get those to read it.")


def for_task(task: str) -> list[str]:
    """The names of the networks that solve a task, the best on the bundled pictures first. Raises CourseError."""
    cards = [card(path.stem) for path in WEIGHTS.glob("*.json")]
    fit = [about for about in cards if degradations.covers(about["task"], task)]
    return [about["weights"].stem for about in sorted(fit, key=lambda about: _psnr(about, task), reverse=True)]


def load_for(name: str, task: str) -> models.Restorer:
    """The named network, if it solves the task; with a "+" its Ensemble of eight orientations. Raises CourseError."""
    name, plus = str(name).removesuffix("+"), str(name).endswith("+")
    solves = card(name)["task"]
    if not degradations.covers(solves, task):
        known = ", ".join(for_task(task)) or "none yet"
        raise CourseError(f"{name!r} solves {solves}, not {task}; there are {known}.")
    network = load(name)
    turned = isinstance(network, models.Restorer) or not plus
    require(turned, f"{name!r} is measured in one orientation alone; leave out the +.")
    return models.Ensemble(network) if plus else network


def _psnr(about: dict, task: str) -> float:
    """What a card says of the bundled pictures; 0 where it says nothing."""
    try:
        return float(about["figures"][task]["bundled"]["psnr"])
    except (KeyError, TypeError, ValueError, OverflowError):  # a trained card, copied there by hand, has no figures
        return 0.0
