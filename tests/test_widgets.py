"""What a learner moves, tested by the plain functions behind it: knobs, sliders, pictures of one's own."""

import io

import ipywidgets
import pytest
import torch
from builders import photograph
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers import images
from helpers.lesson import widgets


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
    widgets.show(photograph(12, 14, channels), "a cat", width=99)
    ((picture,), _) = shown
    assert picture._repr_mimebundle_()[1]["image/png"]["alt"] == "a cat" and picture.width == 99
    assert torch.equal(displayed(picture), images.to_uint8(photograph(12, 14, channels)))


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
    assert torch.equal(displayed(seen[-1]), widgets.split_view(given[-1], 1 - given[-1], 0.2))


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
    assert torch.equal(displayed(seen[-1]), widgets.split_view(photo, 1 - photo))
