"""What README and guides say: the tables are those of the measured results, and what can be typed is there."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import update_readme

from helpers import recipes, zoo
from helpers.__main__ import COMMANDS, parser

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS).replace("\\\n", " ")
QUESTIONS = "do I need|long|GPU|Colab|solutions|class|licence|cite|tell|new".split("|")  # what strangers ask, by a word


def test_the_tables_are_generated_from_the_measured_results():
    command = [sys.executable, "docs/tools/update_readme.py", "--check"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_what_the_table_calls_ours_is_ours():
    found = re.findall(r"\| `([\w-]+)`,[^|]+\|$", README.partition("<!-- results: begin -->")[2], re.MULTILINE)
    assert len(found) > 5 and set(found) <= {*zoo.available().index}


def row(task, method, dataset, psnr, psnr_b=None, parameters=8_129, image="a.png"):
    given = {"task": task, "method": method, "dataset": dataset, "image": image, "psnr": psnr, "ssim": psnr / 100}
    return given | {"psnr_b": psnr_b, "parameters": parameters}


def test_the_tables_have_families_and_published_rows():

    measured = [
        row("sr-x3", "best", "Set5", 33.0),
        row("sr-x3", "bicubic", "Set5", 30.0, parameters=0),
        row("sr-x3", "bicubic", "Set5", 31.0, parameters=0, image="b.png"),
        row("deblock-q20", "jpeg", "LIVE1", 30.0, parameters=0),
        row("jpeg-q20", "jpeg", "LIVE1", 30.0, psnr_b=28.0, parameters=0),
        row("jpeg-q20", "blind", "LIVE1", 31.0, psnr_b=30.5),
        row("jpeg-color-q10", "blind", "LIVE1", 27.0, psnr_b=26.5),
    ]
    published = [row("sr-x3", "VDSR", "Set5", 32.0), row("sr-x4", "VDSR", "Set5", 31.0)]
    text = update_readme.tables(pd.DataFrame(measured), pd.DataFrame(published).drop(columns="image"))
    assert [line for line in text.splitlines() if line.startswith(("## ", "PSNR", "| sr", "| jpeg"))] == [
        "## Super-resolution",
        "PSNR in dB / SSIM.",
        "| sr-x3 | bicubic | – | 30.50 / 0.3050 |",
        "| sr-x3 | *VDSR, published* | 8 K | 32.00 / 0.3200 |",
        "| sr-x3 | best | 8,129 | 33.00 / 0.3300 |",
        "## JPEG, luma",
        "PSNR in dB / SSIM / PSNR-B in dB.",
        "| jpeg-q20 | jpeg | – | 30.00 / 0.3000 / 28.00 |",
        "| jpeg-q20 | blind | 8,129 | 31.00 / 0.3100 / 30.50 |",
        "## JPEG, colour",
        "PSNR in dB / SSIM / PSNR-B in dB.",
        "| jpeg-color-q10 | blind | 8,129 | 27.00 / 0.2700 / 26.50 |",
    ]


@pytest.mark.parametrize("word", QUESTIONS)
def test_what_strangers_ask_is_answered_within_a_click(word):
    rows = re.findall(r"^\| ([^|]+\?) \| ([^|]+) \| (.+) \|$", README, re.MULTILINE)
    [(_, answer, more)] = [row for row in rows if re.search(rf"\b{word}\b", row[0])]
    assert len(answer) > 9 and re.search(r"\]\((?!http)[^)]+\)", more)


def test_it_stays_on_a_screen_and_a_half():
    lines = README.splitlines()
    assert len(lines) <= 100 and len(README.split()) <= 1100
    assert not [line for line in lines if len(line) > 100 and not line.startswith(("|", "!", ">"))]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)", TEXT, re.MULTILINE))))
def test_a_make_target_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("line", sorted(set(re.findall(r"^[^|`\n]*-m helpers ([^#`\n]+)", TEXT, re.MULTILINE))))
def test_a_command_can_be_typed(line):
    """Of those that stand in lines of their own: command, options and recipes are there."""
    options = parser().parse_args(line.split())
    assert set(getattr(options, "recipes", ())) <= set(recipes.RECIPES)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"(?:python -m helpers|restoration) ([a-z]+)", TEXT))))
def test_a_command_exists(name):
    assert name in COMMANDS
