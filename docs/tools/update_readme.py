"""Write what README, docs/results.md, docs/scaling.md and cards show of data/results: tables, figures, a picture.

    python docs/tools/update_readme.py [--check]

The tables come from `data/results/*.csv` (one row per picture and method, by `make benchmark`) and, for rows in
italics, from `docs/published.csv` (the README's from `docs/published_since_2018.csv`, too); what is known of GPUs, from
`data/results/gpu.csv` (by `make test-gpu`), or that nothing is; the picture from a bundled photograph and the shipped
networks. A shipped card's figures are those of its tables. `--check` writes nothing and exits with 1 where a table or a
card differs from what the results give.
"""

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
README, RESULTS, PICTURE = ROOT / "README.md", ROOT / "data" / "results", ROOT / "docs" / "teaser.png"
PUBLISHED, PAGE = ROOT / "docs" / "published.csv", ROOT / "docs" / "results.md"
SCALING, GPU = ROOT / "docs" / "scaling.md", RESULTS / "gpu.csv"
GPU_PARTS = ("restoring", "training", "files", "timing", "notebooks")  # of tests/gpu.py
UNVERIFIED = """
**Not verified on a GPU.** All of this is tested with processes on CPUs (gloo; `tests/test_training.py`), and on a GPU
that is pretended (`python tests/gpu.py --device cpu`): its tensors refuse to meet those of the CPU. What only a GPU
runs – NCCL, float16 and bfloat16 under CUDA – is PyTorch's own and written as its documentation says, but was not run
here. `make test-gpu` tries all of the course on a GPU, within five minutes (a limit, not measured yet);
then `make readme` writes what it found here.
""".strip()
ORDER = ["Set11", "BSD68_gray", "Set5", "Set14", "BSD100", "Classic5", "LIVE1", "bundled"]
FAMILIES = {  # what the task of a row begins with: heading, how its scores are written
    "sr-": ("Super-resolution", "PSNR in dB / SSIM"),
    "jpeg-q": ("JPEG, luma", "PSNR in dB / SSIM / PSNR-B in dB"),
    "jpeg-color": ("JPEG, colour", "PSNR in dB / SSIM / PSNR-B in dB"),
    "cs-": ("Compressed sensing, luma", "PSNR in dB / SSIM with the 7×7 window of that literature"),
}
HEADLINES = {  # what the README shows of it: the task in words, and the set
    "sr-x2": ("enlarge ×2", "Set5"),
    "sr-x3": ("enlarge ×3", "Set5"),
    "sr-x4": ("enlarge ×4", "Set5"),
    "jpeg-q10": ("restore JPEG, quality 10", "Classic5"),
    "jpeg-q40": ("restore JPEG, quality 40", "Classic5"),
    "jpeg-color-q10": ("the same in colour, quality 10", "LIVE1"),
    "cs-10": ("recover from a tenth of the numbers", "Set11"),
    "cs-25": ("recover from a quarter", "Set11"),
}
SAME = {"deblock-q20": "jpeg-q20"}  # one task under two names: both are luma through libjpeg at quality 20
SAVINGS = ("BD-rate %", "without headers", "BD-rate % of MS-SSIM")
SCORES = {"psnr": ".2f", "ssim": ".4f", "psnr_b": ".2f"}


def all_tables() -> str:
    """Markdown: a table per family of tasks, a row per task and method, means over each set."""
    paths = sorted(RESULTS.glob("*-*.csv"))
    rows = pd.concat([pd.read_csv(path) for path in paths if not path.name.startswith("codec")])
    codecs = [pd.read_csv(path) for path in paths if path.name.startswith("codec")]
    return "\n\n".join([tables(rows, pd.read_csv(PUBLISHED)), *(codec_table(rows) for rows in codecs)])


