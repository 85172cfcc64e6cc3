"""The command line, `restoration COMMAND` or `python -m helpers COMMAND`; with `--help` it lists the commands.

Each command is a function: its docstring is its help, and its options stand above it. At the top this imports the
standard library alone: `check` must run where packages are missing or broken.
"""

from __future__ import annotations  # so that a Python too old for `str | None` hears of it from `check`

import argparse
import errno
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path

from . import __version__
from .service.errors import CourseError, require
from .service.files import atomic, expanded, refusal

COMMANDS: dict[str, tuple[Callable, tuple]] = {}  # by name: the function and its options
# what torch says on a CPU and on Apple's GPUs, CUDA's libraries, oneDNN, and the system (ENOMEM)
NO_MEMORY = re.compile(r"out of memory|allocate memory|_ALLOC_FAILED|not enough memory", re.IGNORECASE)
MOST_PATCHES = 1 << 16  # in a step; a slip of the finger should not fill the memory


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Exit code 0; 2 for bad input, a line for each on stderr; 1 where `check` found a fault."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a sign that it cannot write, as of a file's name, costs no command
            stream.reconfigure(errors="backslashreplace")
    options, unknown = parser().parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who reads what we print has read enough, as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as why:
        _tell(why)
        return 2


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, as all else here."""

    def error(self, message: str):
        """Leave with exit code 2."""
        self.exit(2, f"error: {message} ({self.prog} --help says more)\n")


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    called = "restoration" if Path(sys.argv[0]).stem == "restoration" else "python -m helpers"
    top = Parser(prog=called, description="Tools of the course on image restoration.")
    top.add_argument("--version", action="version", version=f"{__package__} {__version__}")
    top.set_defaults(run=lambda options: top.print_help(), parser=top)
    places = top.add_subparsers(metavar="COMMAND")
    for name, (run, options) in COMMANDS.items():
        place = places.add_parser(name, help=run.__doc__, description=run.__doc__)
        place.set_defaults(run=run, parser=place)
        for one in options:
            group = place.add_mutually_exclusive_group() if isinstance(one, list) else place
            for names, about in one if isinstance(one, list) else [one]:
                group.add_argument(*names, **about)
    return top


def command(*options: tuple | list[tuple]) -> Callable:
    """Enter the function below into the table of commands. Of the options in a list, only one may be given."""

    def enter(run: Callable) -> Callable:
        COMMANDS[run.__name__] = run, options
        return run

    return enter


def option(*names: str, **about) -> tuple:
    """One option, as `add_argument` of argparse takes it."""
    return names, about


def whole(least: int, most: int = 10**12) -> Callable[[str], int]:
    """A whole number within limits."""

    def parse(text: str) -> int:
        if not (text.isdecimal() and len(text) <= 20 and least <= int(text) <= most):
            limits = f"from {least} to {most}" if most < 10**12 else f"of {least} or more"
            raise argparse.ArgumentTypeError(f"{text[:30]!r} where a whole number {limits} is wanted")
        return int(text)

    return parse


def above_zero(text: str) -> float:
    """A number above 0, and no infinity."""
    with suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"{text[:30]!r} where a number above 0 is wanted")


def several(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    found = tuple(name.strip() for name in text.split(","))
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text[:30]!r} has an empty name; put one comma between two names")
    return found


def some_path(text: str) -> Path:
    """The path of a file or folder. An empty name would be the folder that one is in."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name where a file or folder is wanted")
    return Path(text)


QUIET = option("--quiet", action="store_true", help="no progress bar")
RESTORED = ("sr-x2", "sr-x3", "sr-x4", "deblock-q20", "jpeg")
DEVICE = option("--device", help="cpu, cuda, cuda:1, mps; by default the best there is")
WITH_QUALITY = (".jpg", ".jpeg", ".webp")
NOT_PIXELS = {"exif": "EXIF data", "icc_profile": "colour profile"}
UNKNOWN_TO = {".bmp": NOT_PIXELS, ".webp": {"dpi": "resolution"}}
FILES = (
    option("input", type=some_path, metavar="IN", help="the file to read"),
    option("output", type=some_path, metavar="OUT", help="the file to write"),
)
OVERWRITE = option("--overwrite", action="store_true", help="replace a file that is there")
MODEL = option("--model", help="a network's name, or the card of your own; by default the course's, or what IN names")


