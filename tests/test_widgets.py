import io

import ipywidgets
import pytest
import torch
from builders import photograph
from PIL import Image

from helpers import images
from helpers.lesson import widgets


@pytest.fixture
def shown(monkeypatch):
    seen = []
    for module in (widgets, widgets.plots):
        monkeypatch.setattr(module, "display", lambda *what: seen.extend(what))
    return seen


def test_split_view_has_before_left_and_after_right():
    view = widgets.split_view(torch.zeros(1, 10, 100), torch.ones(3, 10, 100), 0.3)
    assert view.dtype == torch.uint8
    assert view.shape == (3, 10, 100)
    assert (view[..., :29] == 0).all()
    assert (view[..., 31:] == 255).all()
    assert view[:, 5, 30].tolist() == list(widgets.HANDLE)


@pytest.mark.parametrize(("position", "value"), [(0.0, 255), (1.0, 0)])
def test_split_view_at_its_ends_shows_one_picture(position, value):
    view = widgets.split_view(torch.zeros(1, 10, 100), torch.ones(1, 10, 100), position)
    assert view.shape == (3, 10, 100)
    assert (view == value).all(0).sum() >= 10 * 98  # but for the line


@pytest.mark.parametrize("position", [0.0, 0.5, 1.0])
def test_split_view_of_one_pixel(position):
    assert widgets.split_view(torch.zeros(1, 1, 1), torch.ones(1, 1, 1), position).shape == (3, 1, 1)


def test_split_view_takes_uint8_and_leaves_its_input():
    before = images.to_uint8(photograph())
    copy = before.clone()
    widgets.split_view(before, photograph(), 1.0)
    assert torch.equal(before, copy)


def test_split_view_wants_one_size():
    with pytest.raises(ValueError, match="differ in size"):
        widgets.split_view(torch.zeros(1, 4, 4), torch.zeros(1, 8, 8))


def test_uploaded_reads_ipywidgets_7_and_8():
    seven = {"cat.png": {"metadata": {"name": "cat.png"}, "content": b"bytes"}}
    eight = ({"name": "cat.png", "content": memoryview(b"bytes")},)
    assert widgets.uploaded(seven) == widgets.uploaded(eight) == b"bytes"


@pytest.mark.parametrize("channels", [1, 3])
def test_show_displays_a_png_with_alt_text(shown, channels):
    widgets.show(photograph(12, 14, channels), "a cat", width=99)
    (picture,) = shown
    assert picture._repr_mimebundle_()[1]["image/png"]["alt"] == "a cat"
    assert picture.width == 99
    assert Image.open(io.BytesIO(picture.data)).size == (14, 12)


def test_before_after_makes_a_slider(monkeypatch):
    made = {}
    monkeypatch.setattr(ipywidgets, "interact", lambda function, **controls: made.update(controls, function=function))
    monkeypatch.setattr(widgets, "show", lambda picture, alt, width: made.update(picture=picture, alt=alt))
    widgets.before_after(torch.zeros(1, 8, 8), torch.ones(1, 8, 8), alt="two")
    made["function"](0.25)
    assert (made["border"].min, made["border"].max) == (0, 1)
    assert made["alt"] == "two"
    assert torch.equal(made["picture"], widgets.split_view(torch.zeros(1, 8, 8), torch.ones(1, 8, 8), 0.25))


@pytest.fixture
def own(tmp_path, shown, monkeypatch):
    """The path field, the upload button, and what was restored, of a widget whose example is one saved picture."""
    given = []
    monkeypatch.setattr(widgets, "before_after", lambda before, after: given.append(after))
    example = images.save(tmp_path / "example.png", photograph(seed=1))
    widgets.own_picture(lambda picture: (picture, picture), str(example))
    path, upload = shown[0].children
    return path, upload, given


def test_own_picture_shows_the_example_and_then_the_typed_path(own, tmp_path):
    path, _, given = own
    assert torch.equal(given[0], photograph(seed=1))
    path.value = str(images.save(tmp_path / "mine.png", photograph(seed=2)))
    assert torch.equal(given[1], photograph(seed=2))


def test_own_picture_takes_an_upload(own, tmp_path):
    """What the browser sends: bytes, not a path."""
    _, upload, given = own
    content = images.save(tmp_path / "mine.png", photograph(seed=3)).read_bytes()
    file = {"name": "mine.png", "type": "image/png", "size": len(content), "content": content,
            "last_modified": None}  # fmt: skip
    upload.notify_change({"name": "value", "new": (file,), "old": (), "owner": upload, "type": "change"})
    assert torch.equal(given[-1], photograph(seed=3))


def test_own_picture_says_what_is_wrong_with_a_path(own, capsys):
    path, _, given = own
    path.value = "nowhere.png"
    assert len(given) == 1


def test_own_picture_survives_an_upload_that_was_cleared(own):
    _, upload, given = own
    upload.notify_change({"name": "value", "new": (), "old": (), "owner": upload, "type": "change"})
    assert len(given) == 1


def test_own_codec_has_a_slider_for_the_quality_and_says_the_size(tmp_path, shown, monkeypatch, capsys):
    made, seen = {}, []
    monkeypatch.setattr(ipywidgets, "interact", lambda function, **controls: made.update(controls, function=function))
    monkeypatch.setattr(widgets, "show", lambda picture, alt, width: seen.append((picture, alt)))
    example = images.save(tmp_path / "example.png", photograph(seed=1))
    widgets.own_codec(lambda picture, quality: (1 - picture, f"{quality} bytes"), str(example))
    assert (made["value"].min, made["value"].max, made["value"].description) == (0, 100, "quality")
    made["function"](70)
    picture, alt = seen[-1]
    assert "70 bytes" in alt and "70 bytes" in capsys.readouterr().out
    assert torch.equal(picture, widgets.split_view(photograph(seed=1), 1 - photograph(seed=1)))


def test_own_codec_s_slider_may_be_another_setting(tmp_path, shown, monkeypatch):
    made = {}
    monkeypatch.setattr(ipywidgets, "interact", lambda function, **controls: made.update(controls))
    example = images.save(tmp_path / "example.png", photograph(seed=1))
    widgets.own_codec(lambda picture, _: (picture, ""), str(example), setting="ratio in %", values=(1, 25, 10))
    slider = made["value"]
    assert (slider.min, slider.max, slider.value, slider.step, slider.description) == (1, 25, 10, 1, "ratio in %")
