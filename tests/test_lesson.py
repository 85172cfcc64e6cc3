"""What notebooks show: figures, the plain functions behind knobs and sliders, quizzes that give nothing away."""

import io
import json
import re
from pathlib import Path

import ipywidgets
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from builders import photograph
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers import datasets, images, metrics
from helpers.lesson import plots, quizzes, widgets

matplotlib.use("Agg")
ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = {int(path.stem[:2]): path for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}


def shown_pixels(axis) -> np.ndarray:
    return np.asarray(axis.images[0].get_array())


def test_show_is_a_png_with_alt_text_and_closes_the_figure(monkeypatch):
    seen = []
    monkeypatch.setattr(plots, "display", seen.append)
    plots.show(plt.figure(figsize=(3, 2)), "a line")
    assert seen[0]._repr_mimebundle_()[1]["image/png"]["alt"] == "a line"  # as a notebook stores it
    assert Image.open(io.BytesIO(seen[0].data)).format == "PNG" and not plt.get_fignums()


def test_compare_puts_the_psnr_into_the_title_and_shows_all_on_one_scale(figures):
    clean = photograph()
    noisy, beyond = (clean + 0.1).clamp(0, 1), torch.full((1, 8, 8), 1.7)
    shown = {"clean": clean, "noisy": noisy, "small": clean[:, :9], "beyond": beyond, "gray": clean[:1]}
    plots.compare(shown, "five pictures", reference=clean, border=2, columns=4)
    ((figure, alt),) = figures
    axes = [axis for axis in figure.axes if axis.images]
    expected = metrics.psnr(*(images.quantize(t)[:, 2:-2, 2:-2] for t in (noisy, clean)))
    titles = [axis.get_title() for axis in axes]
    assert alt == "five pictures" and titles == ["clean", f"noisy\n{expected:.2f} dB in RGB", "small", "beyond", "gray"]
    assert {axis.images[0].get_clim() for axis in axes} == {(0, 1)} and shown_pixels(axes[3]).max() == 1.0


def test_no_row_of_a_picture_is_lost_where_a_panel_has_fewer_pixels():
    rows = torch.arange(320) % 2  # black and white by turns
    figure, axis = plt.subplots(figsize=(3, 3), dpi=100)
    plots.draw(axis, rows[None, :, None].expand(1, 320, 320).float())
    figure.canvas.draw()
    column = np.asarray(figure.canvas.buffer_rgba())[:, 150, 0][60:240]
    plt.close(figure)
    assert np.abs(np.diff(column.astype(int))).max() < 200  # gray everywhere, not two rows of one colour


def test_compare_zooms_into_the_marked_square(figures):
    x = photograph()
    for whole in (True, False):
        plots.compare({"a": x, "b": 1 - x}, "with a zoom", reference=x, zoom=(5, 7, 6), whole=whole)
        axes = figures[-1][0].axes
        assert axes[1].get_title().endswith(" dB in RGB" if whole else " dB in RGB of the whole")
        assert len(axes) == (4 if whole else 2)
        assert np.allclose(shown_pixels(axes[-2]), x[:, 5:11, 7:13].movedim(0, -1))
    (under, square), nothing = (figure.axes[0].patches for figure, _ in figures)
    assert not nothing and under.get_bbox().bounds == square.get_bbox().bounds
    assert (square.get_x(), square.get_y(), square.get_width()) == (6.5, 4.5, 6)


def test_curves_have_labels_and_levels(figures):
    plots.curves({"a": ([1, 2, 3], [1, 4, 9])}, "step", "loss", "a curve", levels={"bicubic": 5}, logarithmic="y")
    (axis,) = figures[0][0].axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("step", "loss")
    assert (axis.get_xscale(), axis.get_yscale()) == ("linear", "log")
    assert [list(line.get_ydata()) for line in axis.lines] == [[1, 4, 9], [5, 5]]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "bicubic"]


def test_filters_share_one_symmetric_scale(figures):
    plots.filters({"before": torch.full((64, 1, 9, 9), 0.1), "after": torch.full((64, 1, 9, 9), -0.5)}, "filters")
    first, second, *_ = figures[0][0].axes
    assert first.images[0].get_clim() == second.images[0].get_clim() == (-0.5, 0.5)
    assert first.images[0].get_array().shape == (8 * 11, 8 * 11)


def test_a_diagram_has_the_sizes_of_its_tensors_and_the_layers_of_its_modules(figures):
    down, up = torch.nn.Conv2d(1, 12, 3, stride=2, padding=1), torch.nn.ConvTranspose2d(12, 1, 2, stride=2)
    x = torch.rand(1, 1, 8, 12)
    steps = [("", x), ((down, "ReLU"), down(x)), (up, up(down(x)))]
    plots.diagram(steps, "A small network.", skips=[(0, 2, "+ bicubic")])
    ((figure, alt),) = figures
    told = [text.get_text() for text in figure.axes[0].texts]
    assert alt == "A small network."
    assert [text for text in told if " × " in text] == ["1 × 8 × 12", "12 × 4 × 6", "1 × 8 × 12"]
    assert {"conv 3×3\nstride 2\n1 → 12\nReLU", "transposed\nconv 2×2\nstride 2\n12 → 1", "+ bicubic"} <= set(told)
    bars = figure.axes[0].patches
    assert bars[1].get_height() < bars[0].get_height() and bars[1].get_width() > bars[0].get_width()


