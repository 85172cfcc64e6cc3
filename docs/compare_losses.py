"""What DW-SSIM gains and what it costs: a small network of compressed sensing, trained with each loss from three seeds.

    python docs/compare_losses.py [--steps 1500]     # about 25 minutes on a CPU core

Writes a row per loss, seed, set and ratio, means over the pictures of the set, to `data/experiments/losses.csv`, which
notebook 5 shows. Wants the training sets of the recipes in COURSE_DATA.
"""

import argparse
import dataclasses
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from helpers import datasets, images, losses, metrics, recipes, training, wavelets  # noqa: E402

OUT = ROOT / "data" / "experiments" / "losses.csv"
LOSSES = {
    "MSE": torch.nn.MSELoss,
    "0.8 / 0.2": partial(losses.FrobeniusDWSSIMLoss, 0.8, 0.2),
    "0.5 / 0.5": losses.FrobeniusDWSSIMLoss,
    "0.5 / 0.5, signed, each picture": partial(losses.FrobeniusDWSSIMLoss, absolute=False, joint=False),
}
SEEDS = (0, 1, 2)
SETS = ("bundled", "Set11")
RATIOS = (0.04, 0.1, 0.25)


def small(seed: int, steps: int) -> recipes.Recipe:
    """The recipe of rescsnet-any with a network of a twentieth of the arithmetic."""
    recipe = recipes.changed(recipes.find("rescsnet-any"), steps=steps, seed=seed, patch=96)
    network = {"kind": "rescsnet-any", "width": 24, "stages": 2, "blocks": 1}
    return dataclasses.replace(recipe, network=network)


@torch.inference_mode()
def measure(model, name: str, ratio: float) -> dict[str, float]:
    """Mean PSNR, SSIM and DW-SSIM over the luma of a set's pictures, in 8 bits."""
    rows = []
    for y in datasets.load_all(datasets.folder(name)):
        pair = [images.to_float(t) for t in (model.reconstruct(y, ratio), y)]
        row = {"psnr": metrics.psnr(*pair), "ssim": metrics.ssim(*pair)}
        rows.append(row | {"dw_ssim": wavelets.dw_ssim(*(t[None] for t in pair)).item()})
    return pd.DataFrame(rows).mean().to_dict()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=1500)
    steps = options.parse_args().steps
    rows = []
    for seed in SEEDS:
        recipe = small(seed, steps)
        batches, _ = recipes.prepare(recipe)
        for name, loss in LOSSES.items():
            model = recipes.network(recipe)
            training.train(model, batches, loss(), recipe.plan, progress=False)
            for dataset in SETS:
                for ratio in RATIOS:
                    about = {"loss": name, "seed": seed, "dataset": dataset, "ratio": ratio}
                    rows.append(about | measure(model, dataset, ratio))
            print(pd.DataFrame(rows[-len(RATIOS) :]).to_string(index=False, header=False), flush=True)
    OUT.parent.mkdir(exist_ok=True)
    with images.atomic(OUT) as temporary:
        pd.DataFrame(rows).round(5).to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
