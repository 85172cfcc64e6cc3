"""Every option of every command, run on parts of bundled pictures with the shipped networks."""

import argparse
import shlex

import pytest
from test_command_line import run

from helpers import __main__ as command
from helpers import datasets, evaluation, images, zoo

# In this order, in one folder: what one writes, a later one reads.
RUNS = """
check --start
networks
download --list
download BSDS500 --out sets --quiet
train srcnn-915-x3 --sets bundled --steps 1 --batch 2 --device cpu --quiet --out run
train srcnn-915-x3 --sets bundled --steps 2 --batch 2 --device cpu --quiet --out run --resume
train srcnn-915-x3 --sets bundled --epochs 1 --global-batch 2 --quiet --out run --overwrite
train srcnn-915-x3 --sets few --steps 1 --batch 2 --patch 18 --lr 1e-4 --seed 7 --start srcnn-955-x3 --out new
train jpeg-blind-first --sets few --steps 1 --batch 1 --quiet --out blind --tiles --patch 48 --quality 10
train rescsnet --sets few --steps 1 --batch 2 --quiet --out sensor --ratio 0.01
train rescsnet-dw-ssim --sets few --steps 1 --batch 2 --quiet --out second --ratio 0.01 --start sensor/rescsnet.json
train srcnn-915-x3 fsrcnn-x3 --sets few --steps 1 --batch 2 --quiet --out several --minutes 5
publish run --overwrite
publish run --half --overwrite
evaluate sr-x3 --images few --methods bicubic,srcnn-915-x3 --out t.csv --panels panels
evaluate sr-x3 --images few --methods run/srcnn-915-x3.json --device cpu --quiet
evaluate sr-x2 --images few --methods bicubic --results few --unrounded --out own.csv --overwrite
rank t.csv own.csv --score ssim --figure rank.png
detect sr-x2 --sets few --psnr 30 --ssim 0.9 --also 31
benchmark deblock-q20 --out tables
benchmark deblock-q20 --out tables --spot-check
restore few/coffee.png out.jpg --task sr-x2 --model edsr-x2 --tile 64 --half --quality 90 --device cpu --quiet
restore few/coffee.png out.tif --task sr-x2 --model fsrcnn-x2 --bits 16 --quiet
restore few large --task sr-x2 --model fsrcnn-x2 --ensemble --strip --resume --quiet
restore few large --task sr-x2 --model fsrcnn-x2 --overwrite --quiet
compress few/coffee.png out.bic --rate 0.5 --quiet
compress few/coffee.png out.bic --psnr 20 --overwrite
compress few/coffee.png out.bic --quality 20 --model fitted --minutes 0.01 --overwrite
compress few/coffee.png out.bic --quality 20 --model binary-ae --overwrite
decompress out.bic back.png --model weights/binary-ae.json --quiet
decompress out.bic back.png --overwrite --quiet
sense few/coffee.png out.npz --ratio 0.2 --bits 6 --model rescsnet-any --overwrite
recover out.npz recovered.png --model weights/rescsnet-any.json --quiet
recover out.npz recovered.png --overwrite --quiet
""".strip().splitlines()


def test_each_option_is_run():
    """A new one without a run above fails here."""
    [commands] = [action for action in command.parser()._actions if isinstance(action, argparse._SubParsersAction)]
    for name, parser in commands.choices.items():
        words = {word for line in RUNS if line.split()[0] == name for word in line.split()}
        assert {name, *parser._option_string_actions} - {"-h", "--help"} == {w for w in words if w[:2] == "--"} | {name}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with parts of two pictures, which are all sets and the bundled pictures, and a zoo to write to."""
    for name, side in (("coffee", 128), ("camera", 120)):
        part = images.load_uint8(datasets.bundled(name))[..., 100 : 100 + side, 100 : 100 + side]
        (tmp_path / "few").mkdir(exist_ok=True)
        images.save(tmp_path / "few" / f"{name}.png", part)
    (tmp_path / "sets" / "test").mkdir(parents=True)
    sets = {name for names in evaluation.TEST_SETS.values() for name in names}
    for name in (*sets, "BSDS500", "BSDS300_train", "BSDS500_test"):
        (tmp_path / "sets" / "test" / name).symlink_to(tmp_path / "few")
    (tmp_path / "images").symlink_to(tmp_path / "few")
    (tmp_path / "weights").mkdir()
    for path in zoo.WEIGHTS.iterdir():
        (tmp_path / "weights" / path.name).symlink_to(path)
    monkeypatch.setattr(datasets, "DATA", tmp_path)
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "sets"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_every_option_works(place, capsys):
    for line in RUNS:
        code = run(*shlex.split(line))
        said = capsys.readouterr()
        assert code == 0, f"{line}: {said.err or said.out}"
        assert "Traceback" not in said.err, line
    made = {path.name for path in place.iterdir()}
    assert {"run", "t.csv", "panels", "tables", "out.jpg", "out.bic", "back.png", "out.npz", "recovered.png"} <= made
    assert len(list((place / "panels").iterdir())) == 4