def test_a_loop_has_its_boxes_and_arrows_to_later_ones_above_and_back_below(figures):
    plots.loop(["batch", "network", "step"], ["x", "g"], "A loop.", beside=[(0, 2, "target"), (2, 1, "weights")])
    ((figure, alt),) = figures
    heights = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts if text.get_text()}
    assert alt == "A loop." and list(heights) == ["batch", "network", "step", "x", "g", "target", "weights"]
    assert heights["target"] > heights["x"] > heights["network"] == 0 > heights["weights"]


def test_maps_of_a_layer_are_those_that_vary_most_on_one_scale(figures):
    strong = torch.tensor([1.0, 5, 0, 2, 3, 4, 6, 7, 8]).view(1, 9, 1, 1)
    maps = strong * torch.rand(1, 9, 20, 30, generator=torch.Generator().manual_seed(0))
    plots.feature_maps({"first": maps, "second": -maps[:, :2]}, "maps", part=(0.5, 1, 0, 0.5), channels=3)
    figure, _ = figures[0]
    axes = [axis for axis in figure.axes if axis.images]
    assert len(axes) == 5 and np.allclose(shown_pixels(axes[0]), maps[0, 8, 10:, :15])
    (low, high), other, *_ = (axis.images[0].get_clim() for axis in axes)
    assert low == -high and other == (low, high) and 7 < high < 8
    least = axes[3].images[0].get_clim()[0]
    assert [part._suptitle.get_text() for part in figure.subfigs] == [
        f"first: 3 of 9 channels, from 0 to {high:.2g}",  # behind a ReLU nothing is negative
        f"second: 2 of 2 channels, from −{-least:.2g} to {-least:.2g}",
    ]


def test_a_chart_has_a_palette_and_a_photograph_all_its_colours():
    figure, axis = plt.subplots(figsize=(3, 2))
    axis.plot([1, 2], color="#D55E00")
    figure.canvas.draw()
    chart = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    plt.close(figure)
    photo = images.to_pillow(images.load(datasets.bundled("flower")))
    pictures = (chart, chart.convert("L").convert("RGB"), photo)
    assert [plots.smallest(picture).mode for picture in pictures] == ["P", "L", "RGB"]
    near = np.abs(np.asarray(plots.smallest(chart).convert("RGB"), int) - np.asarray(chart, int))
    assert near.mean() < 0.5


