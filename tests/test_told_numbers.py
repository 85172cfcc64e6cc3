"""Numbers that notebooks and quizzes tell without a cell that computes them: each is computed again here."""

import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont, features
from scipy.stats import bootstrap
from scipy.stats import t as student

from helpers import baselines, codec, comparison, datasets, degradations, images, metrics, models, recipes, zoo

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
    name, gain = re.search(r"a good published network, (\S+) \(2024\), gains ([\d.]+) dB over bicubic", text).groups()
    assert (name, float(gain)) == (best["method"], round(best["psnr"] - SET5["bicubic"].mean(), 2))
    largest = (SET5["edsr-x3"] - SET5["bicubic"]).max()
    assert f"largest network of notebook 2 gains {largest:.1f} dB on one of them" in text
    above = 87.30 - 20 * math.log10(255) - 35.13
    assert f"That is {above:.0f} dB above bicubic" in text


def test_at_the_better_start_a_tenth_of_the_weights_have_a_gradient():
    torch.manual_seed(0)
    network = models.build("srcnn", scale=3, kernels=(9, 1, 5))
    network.start_from_interpolation()
    clean = images.to_float(datasets.load_all(datasets.bundled()[:1])[0])[None, :, :96, :96]
    (network(degradations.downscale(clean, 3)) - clean).square().mean().backward()
    moved = {name: (p.grad != 0).sum().item() for name, p in network.named_parameters()}
    assert 0.08 < sum(moved.values()) / 8129 < 0.12 and moved["conv3.weight"] > 0.7 * sum(moved.values())


def test_quiz_1_tells_what_pooling_costs():
    pooled = -10 * math.log10((10 ** (-SET5["bicubic"] / 10)).mean())
    told = f"{SET5['bicubic'].mean():.1f} dB as the mean of five PSNRs, and {pooled:.1f} dB by the mean of their MSEs"
    assert told in (ROOT / "data/quizzes/1.md").read_text(encoding="utf-8")


def test_notebook_2_tells_how_long_its_network_was_trained():
    card = json.loads((ROOT / "data/weights/srcnn-955-x3.json").read_text(encoding="utf-8"))
    assert f"`srcnn-955-x3`, which the course ships, took {card['steps']:,} steps" in cell("02_srcnn", "p-many")


def test_bicubic_reduction_by_3_without_anti_aliasing_drops_eight_pixels_in_nine():
    large = torch.rand(1, 1, 30, 45, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.nn.functional.interpolate(large, (10, 15), mode="bicubic"), large[..., 1::3, 1::3])


def test_notebook_2_tells_where_shifted_jpegs_are_behind():
    scores = pd.read_csv(ROOT / "data/results/deblock-q20-Classic5.csv").groupby("method")["psnr"].mean()
    told = f"the network is ahead: {scores['skyline']:.2f} against {scores['shifted-jpegs']:.2f} dB"
    assert told in cell("02_srcnn", "skyline-shifted")


def test_notebook_2_tells_what_the_best_networks_reach():
    best = pd.read_csv(ROOT / "docs/published.csv").query("task == 'sr-x3' and dataset == 'Set5'")["psnr"].max()
    assert best < 45 - 10 and "stay more than ten decibels below" in (ROOT / "data/quizzes/2.md").read_text("utf-8")


def test_one_gray_is_worse_on_the_pictures_that_notebook_3_holds_out():
    pictures = {path.stem: images.to_float(datasets.load_all([path], channels=3)[0]) for path in datasets.bundled()}
    held_out = ("chelsea", "coffee", "flower")
    seen = [name for name in pictures if name not in held_out]
    gray = sum(pictures[name].mean() for name in seen) / len(seen)

    def psnr(names):
        parts = [pictures[name][:, 100:260, 160:400] for name in names]
        return sum(metrics.psnr(gray.expand_as(part), part) for part in parts) / len(parts)

    assert f"one gray has {psnr(seen):.0f} dB on the seven and {psnr(held_out):.0f} on the three" in cell(
        "03_jpeg_restorer", "r5b-seen"
    )