def headlines() -> str:
    """Markdown: a row per task on one set: what costs nothing, the best without learning, published, and ours."""
    from helpers import baselines, comparison, metrics, zoo

    lines = ["| task | test set | input | classical | published | ours | by |", "|---|---|--:|--:|---|--:|---|"]
    newer = pd.read_csv(PUBLISHED.with_name("published_since_2018.csv"))
    published = pd.concat([pd.read_csv(PUBLISHED), newer[~newer["source"].str.contains("this course")]])
    for task, (words, dataset) in HEADLINES.items():
        means = pd.read_csv(RESULTS / f"{task}-{dataset}.csv").groupby("method")["psnr"].mean()
        ours = means[[name for name in means.index if (zoo.WEIGHTS / f"{name}.json").is_file()]]
        known = means.reindex(baselines.METHODS).dropna()
        start = means.drop([*ours.index, *known.index]).item()
        there = published[(published["task"] == task) & (published["dataset"] == dataset)].sort_values("psnr")
        theirs = f"{there['psnr'].iloc[-1]:.2f} ({there['method'].iloc[-1]})" if len(there) else "–"
        best = f"`{ours.idxmax()}`, {zoo.card(ours.idxmax())['parameters']:,} parameters"
        classical = f"{known.max():.2f}" if len(known) else "–"
        lines.append(f"| {words} | {dataset} | {start:.2f} | {classical} | {theirs} | {ours.max():.2f} | {best} |")
    rows = pd.read_csv(RESULTS / "codec-LIVE1.csv")
    found = comparison.curves(rows).loc[("codec", "LIVE1")]
    scores = found["psnr at 0.25"]
    best = found["BD-rate %"].reindex(zoo.for_task("codec")).idxmin()
    curve = {name: comparison.curve(rows[rows["method"] == name]) for name in (best, "jpeg-psnr", "avif-psnr")}
    rivals = [metrics.bd_rate(curve[best], curve[name], *comparison.RATES) for name in ("jpeg-psnr", "avif-psnr")]
    jpeg, tuned, avif = (_number(share, "+.0f", " %") for share in (found.loc[best, "BD-rate %"], *rivals))
    each = _number(comparison.bd_rates(rows, best, "avif-psnr").mean(), "+.0f", " %")
    by = f"`{best}`, {jpeg} bits against JPEG, {tuned} against `jpeg-psnr`, {avif} against `avif-psnr`"
    by += f" ({each} picture by picture)"
    start, known, reached = (f"{scores[name]:.2f}" for name in ("jpeg", "avif-psnr", best))
    cells = ["compress to 0.25 bits per pixel", "LIVE1", start, f"{known} (`avif-psnr`)", "–", reached, by]
    lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def codec_table(rows: pd.DataFrame) -> str:
    """Markdown: a row per codec on one set, the best at 0.25 bits per pixel last; those far off in a sentence."""
    from helpers import comparison

    gray = " in gray" if rows["task"].iloc[0] == "codec-gray" else ""
    found = comparison.curves(rows).reset_index().sort_values("psnr at 0.25", na_position="first")
    rates = comparison.SHOWN_RATES
    heads = ["codec", "parameters", *(f"{rate} bpp" for rate in rates), "bits", "without headers", "for MS-SSIM"]
    lowest = comparison.curve(rows[rows["method"] == "jpeg"])[0][0]  # JPEG has no smaller files
    span = f"{max(lowest, comparison.RATES[0]):.2f} to {comparison.RATES[1]:g}"
    lines = [
        f"## Codecs{gray}, {found['dataset'][0]}",
        "",
        f"PSNR{'' if gray else ' of RGB'} in dB at a file size; then BD-rate: how many more bits than JPEG for the "
        f"PSNR, or MS-SSIM, that JPEG has at {span} bits per pixel.",
        "",
        f"| {' | '.join(heads)} |",
        "|---|" + "--:|" * (len(heads) - 1),
    ]
    far = []
    for row in found.to_dict("records"):
        name, size = row["method"], f"{row['parameters']:,}" if row["parameters"] else "–"
        if pd.isna(row["BD-rate %"]):  # one point, far from the span
            only = rows[rows["method"] == name]
            far.append(f"`{name}` {only['psnr'].mean():.2f} dB at {only['bpp'].mean():.2f} bits per pixel")
            continue
        scores = [_number(row[f"psnr at {rate}"], ".2f") for rate in rates]
        shares = [_number(row.get(key), "+.0f", " %") for key in SAVINGS]
        lines.append(f"| {' | '.join([name, size, *scores, *shares])} |")
    return "\n".join(lines) + (f"\n\nFar outside: {', '.join(far)}." if far else "")


def _number(value: float | None, form: str, unit: str = "") -> str:
    """The number as text; an empty one where there is none."""
    return "" if value is None or pd.isna(value) else f"{format(value, form).replace('-', '−')}{unit}"