@command(option("--start", action="store_true", help="start torch and every module, too: finds what is broken"))
def check(options: argparse.Namespace) -> int:
    """Is this machine ready? Versions, device, memory, and remedies."""
    from .service import environment

    course = environment.Finding(True, "course", f"{__version__}, on {sys.platform}")
    findings = [course, *environment.check(options.start)]
    print(*findings, sep="\n")
    return 0 if all(finding.ok for finding in findings) else 1


@command()
def networks(_: argparse.Namespace) -> None:
    """List the trained networks that come with the course."""
    from . import zoo

    print(zoo.available().to_string())


@command(
    option("name", nargs="?", help="a set, or standard (all that tables need), training; none: list them"),
    option("--list", action="store_true", help="list the sets with their size and licence"),
    option("--out", type=some_path, metavar="DIR", help="folder of image sets instead of COURSE_DATA"),
    QUIET,
)
def download(options: argparse.Namespace) -> None:
    """Get image sets by name; after a break, call it again."""
    from . import images
    from .service import downloads

    entries, get = downloads.catalog(), options.name and not options.list
    for name in downloads.names(options.name) if options.name else entries:
        entry = entries[name]
        there = len(downloads.present(name, options.out)) == len(entry["folders"])
        groups = f"  [{', '.join(entry['groups'])}]" if entry["groups"] else ""
        print(f"{name:<16} {entry['megabytes']:>5} MB  {entry['licence']}{groups}{' (is there)' if there else ''}")
        if get and not there:  # before the first byte
            print(f"  from {entry['page']} · please cite: {entry['citation']}", flush=True)
        for folder in downloads.download(name, options.out, not options.quiet) if get else ():
            print(f"  {folder}: {len(images.listing(folder))} pictures")


@command(
    option("recipes", nargs="*", metavar="RECIPE", help="one after another; without a name, all are listed"),
    option("--minutes", type=whole(1), help="then save the run under way, and begin no other"),
    [
        option("--steps", type=whole(1), help="train so many steps instead of the recipe's"),
        option("--epochs", type=whole(1), help="the same in epochs: one patch of each picture is an epoch"),
    ],
    [
        option("--batch", type=whole(1, MOST_PATCHES), help="patches per step of each process"),
        option("--global-batch", type=whole(1, MOST_PATCHES), help="patches per step of all processes together"),
    ],
    option("--patch", type=whole(1, 30_000), help="side of the patches in input pixels"),
    option("--quality", metavar="Q or LOW-HIGH", help="JPEG quality, for recipes that code their patches"),
    option("--tiles", action="store_true", help="cut the pictures into tiles once, not a patch anywhere"),
    option("--lr", type=float, dest="learning_rate", metavar="LR", help="learning rate instead of the recipe's"),
    option("--seed", type=whole(0, 2**63 - 1), help="seed instead of the recipe's"),
    option("--ratio", type=float, help="measurements per pixel, for the recipes of the original ResCSNet"),
    option("--start", metavar="CARD", help="begin with these weights: a network, its card, a .safetensors"),
    option("--sets", type=several, help="train on these sets or folders, separated by commas ('bundled')"),
    [
        option("--resume", action="store_true", help="go on from the last checkpoint in OUT"),
        option("--overwrite", action="store_true", help="begin anew, and clear away the run that is in OUT"),
    ],
    option("--out", type=some_path, help="folder of the run (runs/RECIPE); of several recipes, that of all runs"),
    DEVICE,
    QUIET,
)
def train(options: argparse.Namespace) -> int:
    """Train networks by their recipes; Ctrl-C or a file OUT/stop saves and ends."""
    from . import recipes
    from .service import devices

    if not options.recipes:
        for recipe in recipes.RECIPES.values():
            print(f"{recipe.name:<18} {recipe.task:<12} {recipe.plan.steps:>7} steps  {recipe.origin}")
        return 0
    options.deadline = time.monotonic() + 60 * options.minutes if options.minutes else math.inf
    runs, alone, code = _runs(options), devices.world() == 1, 0
    queued = len(runs) > 1
    for place, (recipe, out, source) in enumerate(runs, start=1):
        try:
            if options.resume and alone and queued and recipes.finished(recipe, out):
                print(f"{recipe.name}: finished before, in {out}")
                continue
            steps = _train_one(recipe, out, source, options)
        except Exception as why:
            _tell(why, f"{recipe.name}: " if queued else "")
            code = 2
            continue  # the others may do better
        left = ", ".join(run[0].name for run in runs[place:])
        if left and (steps < recipe.plan.steps or (alone and time.monotonic() >= options.deadline)):
            print(f"not begun: {left}; go on with --resume")
            break
    return code