def test_the_covariance_of_all_pixels_loses_a_decibel_to_the_variances_of_waves():
    """As notebook 5 says of its nine photographs, here for low frequencies at a ratio of 0.25."""
    text = cell("05_rescsnet_dwssim", "covariance")
    basis, rows = degradations.dct_patterns(32).flatten(1), degradations.zonal_rows(32, 256)
    pictures = datasets.load_all(datasets.bundled())
    waves = [(datasets.sliding_patches(t, 32, 24).flatten(1) / 255 - 0.5) @ basis.T for t in pictures]
    found = {"all pairs": [], "variances": [], "transpose": []}
    for index, t in enumerate(pictures):
        others = torch.cat(waves[:index] + waves[index + 1 :])
        full, phi = others.T @ others / len(others), rows.flatten(1) @ basis.T
        for name, known in (("all pairs", full), ("variances", full.diag().diag()), ("transpose", torch.eye(1024))):
            gain = torch.linalg.solve(phi @ known @ phi.T + 1e-5 * torch.eye(256), phi @ known) @ basis
            y = degradations.block_sense(images.to_float(t)[None] - 0.5, rows)
            made = degradations.block_adjoint(y, gain.reshape(-1, 32, 32))[0, :, : t.shape[-2], : t.shape[-1]] + 0.5
            found[name].append(metrics.psnr(images.quantize(made), t / 255))
    means = {name: np.mean(values) for name, values in found.items()}
    assert 0.9 < means["variances"] - means["all pairs"] < 1.1 and "up to 1 dB worse" in text
    assert means["all pairs"] < means["transpose"] and "at 0.25 worse than the bare transpose" in text


