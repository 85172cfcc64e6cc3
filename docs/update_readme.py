"""Write what the README shows but does not say itself: the results table and the picture.

    python docs/update_readme.py [--check]

The table comes from `data/results/*.csv` (one row per picture and method, by `python -m helpers evaluate`), the picture
from the bundled photographs and the shipped networks. `--check` writes nothing and exits with 1 where the README's
table is not the one that the results give.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
README, RESULTS, PICTURE = ROOT / "README.md", ROOT / "data" / "results", ROOT / "docs" / "teaser.png"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
ORDER = ["Set5", "Set14", "BSD100", "Classic5", "LIVE1", "bundled"]


def table() -> str:
    """Markdown: a row per task and method, PSNR in dB / SSIM as means over each set."""
    rows = pd.concat([pd.read_csv(path) for path in sorted(RESULTS.glob("*.csv"))])
    means = rows.groupby(["task", "method", "dataset"], sort=False)[["psnr", "ssim", "parameters"]].mean().reset_index()
    sets = [name for name in ORDER if name in set(means["dataset"])]
    lines = [f"| task | method | parameters | {' | '.join(sets)} |", "|---|---|--:|" + "--:|" * len(sets)]
    for (task, method), group in means.groupby(["task", "method"], sort=False):
        scores = {row.dataset: f"{row.psnr:.2f} / {row.ssim:.4f}" for row in group.itertuples()}
        parameters = int(group["parameters"].iloc[0])
        cells = [task, method, f"{parameters:,}" if parameters else "–", *(scores.get(name, "") for name in sets)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_table(readme: str) -> str:
    """The README with the current table between its markers."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def picture(path: Path) -> None:
    """Bicubic, SRCNN and the best small network at ×3 beside the original, one square of a photograph, enlarged."""
    import torch
    from PIL import Image, ImageDraw, ImageFont

    from helpers import datasets, degradations, images, zoo

    sharp = images.crop_to_multiple(images.load_uint8(datasets.bundled("chelsea")), 3)
    small = degradations.for_task("sr-x3")(sharp)
    panels = {"bicubic": images.to_uint8(degradations.upscale(images.to_float(small), 3))}
    panels |= {label: zoo.load(name).restore(small) for label, name in (("SRCNN", "srcnn-955-x3"), ("EDSR", "edsr-x3"))}
    panels["original"] = sharp
    side, top, left = 110, 60, 140
    strip = torch.cat([p[:, top : top + side, left : left + side] for p in panels.values()], dim=-1)
    strip = strip.repeat_interleave(2, 1).repeat_interleave(2, 2)
    drawn = Image.fromarray(strip.movedim(0, -1).numpy())
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(16)
    for index, label in enumerate(panels):
        pen.text((index * 2 * side + 6, 4), label, fill="white", font=font, stroke_width=2, stroke_fill="black")
    drawn.save(path, optimize=True)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the table has drifted")
    check = options.parse_args().check
    found = README.read_text(encoding="utf-8")
    wanted = with_table(found)
    if check:
        print("README: the table is that of data/results" if found == wanted else "README: the table has drifted")
        return int(found != wanted)
    README.write_text(wanted, encoding="utf-8")
    picture(PICTURE)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