def _runs(options: argparse.Namespace) -> list[tuple]:
    """Recipe, folder and what to begin with of each training; what cannot end well is said before any work."""
    from . import datasets, recipes, training, zoo
    from .service import devices

    fields = ("steps", "epochs", "learning_rate", "seed", "patch", "quality", "tiles", "sets", "ratio")
    changes = {name: getattr(options, name) for name in fields} | {"batch": options.batch or options.global_batch}
    devices.check_device(options.device)
    names, runs = list(dict.fromkeys(options.recipes)), []
    folder = options.out if options.out and len(names) > 1 else Path("runs")
    for place, name in enumerate(names):
        recipe = recipes.changed(recipes.find(name), **changes)
        for each in filter(None, (*recipe.sets, recipe.validation)):
            datasets.folder(each)
        out = options.out if options.out and len(names) == 1 else folder / name
        source, later = options.start or recipe.start_from, False
        if not options.start and source in recipes.RECIPES and not zoo.has(source):  # a stretch that is not shipped
            stretch, source = source, folder / source / f"{source}.json"
            later = stretch in names[:place]
            how = f"train {stretch} {name}, or give its card by --start"
            require(later or source.is_file(), f"{name} begins with {stretch}, which is not shipped: {how}.")
            about = {} if later else zoo.card(source)
            ended = about.get("steps") == about.get("recipe", {}).get("plan", {}).get("steps")
            require(ended, f"{source}: not trained to its end: train {stretch} {name} --resume.")
        if source and not later:
            zoo.weights(source)
        if not options.resume and not options.overwrite:
            training.check_folder(out)
        runs.append((recipe, out, source))
    return runs


def _train_one(recipe, out: Path, source: str | Path | None, options: argparse.Namespace) -> int:
    """Train a recipe, write its weights and card, and say so; returns how many steps are done."""
    from . import recipes, zoo
    from .service import devices

    processes = devices.world()
    if processes > 1 and not devices.rank():
        total, rate = options.global_batch or recipe.batch * processes, recipe.plan.learning_rate
        print(f"{processes} processes, {total} patches per step, learning rate {rate:g}", flush=True)
    how = {name: getattr(options, name) for name in ("resume", "overwrite", "device", "deadline")}
    how |= {"share": options.global_batch is not None, "progress": not options.quiet}
    if source:  # the first process reads it: other machines may have no such file
        devices.join_processes(devices.pick_device(options.device))
        how["start"] = devices.from_first(None if devices.rank() else zoo.weights(source))
    model, log, facts = recipes.run(recipe, out, **how)
    done, count = log[-1], facts["pictures"]["held_out"]
    if not devices.rank():
        about = {"steps": done["step"], "seconds": done["seconds"], "validation": [done]}
        card = recipes.write(recipe, model, out, **about, **facts)
        if done["step"] < recipe.plan.steps:
            print(f"stopped at step {done['step']} of {recipe.plan.steps}; the same command with --resume goes on")
        psnr = f"PSNR {done['psnr']:.2f} dB on {count} held-out picture{'s' * (count > 1)}"
        print(f"{card.with_suffix('.safetensors')} · {psnr}", flush=True)
    return done["step"]


@command(
    option("folder", type=some_path, metavar="RUN", help="the OUT of a finished `train`"),
    option("--half", action="store_true", help="store, and measure, the weights in half precision: half the bytes"),
    option("--overwrite", action="store_true", help="replace a network of that name"),
)
def publish(options: argparse.Namespace) -> None:
    """Measure a finished run and put its weights and card into the zoo."""
    from .publishing import publish

    print(publish.publish(options.folder, options.half, options.overwrite))