def test_jpeg_xl_above_its_kink_takes_as_many_bits_as_told():
    codecs = pd.read_csv(ROOT / "data/results/codec-LIVE1.csv")
    jpeg, jxl = (comparison.curve(codecs[codecs["method"] == name]) for name in ("jpeg", "jpegxl"))
    rates, scores = zip(*jpeg, strict=True)
    span = np.exp(np.interp((27.2, 28.5), scores, np.log(rates)))  # where JPEG has these PSNRs
    told = f"it takes {-metrics.bd_rate(jxl, jpeg, *span):.0f} % fewer bits than JPEG"
    assert told in (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert told in cell("06_benchmarking", "r6-jxl")


def test_the_codecs_by_picture_and_by_span_are_as_told():
    tables = {name: pd.read_csv(ROOT / f"data/results/codec-{name}.csv") for name in ("LIVE1", "bundled")}

    def saved(method: str, anchor: str, dataset: str) -> int:
        """BD-rate in percent, of the mean curves."""
        table = tables[dataset]
        pair = (comparison.curve(table[table["method"] == name]) for name in (method, anchor))
        return round(metrics.bd_rate(*pair, *comparison.RATES))

    each = comparison.bd_rates(tables["bundled"], "integer-ae", "avif")
    tuned = comparison.bd_rates(tables["bundled"], "integer-ae", "avif-psnr").mean()
    assert each.idxmin() == "chelsea.png"
    told = f"{-each['chelsea.png']:.0f} % fewer bits than AVIF. On the brick wall ours takes "
    told += f"{each['brick.png']:.0f} % more, "
    told += f"on average over the ten pictures {each.mean():.0f} % more, and {tuned:.0f} % more than `avif-psnr`"
    assert told in cell("04_noisy_binary_autoencoder", "r9-ten")
    fewer = -comparison.bd_rates(tables["LIVE1"], "integer-ae", "avif").mean()
    text = cell("06_benchmarking", "r9-files")
    assert f"ours takes {fewer:.0f} % fewer bits on LIVE1, picture by picture (6.6)." in text
    low, high = bootstrap((each,), np.mean, random_state=0).confidence_interval
    told = f"fewer bits on {(each < 0).sum()}, and {each.mean():.0f} % more in the mean (from "
    assert told + f"−{-low:.0f} to +{high:.0f} %), because of a brick wall and a rocket" in text
    assert {*each.nlargest(2).index} == {"brick.png", "rocket.png"} and each.nsmallest(8).mean() < 0


def ahead(table: pd.DataFrame, rival: str, bits: float, score: str = "psnr") -> float:
    """How many dB a rival is above ours, each picture at exactly so many bits per pixel, and then the mean."""
    each = [
        [
            metrics.at_rate(comparison.curve(rows, score), bits)
            for _, rows in table[table["method"] == name].groupby("image")
        ]
        for name in (rival, "integer-ae")
    ]
    return np.subtract(*each).mean()


def test_the_codecs_at_equal_bits_are_as_told():
    live1, bundled = (pd.read_csv(ROOT / f"data/results/codec-{name}.csv") for name in ("LIVE1", "bundled"))
    text = cell("04_noisy_binary_autoencoder", "high-reading")
    avif = [ahead(live1, "avif", bits) for bits in (0.5, 1, 2)]
    assert f"{-avif[0]:.1f} dB above AVIF at half a bit per pixel, {avif[1]:.1f} below at one, {avif[2]:.1f}" in text
    tuned = [ahead(live1, "avif-psnr", bits) for bits in (0.5, 1)]
    assert f"`avif-psnr` is {tuned[0]:.1f} dB above ours at half a bit, {tuned[1]:.1f} at one" in text
    wavelet = [ahead(live1, "jpeg2000", bits) for bits in (0.5, 2)]
    assert f"JPEG 2000 is {-wavelet[0]:.1f} dB below ours at half a bit, and {wavelet[1]:.1f} above at two" in text
    slow = [ahead(live1, "avif-slow", bits, "ms_ssim") for bits in (0.5, 1)]
    assert f"By MS-SSIM `avif-slow` is {slow[0]:.1f} dB above ours at half a bit, {slow[1]:.1f} at one" in text
    text, curves = cell("06_benchmarking", "above-read"), {m: comparison.curve(t) for m, t in live1.groupby("method")}
    mean = metrics.at_rate(curves["avif"], 1) - metrics.at_rate(curves["integer-ae"], 1)
    assert f"is {mean:.1f} dB below AVIF at one bit" in text and f"equal bits, it is {avif[1]:.1f} dB below it" in text
    text = cell("04_noisy_binary_autoencoder", "high-bundled")
    below, above = ahead(bundled, "avif", 1), -ahead(bundled, "webp", 1)
    assert f"at one bit ours is {below:.1f} dB below AVIF, and {above:.1f} above WebP" in text
    text = cell("04_noisy_binary_autoencoder", "r9-ten")
    assert abs(ahead(bundled, "avif", 0.25)) < 0.06 and "a quarter of a bit per pixel AVIF is level" in text
    slow, tuned = (ahead(bundled, name, 0.25) for name in ("avif-slow", "avif-psnr"))
    assert f"`avif-slow` is ahead by {slow:.1f} dB, `avif-psnr` by {tuned:.1f}" in text
    assert ahead(bundled, "jpeg2000", 0.5) < -0.2 and ahead(bundled, "avif", 0.5) > 0.2
    assert "At half a bit ours lies between JPEG 2000 and AVIF" in text


def test_what_jpeg_costs_the_original_rescsnet_is_as_told():
    """The mean squared error of rounding evenly, step² / 12 in each of 64 places, within that of its pictures."""
    with io.BytesIO() as file:
        Image.new("L", (8, 8)).save(file, "JPEG", quality=95)
        rounding = sum(step**2 / 12 for step in Image.open(file).quantization[0]) / 64
    rows = pd.read_csv(ROOT / "data/experiments/demos.csv").query("method == 'original'")
    errors = 255**2 / 10 ** (rows["psnr"] / 10)
    lost = (10 * np.log10(errors / (errors - rounding))).groupby(rows["ratio"]).mean()
    assert lost.idxmax() == 0.25 and f"costs it {lost.max():.1f} dB in the mean at 0.25" in cell(
        "05_rescsnet_dwssim", "s7"
    )


def test_mean_curves_flatter_jpeg_2000_as_told():
    points = {}
    for name in ("codec-LIVE1", "codec-bundled", "codec-gray-Set11", "codec-gray-bundled"):
        table = pd.read_csv(ROOT / f"data/results/{name}.csv")
        curves = [comparison.curve(table[table["method"] == method]) for method in ("jpeg2000", "jpeg")]
        points[name] = comparison.bd_rates(table, "jpeg2000").mean() - metrics.bd_rate(*curves, *comparison.RATES)
    assert [round(worse) for worse in points.values()] == [7, 8, 3, 12]
    said = (ROOT / "docs/results.md").read_text("utf-8")
    for text in (cell("04_noisy_binary_autoencoder", "r9a-settings"), said):
        assert "its BD-rate is 7 to 8 points worse" in text
    assert "7 to 8 points worse in colour, in gray 3 (Set11) and 12 (bundled)" in said


def test_published_curves_are_interpolated_as_ours_and_what_straight_lines_would_lose_is_as_told():
    rows = pd.read_csv(ROOT / "docs/published_since_2018.csv").query("task == 'codec'")
    lost = {}
    for method, points in pd.read_csv(ROOT / "docs/published_curves.csv").groupby("method"):
        curve = list(zip(points["bpp"], points["psnr"], strict=True))
        for rate, told in rows.loc[rows["method"] == method, ["bpp", "psnr"]].itertuples(index=False):
            assert abs(metrics.at_rate(curve, rate) - told) < 0.006, (method, rate)
            lost.setdefault(rate, []).append(told - np.interp(rate, points["bpp"], points["psnr"]))
    assert sum(map(len, lost.values())) == 28 and max(lost[0.25]) < 0.15 and 0.25 < max(map(max, lost.values())) < 0.3
    assert set(rows["method"]) - set(pd.read_csv(ROOT / "docs/published_curves.csv")["method"]) == {"DCAE", "LALIC"}


def test_weighing_by_bits_makes_the_mean_curves_rate():
    table = pd.read_csv(ROOT / "data/results/codec-LIVE1.csv")
    each = comparison.bd_rates(table, "integer-ae", "avif-psnr")
    rival = {image: rows.sort_values("psnr") for image, rows in table.query("method == 'avif-psnr'").groupby("image")}
    bits = [np.exp(np.interp(28.5, rival[image]["psnr"], np.log(rival[image]["bpp"]))) for image in each.index]
    told = f"(`avif-psnr` at 28.5 dB), {each.mean():.0f} becomes {np.average(each, weights=bits):.0f} %."
    assert told in cell("06_benchmarking", "r6b")


def test_the_interval_of_five_pictures_is_as_told():
    gain = SET5["edsr-x3"] - SET5["srcnn-955-x3"]
    low, high = student.interval(0.95, len(gain) - 1, gain.mean(), gain.sem())
    told = f"Student's interval, made for few numbers (that are normal), is {low:.2f} to {high:.2f} dB on Set5, "
    told += "and holds that of BSD100"
    assert told in cell("06_benchmarking", "r8")
    table = pd.read_csv(ROOT / "data/results/sr-x3-BSD100.csv")
    found = comparison.paired(table, "edsr-x3", "srcnn-955-x3")
    assert round(low, 2) <= round(found.low, 2) < found.high < high


def test_arcnn_is_as_far_from_the_frontier_as_told():
    costs = pd.read_csv(ROOT / "data/results/costs.csv").groupby("method")["seconds per megapixel"].first()
    quality = pd.read_csv(ROOT / "data/results/jpeg-q10-LIVE1.csv").groupby("method")["psnr"].mean()
    below, faster = quality["jpeg-blind"] - quality["arcnn-q10"], 100 * (costs["jpeg-blind"] / costs["arcnn-q10"] - 1)
    told = f"`arcnn-q10` belongs here, too: it is {below:.1f} dB below the last and {faster:.0f} % faster"
    assert told in cell("06_benchmarking", "r7-best")
    assert 100 * (costs["rescsnet-any-dw"] / costs["rescsnet-any"] - 1) > 0.9 * faster


def test_the_orders_take_as_many_passes_as_told():
    rows, columns = -(-1080 // 16), -(-1920 // 16)
    wave = 2 * (rows - 1) + columns
    text = cell("04_noisy_binary_autoencoder", "r-orders")
    assert f"and {rows * columns:,} for a picture of 1920×1080" in text and f"and {wave} there" in text
    assert f"takes {2 * 63 + 64} waves" in cell("04_noisy_binary_autoencoder", "one-passes")


def test_the_second_layer_took_as_long_as_told():
    card = json.loads((ROOT / "data/weights/integer-ae-detail.json").read_text(encoding="utf-8"))
    told = f"324 other pictures for {card['seconds'] / 60:.0f} minutes more"
    assert told in cell("04_noisy_binary_autoencoder", "s9-predict")


def test_shifted_jpegs_and_total_variation_are_as_far_apart_as_told():
    tables = [pd.read_csv(ROOT / f"data/results/jpeg-q{quality}-LIVE1.csv") for quality in (10, 20, 30, 40)]
    means = pd.DataFrame([table.groupby("method")["psnr"].mean() for table in tables])
    ahead = (means["shifted-jpegs"] - means["total-variation"]).round(2).tolist()
    told = f"total variation is {-ahead[0]:.2f} dB ahead of these; at 20 to 40 they are ahead, "
    assert f"{told}by {min(ahead[1:]):.2f} to {max(ahead[1:]):.2f} dB" in cell("06_benchmarking", "r9")


def test_avif_takes_about_as_long_as_told():
    costs = pd.read_csv(ROOT / "data/results/costs.csv").set_index("method")["seconds per megapixel"]
    for name, told in (("integer-ae", 9), ("avif-slow", 14), ("avif-psnr", 10)):
        assert costs[name] / costs["avif"] == pytest.approx(told, rel=0.1)
    assert "AVIF at its default speed is about nine times as fast" in cell("06_benchmarking", "r9-files")
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    page += cell("06_benchmarking", "s6-predict")
    told = ("which takes about fourteen times as long", "takes about ten times as long")
    assert [page.count(words) for words in told] == [2, 2]
    page = cell("04_noisy_binary_autoencoder", "r9")
    assert "at speed 3, about fourteen times as slow" in page and "also at speed 3, is about ten times as slow" in page


def test_chances_are_as_told():
    """Of notebook 6's paired differences: one is hardly an accident, five pictures are too few for any."""
    table = pd.read_csv(ROOT / "data/results/cs-10-BSD68_gray.csv")
    table = table[table["method"].isin(["rescsnet-any", "rescsnet-any-dw"])]
    scores = table.pivot(index="image", columns="method", values="psnr")
    differences = (scores["rescsnet-any"] - scores["rescsnet-any-dw"]).to_numpy()
    assert 0.0005 < comparison._chance(pd.Series(differences)) < 0.0015
    flipped = np.random.default_rng(0).choice([-1, 1], (300_000, 68)) * differences
    chance = (abs(flipped.mean(1)) >= differences.mean()).mean()
    assert "1 case of about 750" in cell("06_benchmarking", "r8-pair") and 650 < 1 / chance < 850
    assert comparison._chance((SET5["edsr-x3"] - SET5["srcnn-955-x3"]).dropna()) == 2 / 32


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_what_is_left_of_the_lead_over_avif_without_headers():
    """In colour; of LIVE1's pictures the sizes follow from our own headers, which are of one length."""
    text, picture = cell("06_benchmarking", "r6b-headers"), images.load_uint8(datasets.bundled("chelsea"))
    ours = codec.read_header(codec.compress(picture[:, :32, :32], "integer-ae")).length
    data = baselines.file_bytes(picture, "avif", 50)
    coded = data.index(b"mdat") - 4
    container = len(data) - (int.from_bytes(data[coded : coded + 4], "big") - 8)
    assert f"has {container} bytes" in text and f"ours has {ours}." in text
    rows = pd.read_csv(ROOT / "data/results/codec-LIVE1.csv")
    sizes = 8 * ours / rows[rows["method"] == "integer-ae"].groupby("image")["header_bpp"].min()
    less = rows["header_bpp"].where(~rows["method"].str.startswith("avif"), 8 * container / rows["image"].map(sizes))
    rows["bpp"] -= less
    means = [comparison.bd_rates(rows, "integer-ae", rival).mean() for rival in ("avif", "avif-slow", "avif-psnr")]
    fewer, more, most = (f"{abs(mean):.0f} %" for mean in means)
    assert means[0] < 0 < means[1]
    assert f"takes {fewer} fewer bits than AVIF, {more} more than `avif-slow`, and {most} more than" in text


def test_the_page_of_results_tells_the_steps_of_each_network():
    said = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    steps = {name: recipe.plan.steps for name, recipe in recipes.RECIPES.items()}
    srcnn, more = steps["srcnn-955-x3"], steps["srcnn-955-x2"]
    assert more == steps["srcnn-955-x4"] and steps["fsrcnn-x2"] == steps["fsrcnn-x4"]
    first, third = steps["edsr-x3-first"], steps["edsr-x3-first"] + steps["edsr-x3"]
    fourth = first + steps["edsr-x4-first"] + steps["edsr-x4"]
    told = f"{srcnn:,} steps at ×3, {more:,} more at ×2 and at ×4 (after 25,000 of those), {{:,}} in colour"
    assert f"SRCNN 9-5-5 for {told.format(steps['srcnn-955-rgb-x3'])}" in said
    assert f"FSRCNN for {steps['fsrcnn-x3']:,} at ×3, {steps['fsrcnn-x2']:,} more at ×2 and at ×4" in said
    assert f"EDSR for {steps['edsr-x2']:,}, {third:,} and {fourth:,} at ×2, ×3 and ×4" in said


def test_the_page_of_results_names_the_newer_networks_right():
    said = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    newer = pd.read_csv(ROOT / "docs/published_since_2018.csv")

    def theirs(task: str, dataset: str, name: str, rate: float | None = None) -> str:
        there = newer[(newer["task"] == task) & (newer["dataset"] == dataset) & (newer["method"] == name)]
        return f"{there.loc[there['bpp'] == rate if rate else there['bpp'].isna(), 'psnr'].item():.2f}"

    def ours(task: str, dataset: str, name: str) -> str:
        table = pd.read_csv(ROOT / f"data/results/{task}-{dataset}.csv")
        return f"{table.loc[table['method'] == name, 'psnr'].mean():.2f}"

    colour, luma, sensed = ("jpeg-color-q10", "LIVE1"), ("jpeg-q10", "Classic5"), ("cs-10", "Set11")
    told = (
        f"QGAC has {theirs(*colour, 'QGAC')}, FBCNN {theirs(*colour, 'FBCNN')} and GRL-S {theirs(*colour, 'GRL-S')} dB"
    )
    assert f"{told} (ours {ours(*colour, 'jpeg-blind')})" in said
    told = f"FBCNN has {theirs(*luma, 'FBCNN')} and SwinIR {theirs(*luma, 'SwinIR')} (ours {ours(*luma, 'jpeg-blind')})"
    assert told in said
    told = f"PCT has {theirs(*sensed, 'PCT')} and IDM {theirs(*sensed, 'IDM')} (ours {ours(*sensed, 'rescsnet-any')})"
    assert told in said
    assert f"of 38 thousand parameters, {theirs('sr-x4', 'Set5', 'ZenoSR')} dB" in " ".join(said.split())
    vtm, elic, dcae = (
        float(theirs("codec", "Kodak24", name, 0.25)) - float(theirs("codec", "Kodak24", "AV1", 0.25))
        for name in ("VTM", "ELIC", "DCAE")
    )
    assert f"VTM is published {vtm:.1f} dB above AV1, ELIC {elic:.1f} dB and DCAE {dcae:.1f} dB" in said


def test_the_page_of_results_compares_codecs_by_ms_ssim_right():
    table = pd.read_csv(ROOT / "data/results/codec-LIVE1.csv")

    def more(other: str) -> float:
        pair = (comparison.curve(table[table["method"] == name], "ms_ssim") for name in ("integer-ae", other))
        return metrics.bd_rate(*pair, *comparison.RATES)

    told = f"it takes {more('avif'):.0f} % more bits than `avif`, {more('avif-slow'):.0f} % more than `avif-slow`, "
    told += f"and {-more('avif-psnr'):.0f} % fewer than `avif-psnr`"
    assert told in " ".join((ROOT / "docs/results.md").read_text(encoding="utf-8").split())


def test_the_guide_tells_where_the_second_layer_begins():
    """At quality 92, between the measured 90 and 93, of the worst and the best of 39 pictures."""
    tables = pd.concat(pd.read_csv(ROOT / f"data/results/codec-{name}.csv") for name in ("LIVE1", "bundled"))
    table = tables[tables["method"] == "integer-ae"].pivot(index="image", columns="setting", values="psnr")
    begins = table[90] + (table[93] - table[90]) * 2 / 3
    told = f"from quality 92 on ({begins.min():.0f} to {begins.max():.0f} dB, by picture)"
    assert told in (ROOT / "docs/guide.md").read_text(encoding="utf-8")


def test_what_is_shipped_is_the_last_step_of_its_recipe():
    assert "What the course ships is the last step of each plan" in cell("02_srcnn", "r8-recipes")
    for name in zoo.available().index:
        about = zoo.card(name)
        assert about["steps"] == about["validation"][-1]["step"] == about["recipe"]["plan"]["steps"]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_what_is_checked_for_some_steps_alone_is_checked_for_those_of_the_settings(path):
    sources = ["".join(each["source"]) for each in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    for source in sources:
        for name, steps in re.findall(r"\b([A-Z]+_STEPS) != (\d+)", source):
            assert any(re.search(rf"^{name} = {steps}\b", each, re.MULTILINE) for each in sources), (name, steps)


def test_notebook_3_tells_where_the_integers_of_a_file_cannot_be_read_off_its_pixels():
    drawn = {"np": np, "torch": torch, "Image": Image, "images": images}
    exec(cell("03_jpeg_restorer", "text"), drawn)
    page = images.quantize(images.rgb_to_ycbcr(drawn["text"], studio=False)[:1])
    data = degradations.jpeg_bytes(page, 10)
    table = torch.tensor(Image.open(io.BytesIO(data)).quantization[0])

    def integers(picture):
        blocks = images.split_tiles(255 * picture - 128, 8)[:, 0]
        return (torch.einsum("kyx,nyx->nk", degradations.dct_patterns(8), blocks) / table).round()

    wrong = integers(page) != integers(images.to_float(degradations.decode(data)))
    assert "on the page of 3.9 at quality 10, in a tenth of the blocks" in cell("03_jpeg_restorer", "r12b-always")
    assert 0.09 < wrong.any(dim=1).float().mean() < 0.13


def test_notebook_3_tells_how_often_low_qualities_are_drawn(monkeypatch):
    drawn = []
    monkeypatch.setattr(degradations, "_shifted_jpeg", lambda pixels, quality, *_: drawn.append(quality) or pixels)
    draw = degradations.RandomJPEG(twice=0, untouched=0)
    draw(torch.zeros(4000, 3, 1, 1, dtype=torch.uint8), np.random.default_rng(0))
    assert "any quality from 5 to 95 (half of them below 35)" in cell("03_jpeg_restorer", "r6-jpeg")
    assert min(drawn) == 5 and max(drawn) == 95 and np.median(drawn) == pytest.approx(35, abs=2)


def test_notebook_3_tells_that_one_comb_may_be_chance():
    """Of black letters on white, which were never a JPEG."""

    def combs(size: int, step: int, repeat: int = 1) -> list[bool]:
        page = Image.new("L", (384, 384), 255)
        for y in range(0, 384, step):
            words = "The quick brown fox jumps over the lazy dog 0123456789"
            ImageDraw.Draw(page).text((4, y), words, fill=0, font=ImageFont.load_default(size))
        page = images.to_float(images.from_pillow(page.point(lambda value: 255 * (value > 127))))
        page = page.repeat_interleave(repeat, 1).repeat_interleave(repeat, 2)
        found = [step > 1 for step in degradations.jpeg_steps(page).values()]
        assert degradations.without_jpeg_grid(page) == (sum(found) < 3)
        return found

    assert sum(combs(10, 14)) == 1 and sum(combs(8, 12)) == 2 and combs(10, 14, 2) == [True] * 10
    said = cell("03_jpeg_restorer", "r11a")
    assert "Letters can have one or two by chance, so `restore` asks for three" in said
    assert "enlarged by repeating pixels, they have ten" in said


def test_notebook_3_tells_what_the_colour_of_a_small_file_consists_of():
    tables = []
    for name in ("coffee", "chelsea", "flower"):
        picture = images.load(datasets.bundled(name))
        luma = images.rgb_to_ycbcr(picture, studio=False)[:1]
        luma, whole = (degradations.jpeg_bytes(x, 10).index(b"\xff\xda") for x in (luma, picture))
        tables.append(whole - luma)
    assert "its tables, about 130 bytes, are part of it" in cell("03_jpeg_restorer", "r2")
    assert tables == pytest.approx([130] * 3, abs=8)

    cup = images.load(datasets.bundled("coffee"))
    table = torch.tensor(Image.open(io.BytesIO(degradations.jpeg_bytes(cup, 10))).quantization[1]).view(8, 8)
    chroma = torch.nn.functional.avg_pool2d(images.rgb_to_ycbcr(cup, studio=False)[1:], 2)
    blocks = (255 * images.crop_to_multiple(chroma, 8) - 128).unfold(1, 8, 8).unfold(2, 8, 8)  # (2, 25, 37, 8, 8)
    integers = torch.einsum("kyx,cijyx->cijk", degradations.dct_patterns(8), blocks) / table.flatten()
    left = integers.round().ne(0).sum(dim=-1)
    assert (left <= 1).float().mean() > 0.8
    rim = left[:, 6:14, 9:16]  # what the notebook shows
    assert 2 <= rim.flatten(1).amax(dim=1).min() and rim.max() <= 4


def test_notebook_5_tells_how_far_the_strengths_were_searched():
    """A best strength is inside of those tried, or hardly better than its neighbour."""
    table = pd.read_csv(ROOT / "data/experiments/plug-and-play.csv").query("pictures == 'validation'")
    table = table[table["setting"].notna() & (table["method"] != "restorer")]
    table[["first", "last"]] = [json.loads(setting) for setting in table["setting"]]
    for _, rows in table.groupby(["rows", "ratio", "method"]):
        found = rows.pivot_table(index="first", columns="last", values="psnr")
        first, last = rows.loc[rows["psnr"].idxmax(), ["first", "last"]]
        for along, best in ((found[last], first), (found.loc[first], last)):
            place = list(along.index).index(best)
            if place in (0, len(along) - 1):
                assert along[best] - along.iloc[1 if place == 0 else -2] < 0.105
    assert table.groupby("method")["setting"].nunique().to_dict() == {
        "JPEG": 42,
        "JPEG, restorer": 12,
        "total variation": 20,
    }
    assert "the best of 12 to 42 choices" in cell("05_rescsnet_dwssim", "pnp-fair")
    assert "there the neighbours differ by 0.1 dB at most" in cell("05_rescsnet_dwssim", "pnp-why")


def test_ssim_hardly_counts_a_little_contrast():
    """Notebook 2, 2.6: of the three held-out photographs."""
    for name in ("chelsea", "coffee", "flower"):
        picture = images.quantize(images.luma(images.load(datasets.bundled(name))))
        mean = picture.mean()
        stronger = images.quantize((mean + 1.04 * (picture - mean)).clamp(0, 1))
        assert 0.0005 < 1 - metrics.ssim(stronger, picture) < 0.002


def test_a_codec_of_bits_comes_as_near_as_told():
    """Notebook 4, 4.9: `binary-ae` beside `integer-ae` and AVIF on two photographs, and their steps of training."""
    table = pd.read_csv(ROOT / "data/results/codec-bundled.csv")
    table = table[table["image"].isin(["chelsea.png", "flower.png"])]
    bits, integers, avif = (
        comparison.curve(table[table["method"] == name]) for name in ("binary-ae", "integer-ae", "avif")
    )
    assert 0.3 < bits[-1][0] < 0.36
    for rate in (0.08, 0.1, 0.15, 0.2, 0.25, 0.3):
        assert 0.1 <= round(metrics.at_rate(integers, rate) - metrics.at_rate(bits, rate), 1) <= 0.2
        assert metrics.at_rate(bits, rate) > metrics.at_rate(avif, rate)
    steps = {name: recipes.find(name).plan.steps for name in ("binary-ae-first", "binary-ae", "integer-ae")}
    assert 2 * (steps["binary-ae-first"] + steps["binary-ae"]) == steps["integer-ae"]


def test_most_of_live1_has_the_sizes_of_kodak(course_data):
    """Kodak has 18 of 768×512 and six of 512×768, here 480×720. (`monarch` has the size, and is not Kodak's.)"""
    sizes = [Image.open(path).size for path in images.listing(course_data / "test" / "LIVE1") if path.stem != "monarch"]
    assert len(sizes) + 1 == 29
    assert (sizes.count((768, 512)), sizes.count((480, 720))) == (13, 6)