def tables(measured: pd.DataFrame, published: pd.DataFrame) -> str:
    """The tables of measured rows, one per picture, and of those published rows whose task was measured.

    Within a task the rows rise with the PSNR on the task's first set.
    """
    columns = ["task", "method", "dataset", "image", "parameters", "ssim_uniform", *SCORES]
    measured = measured.reindex(columns=columns)
    measured["ssim"] = measured["ssim_uniform"].fillna(measured["ssim"])
    measured["task"] = measured["task"].replace(SAME)
    twice = ["task", "method", "dataset", "image"]  # the input itself is measured under both names of a task
    measured = measured.sort_values("psnr_b", na_position="last").drop_duplicates(twice)
    means = measured.groupby(["task", "method", "dataset"])[[*SCORES, "parameters"]].mean().reset_index()
    published = published[published["task"].isin(means["task"])].assign(published=True)
    means = pd.concat([means.assign(published=False), published])
    parts = []
    for prefix, (heading, scores) in FAMILIES.items():
        family = means[means["task"].str.startswith(prefix)]
        if len(family):
            parts.append(f"## {heading}\n\n{scores}.\n\n{_one_table(family)}")
    return "\n\n".join(parts)


def _one_table(means: pd.DataFrame) -> str:
    sets = [name for name in ORDER if name in set(means["dataset"])]
    lines = [f"| task | method | parameters | {' | '.join(sets)} |", "|---|---|--:|" + "--:|" * len(sets)]
    for task, rows in means.groupby("task"):
        first = rows[rows["dataset"] == next(name for name in sets if name in set(rows["dataset"]))]
        order = dict(zip(zip(first["method"], first["published"], strict=True), first["psnr"], strict=True))
        groups = rows.groupby(["method", "published"])
        for key, group in sorted(groups, key=lambda item: order.get(item[0], 0)):
            lines.append(_line(task, *key, group, sets))
    return "\n".join(lines)


def _line(task: str, method: str, published: bool, rows: pd.DataFrame, sets: list[str]) -> str:
    scores = {}
    for row in rows.to_dict("records"):
        found = [format(row[name], form) for name, form in SCORES.items() if pd.notna(row[name])]
        scores[row["dataset"]] = " / ".join(found)
    parameters = int(rows["parameters"].iloc[0])
    size = f"{parameters // 1000} K" if published else f"{parameters:,}" if parameters else "–"
    cells = [f"*{method}, published*" if published else method, size, *(scores.get(name, "") for name in sets)]
    return f"| {' | '.join([task, *cells])} |"


def between_markers(page: str, table: str, name: str = "results") -> str:
    """A page with a table between its markers."""
    begin, end = (f"<!-- {name}: {edge} -->" for edge in ("begin", "end"))
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def gpu_rows() -> pd.DataFrame:
    """What was measured on GPUs, device by device; empty where nothing was."""
    return pd.read_csv(GPU) if GPU.is_file() else pd.DataFrame(columns=["device", "part", "name", "measure", "value"])


def gpu_minutes(rows: pd.DataFrame) -> dict[str, str]:
    """The minutes of each notebook on the first device, by the name of its file; "not measured" where they were not."""
    rows = rows[(rows["part"] == "notebooks") & (rows["measure"] == "seconds")].drop_duplicates("name")
    measured = {name: max(0.1, seconds / 60) for name, seconds in zip(rows["name"], rows["value"], strict=True)}
    names = [path.stem for path in sorted((ROOT / "notebooks").glob("0*.ipynb"))]
    return {name: f"{measured[name]:.1f} minutes" if name in measured else "not measured" for name in names}


def gpu_sentence(rows: pd.DataFrame) -> str:
    """What the README says of the notebooks on a GPU."""
    if rows.empty:
        return "On a GPU: not measured."
    minutes = ", ".join(gpu_minutes(rows).values())
    return f"On a GPU ({rows['device'].iloc[0]}): {minutes} ([what was tried there](docs/scaling.md))."


def gpu_section(rows: pd.DataFrame) -> str:
    """Markdown: for each device what was tried and measured; or that nothing was."""
    if rows.empty:
        return UNVERIFIED
    parts = []
    for device, found in rows.groupby("device", sort=False):
        faults = found[found["measure"] == "faults"].set_index("part")["value"].groupby("part").agg(["sum", "count"])
        wanted = pd.Series(1, GPU_PARTS[:-1]).to_dict() | {"notebooks": 6}
        short = [part for part in wanted if part not in faults.index or faults.loc[part, "count"] < wanted[part]]
        wrong = [f"{part} {int(row['sum'])}" for part, row in faults.iterrows() if row["sum"]]
        said = f"checks failed: {', '.join(wrong)}" if wrong else "no check failed"
        said += f"; not finished: {', '.join(short)}" if short else ""
        about = found.iloc[0]
        run = f"driver {about['driver']}, torch {about['torch']}, {about['date']}, commit {about['commit']}"
        lines = [f"**Tried on {device}** by `make test-gpu` ({run}): {said}.", "", *_gpu_table(found, "timing", TIMED)]
        parts.append("\n".join([*lines, "", *_gpu_table(found, "restoring", COMPARED)]))
    if not rows["device"].str.contains("T4").any():
        parts.append("**Not verified on a T4**, the card of Colab's free machines, which trains in float16.")
    return "\n\n".join(parts)