@command(
    option("task", metavar="TASK", help="sr-x2 to sr-x4, deblock-q20, jpeg-q10, jpeg-color-q10, …, cs-10, …, codec"),
    option("--images", required=True, help="a folder, or a set by its name ('bundled', 'Set5')"),
    option("--methods", type=several, help="names, cards, file.py:function, … (by default all; with --results, none)"),
    option("--results", type=several, default=(), metavar="DIR,…", help="folders of pictures that others restored"),
    option("--unrounded", action="store_true", help="super-resolution also by BasicSR's protocol: Y not rounded"),
    option("--out", type=some_path, metavar="FILE.csv", help="write a row per picture and method"),
    option("--panels", type=some_path, metavar="DIR", help="write input | restored | original for each row"),
    OVERWRITE,
    DEVICE,
    QUIET,
)
def evaluate(options: argparse.Namespace) -> int:
    """Measure methods on pictures by the protocols of the literature."""
    from . import comparison, datasets, evaluation
    from .service import devices

    if options.out:
        _check_output(options.out, overwrite=options.overwrite, ends=(".csv",))
    if options.unrounded and not options.task.startswith("sr"):
        raise CourseError("--unrounded is for super-resolution alone; leave it out.")
    device, files = devices.check_device(options.device), datasets.folder(options.images)
    methods = options.methods or (() if options.results else evaluation.methods_here(options.task))
    folders = {_name(folder): Path(folder) for folder in options.results}
    if len(folders) < len(options.results) or not folders.keys().isdisjoint(methods):
        raise CourseError("two methods would have one name, that of their folder; rename a folder of results.")
    how = {"dataset": _name(options.images), "progress": not options.quiet, "panels": options.panels}
    how |= {"device": device, "unrounded": options.unrounded}
    table, failures = evaluation.evaluate(options.task, files, dict.fromkeys(methods) | folders, **how)
    for line in failures:
        print(f"skipped: {line}", file=sys.stderr)
    if len(table):
        if options.out:
            with atomic(options.out) as temporary:  # a file's name may be any bytes
                table.to_csv(temporary, index=False, errors="surrogateescape")
        found = comparison.summary(table)
        print(found.to_string())
        if found.filter(like="psnr at").isna().any(axis=None):
            asked = ", ".join(map(str, evaluation.OWN_SETTINGS))
            print("NaN: no file is as small, or none as large. A codec of your own is asked for the settings", end=" ")
            print(f"{asked}: let its encode() spread them wider.")
        for place, what in ((options.out, "a row"), (options.panels, "a picture")):
            if place:
                print(f"{place}: {what} for each of {len(table)} measurements")
    _warn_of_lacking(table, "compare on the same pictures alone")
    return 2 if failures else 0


def _warn_of_lacking(table, why: str) -> None:
    """Name each method that has some pictures of a set, and not all that another has."""
    for (task, dataset), part in table.groupby(["task", "dataset"], sort=False):
        every, counts = part["image"].nunique(), part.groupby("method")["image"].nunique()
        for method, count in counts[counts < every].items():
            print(f"warning: {method} has {count} of {every} pictures of {dataset}, {task}; {why}.", file=sys.stderr)


@command(
    option("tables", nargs="+", type=some_path, metavar="FILE.csv", help="what `evaluate --out` wrote, one or more"),
    option("--score", default="psnr", help="the column to rank by (psnr)"),
    option("--figure", type=some_path, metavar="FILE", help="draw it, too: .png, .svg or .pdf"),
)
def rank(options: argparse.Namespace) -> None:
    """Rank methods by paired differences; those that do not differ for sure share a rank."""
    from . import comparison

    if options.score not in comparison.SCORES:
        raise CourseError(f"--score {options.score}: rank by one of {', '.join(comparison.SCORES)}.")
    if options.figure:
        _check_output(options.figure, ends=(".png", ".svg", ".pdf"))
    table = comparison.joined(expanded(options.tables), options.score)
    _warn_of_lacking(table, "only those that all methods have count")
    ranked = comparison.ranks(table, options.score)
    print(ranked.to_string())
    print("low, high: where the mean difference to the first lies with 95 % for this pair; too narrow for few pictures")
    print("rank: of all pairs at once; wins: on how many pictures it is better")
    for names, part in ranked.groupby(level=["task", "dataset"], sort=False):
        count, least = part["pictures"].iloc[0], comparison.least_pictures(len(part))
        if count < least and len(part) > 1:
            said = f"{count} pictures cannot tell {len(part)} methods apart, so all share a rank; it takes {least}"
            print(f"{', '.join(names)}: {said}.")
    if options.figure:
        comparison.draw_ranks(ranked, options.figure)
        print(f"{options.figure}: the same, drawn")


