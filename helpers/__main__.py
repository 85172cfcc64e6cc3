"""The command line, `python -m helpers COMMAND`; with `--help` it lists the commands.

At the top it imports the standard library alone: `check` must run where packages are missing or broken.
"""

from __future__ import annotations  # so that a Python too old for `str | None` hears of it from `check`

import argparse
import errno
import math
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .service.errors import CourseError
from .service.files import atomic, refusal

# what torch says on a CPU and on Apple's GPUs, CUDA's libraries, oneDNN, and the system (ENOMEM)
_NO_MEMORY = re.compile(r"can(no|')t allocate memory|out of memory|_ALLOC_FAILED|not enough memory", re.IGNORECASE)


_REFUSED = {  # what the system answers of a path: what to say
    errno.ENOENT: "no such file; check the name",
    errno.EISDIR: "that is a folder; name a file",
    errno.EEXIST: "there is a file of that name, where a folder is wanted; name another place",
    errno.ENOTDIR: "there is a file of that name, where a folder is wanted; name another place",
    errno.EACCES: "may not be read or written by you; change its permissions, or name another place",
    errno.EPERM: "may not be read or written by you; change its permissions, or name another place",
    errno.EROFS: "its disk can be read only; name a place on another disk",
    errno.ENAMETOOLONG: "the name is too long; take a shorter one",
    errno.ELOOP: "a link that leads back to itself; name the file that it stands for",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Exit code 0; 2 for bad input, a line for each on stderr; 1 where `check` found a fault."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as why:
        if str(why.name).startswith(__package__):
            raise
        how = "run make setup, then source .venv/bin/activate"
        print(f"error: this Python has no {why.name}; {how}.", file=sys.stderr)
        return 2
    except (ValueError, RuntimeError, OSError, MemoryError) as why:
        if not _expected(why):
            raise
        print(f"error: {_sentence(why)}", file=sys.stderr)
        return 2


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, as all else here."""

    def error(self, message: str):
        """Leave with exit code 2."""
        self.exit(2, f"error: {message} ({self.prog} --help says more)\n")


def parser() -> argparse.ArgumentParser:
    """All commands with their arguments."""
    top = Parser(prog="python -m helpers", description="Tools of the course on image restoration.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_setting_up, _add_training, _add_measuring, _add_restoring, _add_files):
        add(commands)
    return top


def _command(commands, run: Callable, text: str, *shared: tuple[str, dict]) -> argparse.ArgumentParser:
    """A command that is called as its function, with the options that it shares with others."""
    command = commands.add_parser(run.__name__.strip("_"), help=text)
    command.set_defaults(run=run)
    for name, about in shared:
        command.add_argument(name, **about)
    return command


MOST_PATCHES = 1 << 16  # in a step; a slip of the finger should not fill the memory
QUIET = ("--quiet", {"action": "store_true", "help": "no progress bar"})
DEVICE = ("--device", {"help": "cpu, cuda, cuda:1, mps; by default the best there is"})


def _add_setting_up(commands) -> None:
    """Commands that look at the machine and fetch what it lacks."""
    check = _command(commands, _check, "is this machine ready? versions, device, memory, and remedies")
    check.add_argument("--start", action="store_true", help="start torch and every module, too: finds what is broken")

    download = _command(commands, _download, "get image sets by name; after a break, call it again", QUIET)
    download.add_argument(
        "name", nargs="?", metavar="NAME", help="a set, or standard (all that tables need), training; none: list them"
    )
    download.add_argument("--list", action="store_true", help="list the sets with their size and licence")
    download.add_argument("--out", type=Path, metavar="DIR", help="folder of image sets instead of COURSE_DATA")


def _add_training(commands) -> None:
    """Commands that make weights."""
    train = _command(
        commands, _train, "train networks by their recipes; Ctrl-C or a file OUT/stop saves and ends", DEVICE, QUIET
    )
    train.add_argument("recipes", nargs="*", metavar="RECIPE", help="one after another; without a name, all are listed")
    train.add_argument("--minutes", type=_whole(1), help="then save the run under way, and begin no other")
    long = train.add_mutually_exclusive_group()
    long.add_argument("--steps", type=_whole(1), help="train so many steps instead of the recipe's")
    long.add_argument("--epochs", type=_whole(1), help="the same in epochs: one patch of each picture is an epoch")
    batch = train.add_mutually_exclusive_group()
    batch.add_argument(
        "--batch", type=_whole(1, MOST_PATCHES), help="patches per step of each process instead of the recipe's"
    )
    batch.add_argument(
        "--global-batch", type=_whole(1, MOST_PATCHES), help="patches per step of all processes, shared among them"
    )
    train.add_argument("--patch", type=_whole(1, 30_000), help="side of the patches in input pixels")
    train.add_argument("--quality", metavar="Q or LOW-HIGH", help="JPEG quality, for recipes that code their patches")
    train.add_argument("--tiles", action="store_true", help="cut the pictures into tiles once, not a patch anywhere")
    train.add_argument(
        "--lr", type=float, dest="learning_rate", metavar="LR", help="learning rate instead of the recipe's"
    )
    train.add_argument("--seed", type=int, help="seed instead of the recipe's")
    train.add_argument("--ratio", type=float, help="measurements per pixel, for the recipes of the original ResCSNet")
    train.add_argument("--start", metavar="CARD", help="begin with these weights: a network, its card, a .safetensors")
    train.add_argument("--sets", type=_names, help="train on these sets or folders, separated by commas ('bundled')")
    begin = train.add_mutually_exclusive_group()
    begin.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUT")
    begin.add_argument("--overwrite", action="store_true", help="begin anew, and clear away the run that is in OUT")
    train.add_argument("--out", type=Path, help="folder of the run (runs/RECIPE); of several recipes, that of all runs")

    publish = _command(commands, _publish, "measure a finished run and put its weights and card into the zoo")
    publish.add_argument("folder", type=Path, metavar="RUN", help="the OUT of a finished `train`")


def _add_measuring(commands) -> None:
    """Commands that write tables."""
    evaluate = _command(
        commands, _evaluate, "measure methods on pictures by the protocols of the literature", DEVICE, QUIET
    )
    evaluate.add_argument(
        "task",
        metavar="TASK",
        help="sr-x2 to sr-x4, deblock-q20, jpeg-q10, jpeg-color-q10, …, cs-01 to cs-25, codec, codec-gray",
    )
    evaluate.add_argument("--images", required=True, help="a folder, or a set by its name ('bundled', 'Set5')")
    evaluate.add_argument("--methods", type=_names, help="names separated by commas; by default all that the task has")
    evaluate.add_argument("--out", type=Path, metavar="FILE.csv", help="write a row per picture and method")
    evaluate.add_argument("--panels", type=Path, metavar="DIR", help="write input | restored | original for each row")
    evaluate.add_argument("--repeats", type=_whole(1), default=1, metavar="N", help="times to measure seconds (1)")

    benchmark = _command(commands, _benchmark, "measure all tables of data/results that are not up to date")
    benchmark.add_argument("tasks", nargs="*", metavar="TASK", help="by default all; 'costs' is the table of costs")
    benchmark.add_argument("--out", type=Path, metavar="DIR", help="folder of the tables instead of data/results")
    how = benchmark.add_mutually_exclusive_group()
    how.add_argument("--again", action="store_true", help="measure what is up to date, too")
    how.add_argument("--spot-check", action="store_true", help="keep a table of which one picture scores as before")


def _add_restoring(commands) -> None:
    """The command that mends a picture."""
    restore = _command(commands, _restore, "restore one picture of any size", DEVICE, QUIET)
    restore.add_argument("input", type=Path, metavar="IN")
    restore.add_argument("output", type=Path, metavar="OUT")
    restore.add_argument("--task", required=True, help="sr-x2, sr-x3, sr-x4, deblock-q20, or jpeg (of any quality)")
    restore.add_argument(
        "--model", help="a network by its name, or the path of a trained one; by default the task's best"
    )
    restore.add_argument(
        "--tile",
        type=_whole(16),
        help="side of the tiles in output pixels, 16 or more (512 or 1024)",
    )
    restore.add_argument(
        "--half", action="store_true", help="half precision: faster, single pixels off by up to 7 gray levels"
    )
    restore.add_argument("--quality", type=_whole(1, 100), metavar="Q", help="of a .jpg or .webp file, 1 to 100 (95)")


def _add_files(commands) -> None:
    """Commands that write files of their own kind, and read them back."""
    compress = _command(commands, _compress, "write a picture as a .bic file, with a learned codec", QUIET)
    compress.add_argument("input", type=Path, metavar="IN")
    compress.add_argument("output", type=_ending(".bic"), metavar="OUT.bic")
    size = compress.add_mutually_exclusive_group()
    size.add_argument("--rate", type=float, metavar="R", help="bits per pixel that the file may take, such as 0.3")
    size.add_argument("--quality", type=float, default=50, metavar="Q", help="from 0, the smallest files, to 100 (50)")
    compress.add_argument("--model", help="a codec by its name; by default the best")

    decompress = _command(commands, _decompress, "read a .bic file back into a picture", QUIET)
    decompress.add_argument("input", type=Path, metavar="IN.bic")
    decompress.add_argument("output", type=Path, metavar="OUT")
    decompress.add_argument("--model", help="the card of the codec that wrote it, where it is not one of the course's")

    sense = _command(commands, _sense, "write a picture's compressed measurements, those of its luma")
    sense.add_argument("input", type=Path, metavar="IN")
    sense.add_argument("output", type=_ending(".npz"), metavar="OUT.npz")
    sense.add_argument("--ratio", type=float, default=0.1, metavar="R", help="measurements per pixel, up to 0.25 (0.1)")
    sense.add_argument("--bits", type=int, default=8, metavar="B", help="of each measurement, 2 to 16 (8)")
    sense.add_argument("--model", help="a network by its name, or the path of its card; by default rescsnet-any")

    recover = _command(commands, _recover, "make the picture of a file of measurements", QUIET)
    recover.add_argument("input", type=Path, metavar="IN.npz")
    recover.add_argument("output", type=Path, metavar="OUT")
    recover.add_argument("--model", help="the card of the network that sensed it, where it is not one of the course's")


# ------------------------------------------------------------------------------------------- commands


def _check(options: argparse.Namespace) -> int:
    from .service import environment

    findings = environment.check(options.start)
    print(*findings, sep="\n")
    return 0 if all(finding.ok for finding in findings) else 1


def _download(options: argparse.Namespace) -> None:
    from . import images
    from .service import downloads

    entries = downloads.catalog()
    if options.list or options.name is None:
        for name, entry in entries.items():
            here = " (is there)" if len(downloads.present(name, options.out)) == len(entry["folders"]) else ""
            part_of = f"  [{', '.join(entry['groups'])}]" if entry["groups"] else ""
            print(f"{name:<16} {entry['megabytes']:>5} MB  {entry['licence']}{part_of}{here}")
        return
    for name in downloads.names(options.name):
        entry, before = entries[name], downloads.present(name, options.out)
        if len(before) < len(entry["folders"]):  # before the first byte
            print(f"{name}: {entry['megabytes']} MB from {entry['page']}")
            print(f"  licence: {entry['licence']} · please cite: {entry['citation']}")
        for folder in downloads.download(name, options.out, not options.quiet):
            there = ", already there" if folder in before.values() else ""
            print(f"{folder}: {len(images.listing(folder))} pictures{there}")


def _train(options: argparse.Namespace) -> int:
    from . import recipes
    from .service import devices

    if not options.recipes:
        for recipe in recipes.RECIPES.values():
            print(f"{recipe.name:<18} {recipe.task:<12} {recipe.plan.steps:>7} steps  {recipe.origin}")
        return 0
    deadline = time.monotonic() + 60 * options.minutes if options.minutes else math.inf
    runs, alone, failed = _runs(options), devices.world() == 1, False
    single = len(runs) == 1
    while runs:
        recipe, out, *start = runs.pop(0)
        if options.resume and alone and not single and recipes.finished(recipe, out):
            print(f"{recipe.name}: finished before, in {out}")
            continue
        try:
            steps = _train_one(recipe, out, *start, deadline, options)
        except Exception as why:
            if single or not _expected(why):
                raise
            print(f"error: {recipe.name}: {_sentence(why)}", file=sys.stderr)
            failed = True  # the others may do better
            continue
        if runs and (steps < recipe.plan.steps or (alone and time.monotonic() >= deadline)):
            print(f"not begun: {', '.join(run[0].name for run in runs)}; go on with --resume")
            break
    return 2 if failed else 0


def _runs(options: argparse.Namespace) -> list[tuple]:
    """Recipe, folder and beginning of each training; what cannot end well is said here, before any work."""
    from . import datasets, recipes, training
    from .service import devices

    names = ("steps", "epochs", "learning_rate", "seed", "patch", "quality", "tiles", "sets", "ratio")
    changes = {name: getattr(options, name) for name in names} | {"batch": options.batch or options.global_batch}
    queue = [recipes.find(name) for name in dict.fromkeys(options.recipes)]
    devices.check_device(options.device)
    runs = []
    for recipe in queue:
        start = _weights(options.start or recipe.start_from)
        try:
            recipe = recipes.changed(recipe, **changes)
            for name in recipe.sets:
                datasets.folder(name)
        except CourseError as why:
            hint = "" if options.sets else " To try the recipe with what is here: --sets bundled."
            raise CourseError(f"{why}{hint}") from None
        out = options.out if options.out and len(queue) == 1 else (options.out or Path("runs")) / recipe.name
        if not options.resume and not options.overwrite:
            training.check_folder(out)
        runs.append((recipe, out, *start))
    return runs


def _train_one(recipe, out: Path, start, started_from, deadline: float, options: argparse.Namespace) -> int:
    """Train a recipe, write its weights and card, and say so; returns how many steps are done."""
    from . import recipes
    from .service import devices

    processes = devices.world()
    if processes > 1 and not devices.rank():
        total, rate = options.global_batch or recipe.batch * processes, recipe.plan.learning_rate
        print(f"{processes} processes, {total} patches per step, learning rate {rate:g}", flush=True)
    how = {"start": start, "started_from": started_from, "share": options.global_batch is not None}
    how |= {"resume": options.resume, "overwrite": options.overwrite, "device": options.device, "deadline": deadline}
    model, log, facts = recipes.run(recipe, out, progress=not options.quiet, **how)
    done, count = log[-1], facts["pictures"]["held_out"]
    if devices.rank():
        return done["step"]
    card = recipes.write(recipe, model, out, steps=done["step"], seconds=done["seconds"], validation=[done], **facts)
    if done["step"] < recipe.plan.steps:
        print(f"stopped at step {done['step']} of {recipe.plan.steps}; go on with --resume --out {out}")
    psnr = f"PSNR {done['psnr']:.2f} dB on {count} held-out picture{'s' * (count > 1)}"
    print(f"{card.with_suffix('.safetensors')} · {psnr}", flush=True)
    return done["step"]


def _weights(name: str | None) -> tuple[dict | None, dict | None]:
    """The weights to begin with, and what the card says of them."""
    from . import recipes, zoo

    if name in recipes.RECIPES and not (zoo.WEIGHTS / f"{name}.json").exists():
        card = Path("runs", name, f"{name}.json")
        raise CourseError(f"{name} is not shipped; train it first, and name its card: --start {card}.")
    return zoo.weights(name) if name else (None, None)


def _evaluate(options: argparse.Namespace) -> int:
    from . import comparison, datasets, evaluation
    from .service import devices

    if options.out:
        _check_output(options.out)
    device = devices.check_device(options.device)
    files = datasets.folder(options.images)
    name = Path(options.images).name
    table, failures = evaluation.evaluate(
        options.task, files, options.methods, name, not options.quiet, options.panels, device, options.repeats
    )
    for line in failures:
        print(f"skipped: {line}", file=sys.stderr)
    if options.out and len(table):
        with atomic(options.out) as temporary:
            table.to_csv(temporary, index=False)
    if len(table):
        print(comparison.summary(table).to_string())
    return 2 if failures else 0


def _benchmark(options: argparse.Namespace) -> None:
    from . import evaluation
    from .publishing import benchmark

    for task in options.tasks:
        if task not in (*evaluation.TASKS, "costs"):
            raise CourseError(f"no table is called {task!r}; try {', '.join(evaluation.TASKS)}, costs.")
    out, count = options.out or benchmark.RESULTS, 0
    for task, name, method, seconds in benchmark.run(options.tasks, out, options.again, options.spot_check):
        if seconds is None:
            print(f"{task:<14} {name:<11} skipped: the set is not in COURSE_DATA", flush=True)
            continue
        count += 1
        print(f"{task:<14} {name:<11} {method:<20} {seconds:6.1f} s", flush=True)
    if "costs" in options.tasks or not (options.tasks or options.spot_check):  # seconds cannot be spot-checked
        count += benchmark.write_costs(out, options.again)
    print(f"{out}: {count} measured, the others up to date" if count else f"{out}: all up to date")


def _restore(options: argparse.Namespace) -> None:
    from . import degradations, images, zoo
    from .service import devices

    if options.task == "codec" or options.task.startswith("cs"):
        degradations.for_task(options.task)  # which says what to do instead
    scale = degradations.scale_of(options.task)  # what cannot end well is said before any work
    size = tuple(scale * side for side in images.stored_size(options.input))
    _check_output(options.output, options.input)
    images.check_size(options.output, *size)  # what is written can be read again
    images.check_writable(options.output, size, options.quality)
    device = devices.check_device(options.device)
    model = zoo.load_for(options.model, options.task)
    picture = images.load_uint8(options.input)
    restored = model.to(device).restore(picture, tile=options.tile or 0, progress=not options.quiet, half=options.half)
    images.save(options.output, restored, options.quality, icc_profile=images.colour_profile(options.input))
    size = f"{restored.shape[-1]}x{restored.shape[-2]}"
    if restored.shape == picture.shape and (restored == picture).all():
        print(f"{options.output}: {size} pixels, nothing changed: no trace of JPEG was found to mend")
    else:
        print(f"{options.output}: {size} pixels, by {options.model or zoo.for_task(options.task)[0]}")


def _compress(options: argparse.Namespace) -> None:
    from . import codec, images

    _check_output(options.output, options.input)
    picture = images.load_uint8(options.input)
    model = options.model or codec.DEFAULT
    data = codec.compress(picture, model, options.rate, options.quality, progress=not options.quiet)
    size = _written(options.output, data, picture[0].numel())
    header = codec.read_header(data)
    full = options.rate and header.dial == codec.DIAL  # a higher rate would give the same file
    print(f"{size}, by {header.model}{', the most that it can use' if full else ''}")


def _decompress(options: argparse.Namespace) -> None:
    from . import codec, images

    _check_output(options.output, options.input)
    with open(options.input, "rb") as file:
        data = file.read(codec.MAX_BYTES + 1)
    try:
        header = codec.read_header(data)
        images.check_writable(options.output, (header.width, header.height))
        picture = codec.decompress_uint8(data, options.model, progress=not options.quiet)
    except CourseError as why:
        raise CourseError(f"{options.input}: {why}") from None
    images.save(options.output, picture)
    print(f"{options.output}: {header.width}x{header.height} pixels, by {header.model}")


def _sense(options: argparse.Namespace) -> None:
    from . import images, sensing

    _check_output(options.output, options.input)
    picture = images.load_uint8(options.input)
    data = sensing.sense(picture, options.ratio, options.bits, options.model or sensing.DEFAULT)
    size = _written(options.output, data, picture[0].numel())
    print(f"{size}{', its luma alone' if len(picture) == 3 else ''}")


def _recover(options: argparse.Namespace) -> None:
    from . import images, sensing

    _check_output(options.output, options.input)
    try:
        with open(options.input, "rb") as file:
            data = file.read(sensing.MAX_BYTES + 1)
        about = sensing.read(data)[0]
        images.check_writable(options.output, (about.width, about.height))
        picture = sensing.recover(data, options.model, progress=not options.quiet)
    except CourseError as why:
        raise CourseError(f"{options.input}: {why}") from None
    images.save(options.output, picture)
    print(f"{options.output}: {about.width}x{about.height} pixels, ratio {about.ratio:g}, {about.bits} bits")


def _publish(options: argparse.Namespace) -> None:
    from .publishing import publish

    print(publish.publish(options.folder))


# --------------------------------------------------------------------------------------------- errors


def _expected(why: Exception) -> bool:
    """Our own errors, and what disk and memory do; all else is a bug and keeps its traceback."""
    return type(why).__module__.startswith("helpers.") or isinstance(why, OSError) or _no_memory(why)


def _no_memory(why: Exception) -> bool:
    """Python's MemoryError, torch's on a GPU, and the bare RuntimeErrors of torch and its libraries."""
    if isinstance(why, MemoryError) or type(why).__name__ == "OutOfMemoryError":
        return True
    return isinstance(why, RuntimeError | OSError) and bool(_NO_MEMORY.search(str(why)))


def _sentence(why: Exception) -> str:
    if _no_memory(why):
        return (
            "the memory is full; close other programs, or ask for less at a time: a smaller picture, "
            "`restore` with a smaller --tile, `train` with a smaller --batch or --patch, --device cpu for a GPU."
        )
    if isinstance(why, OSError) and why.errno == errno.ENOSPC:
        return f"the disk is full while writing {why.filename or 'a file'}; free some space and try again."
    if isinstance(why, OSError) and why.errno:
        return f"{why.filename or 'a file'}: {_REFUSED.get(why.errno, f'{why.strerror}; name another file or place')}."
    return " ".join(str(why).split())


def _check_output(path: Path, given: Path | None = None) -> None:
    """Raise OSError, before any work is done, where no file can be written to `path`, or where that is the input."""
    if why := refusal(path):
        raise OSError(f"{path}: {why}.")
    if given and os.path.exists(path) and os.path.exists(given) and path.samefile(given):
        raise OSError(f"{path}: that is the input itself; name another output.")


def _written(path: Path, data: bytes, pixels: int) -> str:
    """Write a file whole or not at all; returns its size for people."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)
    return f"{path}: {len(data):,} bytes, {8 * len(data) / pixels:.3f} bits per pixel"


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name; put one comma between two names")
    return names


def _ending(suffix: str) -> Callable[[str], Path]:
    """A name of a file that ends so."""

    def parse(text: str) -> Path:
        if Path(text).suffix.lower() != suffix:
            raise argparse.ArgumentTypeError(f"{text}: end the name in {suffix}, so that it is known for what it is")
        return Path(text)

    return parse


def _whole(least: int, most: int = 10**12) -> Callable[[str], int]:
    """A whole number within limits."""

    def parse(text: str) -> int:
        large = len(text) > 20  # which Python may not even read
        if large or not (text.isdecimal() and least <= int(text) <= most):
            limits = f"{least} is the least" if most == 10**12 and not large else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text[:30]!r} where a whole number is wanted; {limits}")
        return int(text)

    return parse


if __name__ == "__main__":
    sys.exit(main())