TIMED = {
    "patches per second": "patches/s",
    "ms a step, drawing and degrading": "drawing, ms a step",
    "ms a step, transfer": "transfer",
    "ms a step, forward, backward, optimiser": "network and optimiser",
    "peak MiB": "peak MiB",
}
COMPARED = {
    "largest difference, float32": "from the CPU, float32",
    "largest difference, TF32 as PyTorch has it": "with TF32, PyTorch's default",
    "largest difference, half precision": "with `half`",
    "seconds per megapixel": "seconds per megapixel",
}


def _gpu_table(rows: pd.DataFrame, part: str, columns: dict[str, str]) -> list[str]:
    """Lines of Markdown: a row per recipe or network that the part measured, differences in gray levels."""
    names = rows[(rows["part"] == part) & rows["measure"].isin(columns)]["name"].unique()
    values = rows[rows["name"].isin(names)].pivot_table(index="name", columns="measure", values="value")
    values = values.reindex(columns=list(columns))
    values[[name for name in columns if name.startswith("largest")]] *= 255
    lines = [f"| {' | '.join(['recipe' if part == 'timing' else 'network, gray levels', *columns.values()])} |"]
    lines.append("|---|" + "--:|" * len(columns))
    return lines + [
        f"| {' | '.join([name, *('' if pd.isna(v) else f'{v:,.0f}' if v >= 100 else f'{v:.2g}' for v in row)])} |"
        for name, row in zip(values.index, values.to_numpy(), strict=True)
    ]


def picture(path: Path) -> None:
    """Bicubic, SRCNN and the best small network at ×3 beside the original, one square of a photograph, enlarged."""
    import torch
    from PIL import Image, ImageDraw, ImageFont

    from helpers import datasets, degradations, images, zoo

    sharp = images.crop_to_multiple(images.load_uint8(datasets.bundled("flower")), 3)
    small = degradations.for_task("sr-x3")(sharp)
    panels = {"bicubic": images.to_uint8(degradations.upscale(images.to_float(small), 3))}
    panels |= {label: zoo.load(name).restore(small) for label, name in (("SRCNN", "srcnn-955-x3"), ("EDSR", "edsr-x3"))}
    panels["original"] = sharp
    side, top, left = 110, 175, 255
    strip = torch.cat([p[:, top : top + side, left : left + side] for p in panels.values()], dim=-1)
    strip = strip.repeat_interleave(2, 1).repeat_interleave(2, 2)
    drawn = Image.fromarray(strip.movedim(0, -1).numpy())
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(16)
    for index, label in enumerate(panels):
        pen.text((index * 2 * side + 6, 4), label, fill="white", font=font, stroke_width=2, stroke_fill="black")
    drawn.save(path, optimize=True)


def tabled(name: str, figures: dict[str, dict]) -> dict[str, dict]:
    """A card's figures, by task and set, as the tables have them now."""
    from helpers.publishing import publish

    def figure(task: str, dataset: str) -> dict[str, float]:
        table = pd.read_csv(RESULTS / f"{task}-{dataset}.csv")
        return publish.figures_of(table[table["method"] == name])

    return {task: {dataset: figure(task, dataset) for dataset in sets} for task, sets in figures.items()}


def main() -> int:
    """Write the tables and the picture, or compare them; 1 where they have drifted."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the tables have drifted")
    check = options.parse_args().check
    from helpers import zoo
    from helpers.service.files import atomic

    drifted = []
    for path in sorted(zoo.WEIGHTS.glob("*.json")):
        about = zoo.card(path.stem)
        if about["figures"] != (figures := tabled(about["name"], about["figures"])):
            drifted += [path.name]
            if not check:
                zoo.write_card(path, json.loads(path.read_text(encoding="utf-8")) | {"figures": figures})
    tables = [(README, headlines(), "results"), (PAGE, all_tables(), "results")]
    tables += [(README, gpu_sentence(gpu_rows()), "gpu"), (SCALING, gpu_section(gpu_rows()), "gpu")]
    for path, table, name in tables:
        found = path.read_text(encoding="utf-8")
        wanted = between_markers(found, table, name)
        drifted += [path.name] if found != wanted else []
        if not check:
            with atomic(path) as temporary:
                temporary.write_text(wanted, encoding="utf-8")
    if check:
        print(f"drifted from data/results: {', '.join(drifted)}" if drifted else "all tables are those of data/results")
        return int(bool(drifted))
    picture(PICTURE)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