def _name(folder: str) -> str:
    """What a set or a folder is called in a table; "." is called as its folder is."""
    return Path(os.path.abspath(folder)).name


def numbers(text: str) -> tuple[Decimal, ...]:
    """Numbers separated by commas, which keep their digits."""
    if not re.fullmatch(r"(\d+\.?\d*|\.\d+)(,(\d+\.?\d*|\.\d+))*", text.replace(" ", "")):
        raise argparse.ArgumentTypeError(f"{text[:30]!r} where numbers with commas are wanted, such as 28.43,26.0")
    return tuple(map(Decimal, text.replace(" ", "").split(",")))


@command(
    option("task", metavar="TASK", help="sr-x2, sr-x3, sr-x4, jpeg-q10, jpeg-color-q10, …"),
    option("--sets", required=True, type=several, help="sets or folders, with commas; 'bundled'"),
    option("--psnr", required=True, type=numbers, help="all digits printed for bicubic, or the JPEG, on each of them"),
    option("--ssim", type=numbers, help="the SSIM beside it"),
    option("--also", type=numbers, metavar="PSNR", help="a method's figure on the first set: what would it be here?"),
)
def detect(options: argparse.Namespace) -> None:
    """Say which protocol gave a published baseline, bicubic or the JPEG."""
    from . import datasets, detective

    ssims = options.ssim or (None,) * len(options.sets)
    if not len(options.sets) == len(options.psnr) == len(ssims):
        raise CourseError("--sets, --psnr and --ssim go together: give as many of one as of the others.")
    require(max(options.ssim or (0,)) <= 1, "--ssim: an SSIM is at most 1; 81.03 percent is 0.8103.")
    given = zip(options.sets, options.psnr, ssims, strict=True)
    claims = [detective.Claim(_name(name), datasets.folder(name), *scores) for name, *scores in given]
    if len({claim.dataset for claim in claims}) < len(claims):
        raise CourseError("two sets would have one name, that of their folder; rename one.")
    found = detective.detect(options.task, claims)
    print(found.head(max(8, len(detective.likely(found)))).round(3).to_string(index=False))
    print(detective.verdict(found))
    rows = detective.likely(found)[list(detective.Protocol._fields)].drop_duplicates().head(2)
    for psnr in options.also or ():
        for place, theirs in enumerate(rows.itertuples(index=False), start=1):
            here, how = detective.convert(options.task, claims[0].files, float(psnr), detective.Protocol(*theirs))
            print(f"{psnr:.2f} dB by candidate {place} is about {here:.2f} dB by this course's protocol: {how}.")


@command(
    option("tasks", nargs="*", metavar="TASK", help="by default all; 'costs' is the table of costs"),
    option("--out", type=some_path, metavar="DIR", help="folder of the tables instead of data/results"),
    option("--spot-check", action="store_true", help="keep a table of which one picture scores as before"),
)
def benchmark(options: argparse.Namespace) -> None:
    """Measure all tables of data/results that are not up to date."""
    from .publishing import benchmark

    out, count = options.out or benchmark.RESULTS, 0
    for task, name, method, seconds in benchmark.run(options.tasks, out, options.spot_check):
        told = "skipped: the set is not in COURSE_DATA" if seconds is None else f"{method:<20} {seconds:6.1f} s"
        print(f"{task:<14} {name:<11} {told}", flush=True)
        count += seconds is not None
    print(f"{out}: {count} measured, the others up to date")