# ----------------------------------------------------------------------------- knobs, sliders, pictures of one's own


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, and what `interact` was given: the function, and the sliders by their names."""
    seen, knobs = [], {}
    for module in (widgets, widgets.plots):
        monkeypatch.setattr(module, "display", lambda *what: seen.extend(what))
    monkeypatch.setattr(ipywidgets, "interact", lambda function, **given: knobs.update(given, function=function))
    return seen, knobs


def displayed(picture) -> torch.Tensor:
    return images.from_pillow(Image.open(io.BytesIO(picture.data)))


def once(picture: torch.Tensor) -> torch.Tensor:
    """A picture of 40 pixels, each shown 15 times in a row, under a slider of 600."""
    assert picture.shape[-1] == 600
    return picture[:, ::15, ::15]


@given(st.floats(0, 1), st.integers(1, 40), st.sampled_from((1, 3)))
def test_split_view_has_before_left_and_after_right_of_a_line(position, width, channels):
    before = torch.zeros(1, 3, width)
    view = widgets.split_view(before, torch.ones(channels, 3, width), position)
    column = round(position * width)
    assert view.dtype == torch.uint8 and view.shape == (3, 3, width) and not before.any()
    assert (view[..., : max(0, column - 1)] == 0).all() and (view[..., column + 1 :] == 255).all()
    assert view[:, 1, min(column, width - 1)].tolist() == list(widgets.HANDLE)


def test_uploaded_reads_ipywidgets_7_and_8():
    seven = {"cat.png": {"metadata": {"name": "cat.png"}, "content": b"bytes"}}
    eight = ({"name": "cat.png", "content": memoryview(b"bytes")},)
    assert widgets.uploaded(seven) == widgets.uploaded(eight) == b"bytes"


@pytest.mark.parametrize("channels", [1, 3])
def test_show_displays_a_png_with_alt_text(shown, channels):
    """A small one with its pixels repeated as often as they fit, a large one in the width that is asked for."""
    for width in (99, 10, None):
        widgets.show(photograph(12, 14, channels), "a cat", width)
    large, small, plain = shown[0]
    assert {picture._repr_mimebundle_()[1]["image/png"]["alt"] for picture in shown[0]} == {"a cat"}
    assert (large.width, small.width, plain.width) == (None, 10, None)
    for picture, times in ((large, 7), (small, 1), (plain, 1)):
        pixels = images.to_uint8(photograph(12, 14, channels))
        wanted = pixels.repeat_interleave(times, -1).repeat_interleave(times, -2)
        assert torch.equal(displayed(picture), wanted)


def test_own_picture_takes_a_path_or_an_upload_and_says_what_is_wrong(shown, tmp_path):
    seen, knobs = shown
    given, one, two = [], *(images.save(tmp_path / f"{n}.png", photograph(seed=n)) for n in (1, 2))
    widgets.own_picture(lambda picture: (given.append(picture) or picture, 1 - picture), str(one))
    path, upload = seen[0].children
    path.value = str(two)
    path.value = "nowhere.png"
    for files in (({"content": one.read_bytes()},), ()):  # what the browser sends, and one that is cleared
        upload.notify_change({"name": "value", "new": files, "old": (), "owner": upload, "type": "change"})
    assert [torch.equal(picture, photograph(seed=n)) for picture, n in zip(given, (1, 2, 1), strict=True)] == [True] * 3
    assert (knobs["border"].min, knobs["border"].max, knobs["border"].value) == (0, 1, 0.5)
    knobs["function"](0.2)
    assert torch.equal(once(displayed(seen[-1])), widgets.split_view(given[-1], 1 - given[-1], 0.2))


@pytest.mark.parametrize(
    ("options", "slider"),
    [({}, (0, 100, 30, 5, "quality")), ({"setting": "ratio", "values": (1, 25, 10)}, (1, 25, 10, 1, "ratio"))],
)
def test_own_codec_has_a_slider_for_its_setting_and_says_the_size(tmp_path, shown, capsys, options, slider):
    (seen, knobs), photo = shown, photograph(seed=1)
    example = images.save(tmp_path / "example.png", photo)
    widgets.own_codec(lambda picture, value: (1 - picture, f"{value} bytes"), str(example), **options)
    knob = knobs["value"]
    assert (knob.min, knob.max, knob.value, knob.step, knob.description) == slider
    knobs["function"](17)
    assert "17 bytes" in seen[-1].metadata["alt"] and "17 bytes" in capsys.readouterr().out
    assert torch.equal(once(displayed(seen[-1])), widgets.split_view(photo, 1 - photo))


# ----------------------------------------------------------------------------------------------------------- quizzes


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_a_quiz_is_whole_names_sections_that_exist_and_is_shown_by_its_notebook(number):
    """As many choices as the file has marks, so that none was lost to a slip of form."""
    quiz, source = quizzes.read(number), (ROOT / f"data/quizzes/{number}.md").read_text(encoding="utf-8")
    replies = [why for choices in quiz.values() for _, _, why in choices]
    assert 3 <= len(quiz) <= 5 and len(replies) == source.count("- [")
    for question, choices in quiz.items():
        assert len(choices) >= 3 and [right for _, right, _ in choices].count(True) == 1, question
        assert len({why for _, _, why in choices}) == len(choices), question
    assert min(map(len, replies)) > 30
    book = NOTEBOOKS[number].read_text(encoding="utf-8")
    named = re.findall(r"\d\.\d+", " ".join(re.findall(r"\(([\d., ]+)\)", " ".join(replies))))
    assert named and set(named) <= set(re.findall(r'"## (\d\.\d+) ', book))
    sources = ["".join(cell["source"]) for cell in json.loads(book)["cells"]]
    shown = [source for source in sources if "quizzes.show(" in source]
    assert shown == [f"from helpers.lesson import quizzes\n\nquizzes.show({number})"]


def test_neither_place_nor_length_gives_the_answer_away():
    asked = [choices for number in NOTEBOOKS for choices in quizzes.read(number).values()]
    places = [[right for _, right, _ in choices].index(True) for choices in asked]
    longest = [max(choices, key=lambda c: len(c[0]))[1] for choices in asked]
    assert all(places.count(place) >= len(asked) // 6 for place in range(3)) and sum(longest) <= 0.6 * len(asked)


def test_choices_unfold_and_text_is_no_markup(tmp_path, monkeypatch):
    (tmp_path / "quizzes").mkdir()
    text = "# 7\n\n## Is 1 < 2 in `a < b`?\n\n- [x] *Yes* & so on\n  Because.\n- [ ] No\n  But.\n"
    (tmp_path / "quizzes/7.md").write_text(text)
    bundles = []
    monkeypatch.setattr(quizzes, "DATA", tmp_path)
    monkeypatch.setattr(quizzes, "display", lambda bundle, raw: bundles.append(bundle))
    quizzes.show(7)
    assert "Is 1 &lt; 2 in <code>a &lt; b</code>?" in bundles[0]["text/html"]
    assert "<details><summary><em>Yes</em> &amp; so on</summary>Right. Because.</details>" in bundles[0]["text/html"]
    assert "   - No\n     No. But." in bundles[0]["text/plain"]
