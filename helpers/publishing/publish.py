"""A finished run is measured, and its weights and card are put into the zoo."""

import os
import shutil
from pathlib import Path

import pandas as pd
import safetensors.torch

from .. import comparison, datasets, degradations, metrics, models, zoo
from ..evaluation import TASKS, evaluate, test_sets
from ..service.errors import CourseError, require
from ..service.files import atomic, sha256


def publish(run: str | os.PathLike, half: bool = False, overwrite: bool = False) -> Path:
    """Measure a finished run on the bundled pictures and the standard test sets; put weights and card into the zoo.

    `half` keeps the weights in half precision, and measures them so; `overwrite` replaces a network of that name.
    Raises CourseError, and nothing is put there: for a run that was stopped, a name that is taken, a set that is not
    there, a picture that cannot be measured.
    """
    cards = [path for path in Path(run).glob("*.json") if path.with_suffix(".safetensors").is_file()]
    require(len(cards) == 1, f"{run}: not the folder of a finished training; name the OUT of `train`.")
    trained = zoo.card(cards[0])
    try:
        done, wanted = int(trained["steps"]), int(trained["recipe"]["plan"]["steps"])
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CourseError(f"{cards[0]}: does not say how it was trained; name the OUT of `train`.") from None
    require(done >= wanted, f"{cards[0]}: stopped at step {done} of {wanted}; end the training with --resume first.")
    target, how = zoo.WEIGHTS / cards[0].name, "--overwrite replaces it, or give the recipe another name"
    require(overwrite or not target.exists(), f"{target}: a network of that name is there already; {how}.")
    card = _in_half(cards[0]) if half else cards[0]
    about = zoo.card(card)
    tasks = [task for task in TASKS if degradations.covers(about["task"], task)]  # any quality: those of the literature
    alone = about["task"] != "codec-detail"  # a second layer is measured with its codec
    about["figures"] = {task: {} for task in tasks or [about["task"]] * alone}
    for task, figures in about["figures"].items():
        for name in ("bundled", *test_sets(task)):
            table, failures = evaluate(task, datasets.folder(name), [str(card)], name)
            if failures:
                raise CourseError(f"{failures[0].rstrip('.')}; publishing wants all pictures of {name}.")
            figures[name] = figures_of(table)
    about["multiply_adds"] = models.multiply_adds(zoo.load(card))
    with atomic(target.with_suffix(".safetensors")) as temporary:
        shutil.copyfile(about.pop("weights"), temporary)
    return zoo.write_card(target, about)


def _in_half(card: Path) -> Path:
    """The card of the same run with weights of 16 bits each, both in a folder within the run."""
    about, folder = zoo.card(card), card.parent / "half"
    weights = safetensors.torch.load_file(about.pop("weights"))
    folder.mkdir(exist_ok=True)
    target = folder / f"{card.stem}.safetensors"
    halves = {name: t.half() if t.is_floating_point() else t for name, t in weights.items()}
    target.write_bytes(safetensors.torch.save(halves))  # its own save_file makes a private file
    about |= {"bytes": target.stat().st_size, "sha256": sha256(target)}
    return zoo.write_card(folder / card.name, about)


def figures_of(table: pd.DataFrame) -> dict[str, float]:
    """What a card says of one method's rows: mean PSNR and SSIM; of a codec, dB at some rates, or its one point."""
    if "setting" not in table:
        means = table[["psnr", "ssim"]].mean()
        return {"psnr": round(means["psnr"], 3), "ssim": round(means["ssim"], 4)}
    points = comparison.curve(table)
    if len(points) == 1:
        return {"bpp": round(points[0][0], 3), "psnr": round(points[0][1], 3)}
    return {f"psnr at {rate}": round(metrics.at_rate(points, rate), 3) for rate in comparison.SHOWN_RATES}