@command(
    option("input", type=some_path, metavar="IN", help="the picture, or a folder of pictures"),
    option("output", type=some_path, metavar="OUT", help="the file to write, or of a folder the folder"),
    option("--task", required=True, help="sr-x2, sr-x3, sr-x4, deblock-q20, or jpeg (of any quality)"),
    option("--tile", type=whole(16), help="side of the tiles in output pixels, 16 or more (512 or 1024)"),
    option("--half", action="store_true", help="half precision: faster, single pixels off by up to 9 gray levels"),
    option("--ensemble", action="store_true", help="the mean over eight orientations: better, eight times as long"),
    option("--quality", type=whole(1, 100), metavar="Q", help="of a .jpg or .webp file, 1 to 100 (95)"),
    option("--bits", type=int, choices=(8, 16), default=8, help="of the output (8); 16: a .tif, or a gray .png"),
    option("--strip", action="store_true", help="leave out EXIF data and resolution"),
    [option("--resume", action="store_true", help="leave out pictures that are in OUT already"), OVERWRITE],
    MODEL,
    DEVICE,
    QUIET,
)
def restore(options: argparse.Namespace) -> int:
    """Restore a picture of any size, or all pictures of a folder and of the folders in it."""
    from tqdm.auto import tqdm

    from . import degradations, images, zoo
    from .service import devices

    if options.task.startswith(("codec", "cs")):
        degradations.for_task(options.task)  # which says what to do instead
    if options.task not in RESTORED and not options.task.startswith("jpeg-"):
        raise CourseError(f"--task {options.task}: name one of {', '.join(RESTORED)}.")
    degradations.scale_of(options.task)
    options.input.stat()  # raises where there is none
    folder = options.input.is_dir()
    if not folder and options.resume and options.output.is_file() and not options.output.samefile(options.input):
        print(f"{options.output}: there before")
        return 0
    pairs, there = _pairs(options) if folder else ([(options.input, options.output)], 0)
    name = options.model or next(iter(zoo.for_task(options.task)), "")
    require(name, f"there is no network for {options.task} yet.")
    name = name.removesuffix("+") + "+" if options.ensemble else name
    model = zoo.load_for(name, options.task).to(devices.check_device(options.device))
    counts = {"restored": 0, "unchanged": 0, "there before": there, "failed": 0}
    less: dict[str, list[Path]] = {}  # what was left out, and of which files
    for given, output in tqdm(pairs, unit="picture", disable=options.quiet or not folder or None):
        try:
            if folder and options.resume and output.is_file():  # made by a second process meanwhile
                counts["there before"] += 1
                continue
            if folder:
                output.parent.mkdir(parents=True, exist_ok=True)
            quality = None if folder and output.suffix.lower() not in WITH_QUALITY else options.quality
            made, unchanged, lost = _restore_one(model, given, output, quality, options)
            counts["unchanged" if unchanged else "restored"] += 1
            for what in lost:
                less.setdefault(what, []).append(given)
            if not folder:
                by = "" if unchanged else f"by {name}"
                print(f"{output}: {made}{by}{'; left out: ' * bool(lost)}{', '.join(lost)}")
        except Exception as why:  # of a folder, the others are restored all the same
            _tell(why)
            counts["failed"] += 1
    if folder:
        found = [path for path in options.input.rglob("[!.]*") if path.is_file() or path.is_symlink()]
        others = [path for path in found if path.suffix.lower() not in images.SUFFIXES or not path.is_file()]
        kinds = sorted({path.suffix.lower() if path.is_file() and path.suffix else path.name for path in others})
        said = counts | {f"without {what}, such as {paths[0].name}": len(paths) for what, paths in less.items()}
        said[f"passed over ({', '.join(kinds[:5])}{', …' * (len(kinds) > 5)})"] = len(others)
        print(f"{options.output}: {', '.join(f'{count} {what}' for what, count in said.items() if count)}")
    return 2 if counts["failed"] else 0


def _restore_one(model, given: Path, output: Path, quality: int | None, options: argparse.Namespace) -> tuple:
    """Restore a picture into a file: what is to be said of it, whether nothing has changed, and a list of what is lost.

    Alpha is enlarged as a gray picture, by the same network. The colours are those that come nearest to the restored
    picture on white when they are laid on white with it: so an edge takes no colour from pixels that nobody saw.
    """
    import torch

    from . import images

    _check_output(output, given, options.overwrite)
    pixels, alpha, lost = images.load_uint8(given, True), images.load_alpha(given), images.left_out(given)
    height, width = (model.scale * side for side in pixels.shape[-2:])
    images.check_writable(output, (width, height), quality, options.bits, len(pixels))
    about, short = images.attributes(given, options.strip), options.bits == 8
    lost += [what for key, what in UNKNOWN_TO.get(output.suffix.lower(), {}).items() if about.pop(key, None)]
    if short and pixels.dtype == torch.uint16:
        lost.append("16 bits, which --bits 16 keeps")
    if not short and len(pixels) == 3 and "exif" in about:
        lost.append("EXIF data")
    if alpha is not None and not (short and output.suffix.lower() in images.WITH_ALPHA):
        alpha = None
        lost.append("transparency, laid on white")
    exact = short and alpha is None and pixels.dtype == torch.uint8
    picture = pixels if exact else images.to_float(pixels)
    how = {"tile": options.tile or 0, "half": options.half, "progress": not options.quiet}
    restored = model.restore(picture, **how)
    unchanged = torch.equal(restored, picture)
    if alpha is not None:
        alpha = images.to_float(alpha)
        alpha = model.restore(alpha, **how) if model.scale > 1 else alpha
        restored = images.off_white(restored, alpha)
    whole_file = short or pixels.dtype == torch.uint16  # a copy has all that was asked for
    copied = unchanged and whole_file and not (quality or options.strip or any("more picture" in what for what in lost))
    copied = copied and given.suffix.lower() == output.suffix.lower()
    if copied:
        lost.clear()
        with atomic(output) as temporary:
            shutil.copyfile(given, temporary)
    else:
        images.save(output, restored, quality, alpha, options.bits, **about)
    done = "coded again" if not copied and output.suffix.lower() in WITH_QUALITY else "nothing changed"
    said = f"{done}: no trace of JPEG was found to mend" if unchanged else ""
    return f"{width}x{height} pixels, {said}", unchanged, lost


