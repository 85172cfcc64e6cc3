"""Numbers that notebooks 1 and 2 and their quizzes take from tables and cards: each is computed again."""

import json
import math
import re
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
SET5 = pd.read_csv(ROOT / "data/results/sr-x3-Set5.csv").pivot(index="image", columns="method", values="psnr")


def cell(notebook: str, name: str) -> str:
    book = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8"))
    return "".join(next(cell for cell in book["cells"] if cell["id"] == name)["source"])


def test_notebook_1_tells_how_much_good_methods_gain():
    text = cell("01_data_preparation", "wrong-peak-read")
    published = pd.concat(pd.read_csv(ROOT / "docs" / name) for name in ("published.csv", "published_since_2018.csv"))
    published = published.query("task == 'sr-x3' and dataset == 'Set5' and luma == 'rounded'").reset_index()
    best = published.loc[published["psnr"].idxmax()]
    name, gain = re.search(r"(\S+), the best network .*?, gains ([\d.]+) dB on Set5", text).groups()
    assert (name, float(gain)) == (best["method"], round(best["psnr"] - SET5["bicubic"].mean(), 2))
    largest = (SET5["edsr-x3"] - SET5["bicubic"]).max()
    assert f"our `edsr-x3` gains {largest:.1f} dB on one of its five pictures" in text
    above = 87.30 - 20 * math.log10(255) - 35.13
    assert f"That is {above:.0f} dB above bicubic" in text


def test_quiz_1_tells_what_pooling_costs():
    pooled = -10 * math.log10((10 ** (-SET5["bicubic"] / 10)).mean())
    told = f"{SET5['bicubic'].mean():.1f} dB as the mean of five PSNRs, and {pooled:.1f} dB by the mean of their MSEs"
    assert told in (ROOT / "data/quizzes/1.md").read_text(encoding="utf-8")


def test_notebook_2_tells_how_long_its_network_was_trained():
    card = json.loads((ROOT / "data/weights/srcnn-955-x3.json").read_text(encoding="utf-8"))
    assert card["device"].startswith("cpu")
    assert f"`srcnn-955-x3`, which the course ships, took {card['seconds'] / 60:.0f} minutes on a CPU" in cell(
        "02_srcnn", "p-many"
    )


def test_notebook_2_tells_what_the_best_networks_reach():
    best = pd.read_csv(ROOT / "docs/published.csv").query("task == 'sr-x3' and dataset == 'Set5'")["psnr"].max()
    assert best < 45 - 10 and "stay more than ten decibels below" in (ROOT / "data/quizzes/2.md").read_text("utf-8")