def _pairs(options: argparse.Namespace) -> tuple[list[tuple[Path, Path]], int]:
    """Each picture of the folder IN with its place in OUT, but with --resume those that are there; and their number."""
    from . import images

    inside = options.input.resolve()
    require(not options.output.is_file(), f"{options.output}: that is a file; name a folder elsewhere.")
    files = images.listing(options.input, deep=True)
    pairs = [(path, options.output / path.relative_to(options.input)) for path in files]
    if within := next((output for _, output in pairs if inside in output.resolve().parents), None):
        raise CourseError(f"{within}: that is in {options.input}; name a folder elsewhere.")
    left = [pair for pair in pairs if not (options.resume and pair[1].is_file())]
    if not options.overwrite and (old := next((output for _, output in left if os.path.isfile(output)), None)):
        raise CourseError(f"{old}: that is there already; leave such pictures out by --resume, or give --overwrite.")
    return left, len(pairs) - len(left)


@command(
    *FILES,
    [
        option("--rate", type=above_zero, metavar="R", help="bits per pixel that the file may take, such as 0.3"),
        option("--psnr", type=above_zero, metavar="P", help="the decibels that it must have when read, such as 32"),
        option("--quality", type=float, default=50, metavar="Q", help="from 0, the smallest files, to 100 (50)"),
    ],
    option("--minutes", type=float, metavar="M", help="of training for --model fitted (3; for large pictures more)"),
    option("--model", help="a codec by its name, or its card; or fitted, trained on this picture; it takes --quality"),
    OVERWRITE,
    QUIET,
)
def compress(options: argparse.Namespace) -> None:
    """Write a picture as a .bic file, with a learned codec."""
    from . import codec, images, metrics

    picture, model = _input(options, ".bic"), options.model or codec.DEFAULT
    how = {"psnr": options.psnr, "minutes": options.minutes, "progress": not options.quiet}
    data = codec.compress(picture, model, options.rate, options.quality, **how)
    header = codec.read_header(data)
    about = ", the most that it can use" if options.rate and header.dial == codec.load(str(model)).last else ""
    if options.psnr is not None or header.model == codec.FITTED:  # a short training ends anywhere
        about = f", {metrics.psnr(codec.decompress(data), images.quantize(images.to_float(picture))):.1f} dB"
    _keep(options, data, picture, f"by {header.model}{about}")


@command(*FILES, OVERWRITE, MODEL, QUIET)
def decompress(options: argparse.Namespace) -> None:
    """Read a .bic file back into a picture."""
    from . import codec

    header = _read_back(options, codec.MAX_BYTES, codec.read_header, codec.decompress_uint8)
    print(f"{options.output}: {header.width}x{header.height} pixels, by {header.model}")


@command(
    *FILES,
    option("--ratio", type=float, default=0.1, metavar="R", help="measurements per pixel, up to 0.25 (0.1)"),
    option("--bits", type=whole(2, 16), default=8, metavar="B", help="of each measurement, 2 to 16 (8)"),
    OVERWRITE,
    MODEL,
)
def sense(options: argparse.Namespace) -> None:
    """Write a picture's compressed measurements, those of its luma, as an .npz file."""
    from . import sensing

    picture = _input(options, ".npz")
    data = sensing.sense(picture, options.ratio, options.bits, options.model or sensing.DEFAULT)
    _keep(options, data, picture, "its luma alone" if len(picture) == 3 else "gray")


@command(*FILES, OVERWRITE, MODEL, QUIET)
def recover(options: argparse.Namespace) -> None:
    """Make the picture of a file of measurements."""
    from . import sensing

    about = _read_back(options, sensing.MAX_BYTES, lambda data: sensing.read(data)[0], sensing.recover)
    print(f"{options.output}: {about.width}x{about.height} pixels, ratio {about.ratio:g}, {about.bits} bits")


# ------------------------------------------------------------------------------------- files and errors


def _check_output(path: Path, given: Path | None = None, overwrite: bool = True, ends: tuple[str, ...] = ()) -> None:
    """Raise CourseError, before any work is done, where no file can be written to `path`, or none without --overwrite.

    The input itself is never replaced. `ends`: what the name may end in.
    """
    if given:
        given.stat()  # raises where there is none: that is said before anything of the output
    why = refusal(path)
    if not why and ends and path.suffix.lower() not in ends:
        why = f"end the name in {' or '.join(ends)}, so that it is known for what it is"
    elif not why and given and os.path.exists(path) and path.samefile(given):
        why = "that is the input itself; name another output"
    elif not why and not overwrite and os.path.lexists(path):
        why = "that is there already; name another output, or replace it by --overwrite"
    require(not why, f"{path}: {why}.")


def _input(options: argparse.Namespace, suffix: str):
    """The picture to be written as a file that ends so."""
    from . import images

    _check_output(options.output, options.input, options.overwrite, (suffix,))
    return images.load_uint8(options.input)


def _keep(options: argparse.Namespace, data: bytes, picture, more: str) -> None:
    """Write a file whole or not at all, and say its size, and what of the picture is not in it."""
    from . import images

    lost = images.left_out(options.input)
    lost += ["transparency, laid on white"] * (images.load_alpha(options.input) is not None)
    lost += ["16 bits"] * (images.load_uint8(options.input, True).dtype != picture.dtype)
    about = images.attributes(options.input)
    lost += [what for key, what in (NOT_PIXELS | {"dpi": "resolution"}).items() if key in about]
    with atomic(options.output) as temporary:
        temporary.write_bytes(data)
    size = f"{len(data):,} bytes, {8 * len(data) / picture[0].numel():.3f} bits per pixel"
    print(f"{options.output}: {size}, {more}" + f"; left out: {', '.join(lost)}" * bool(lost))


def _read_back(options: argparse.Namespace, most: int, read: Callable, make: Callable):
    """Write the picture that a file of at most so many bytes holds; returns what the file says of itself."""
    from . import images

    _check_output(options.output, options.input, options.overwrite)
    with open(options.input, "rb") as file:
        data = file.read(most + 1)
    images.check_writable(options.output)
    with _named(options.input):
        about = read(data)
    images.check_writable(options.output, (about.width, about.height))
    with _named(options.input):
        picture = make(data, options.model, progress=not options.quiet)
    images.save(options.output, picture)
    return about


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Head what is wrong with a file by its name."""
    try:
        yield
    except CourseError as why:
        raise CourseError(f"{path}: {why}") from None


def _tell(why: Exception, of: str = "") -> None:
    """Print one sentence on what a user can mend: our own errors, disk, memory. A bug is raised again."""
    said = " ".join(str(why).split())
    if isinstance(why, MemoryError) or (isinstance(why, (RuntimeError, OSError)) and NO_MEMORY.search(said)):
        said = "the memory is full; close other programs, or ask for less at a time: a smaller picture, `restore` with "
        said += "a smaller --tile, `train` with a smaller --batch or --patch, --device cpu for a GPU."
    elif isinstance(why, ModuleNotFoundError) and not str(why.name).startswith(__package__):
        said = f"this Python has no {why.name}; run make setup, then source .venv/bin/activate."
    elif isinstance(why, OSError) and why.errno == errno.ENOSPC:
        said = f"the disk is full while writing {why.filename or 'a file'}; free some space and try again."
    elif isinstance(why, OSError) and why.errno:
        said = f"{why.filename or 'a file'}: {why.strerror.lower()}; name another file or place."
    elif not isinstance(why, (CourseError, OSError)):
        raise why
    print(f"error: {of}{said}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
