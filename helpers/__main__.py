"""The command line: python -m helpers check | train | evaluate | restore | publish."""

import argparse
import errno
import os
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Exit code 0; 2 for bad input, a line for each on stderr; 1 where `check` found a fault."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError) as why:
        if not _expected(why):
            raise
        print(f"error: {_sentence(why)}", file=sys.stderr)
        return 2


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, as all else here."""

    def error(self, message: str):
        self.exit(2, f"error: {message} (python -m helpers --help lists the commands)\n")


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="python -m helpers", description="Tools of the course on image restoration.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="is this machine ready? versions, device, memory, and remedies")
    check.set_defaults(run=_check)

    train = commands.add_parser("train", help="train a network by its recipe; Ctrl-C or a file OUT/stop saves and ends")
    train.add_argument("recipe", nargs="?", metavar="RECIPE", help="the name of a recipe; without it, they are listed")
    train.add_argument("--steps", type=_positive, help="train so many steps instead of the recipe's")
    train.add_argument("--batch", type=_positive, help="patches per step (per process)")
    train.add_argument("--lr", type=float, help="learning rate instead of the recipe's")
    train.add_argument("--seed", type=int, help="seed instead of the recipe's")
    train.add_argument("--sets", help="train on these sets or folders instead, separated by commas ('bundled')")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUT")
    train.add_argument("--out", type=Path, help="folder of checkpoints, TensorBoard events, weights (runs/RECIPE)")
    train.add_argument("--device", help="cpu, cuda, cuda:1, mps; by default the best there is")
    train.add_argument("--quiet", action="store_true", help="no progress bar")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="measure methods on pictures by the protocols of the literature")
    evaluate.add_argument("task", metavar="TASK", help="sr-x2, sr-x3, sr-x4 or deblock-q20")
    evaluate.add_argument("--images", required=True, help="a folder, or a set by its name ('bundled', 'Set5')")
    evaluate.add_argument("--methods", help="names separated by commas; by default all that the task has")
    evaluate.add_argument("--out", type=Path, metavar="FILE.csv", help="write a row per picture and method")
    evaluate.add_argument("--quiet", action="store_true", help="no progress bar")
    evaluate.set_defaults(run=_evaluate)

    restore = commands.add_parser("restore", help="restore one picture of any size")
    restore.add_argument("input", type=Path, metavar="IN")
    restore.add_argument("output", type=Path, metavar="OUT")
    restore.add_argument("--task", required=True, help="sr-x2, sr-x3, sr-x4 or deblock-q20")
    restore.add_argument("--model", help="a network by its name; by default the task's best")
    restore.add_argument("--tile", type=_positive, help="side of the tiles in output pixels (512)")
    restore.add_argument("--device", help="cpu, cuda, mps; by default the best there is")
    restore.add_argument("--quiet", action="store_true", help="no progress bar")
    restore.set_defaults(run=_restore)

    publish = commands.add_parser("publish", help="measure a finished run and put its weights and card into the zoo")
    publish.add_argument("folder", type=Path, metavar="RUN", help="the OUT of a finished `train`")
    publish.set_defaults(run=_publish)
    return top


# ------------------------------------------------------------------------------------------- commands


def _check(options: argparse.Namespace) -> int:
    from . import environment

    findings = environment.check()
    print(*findings, sep="\n")
    return 0 if all(finding.ok for finding in findings) else 1


def _train(options: argparse.Namespace) -> int:
    from . import recipes, training, zoo

    if options.recipe is None:
        for recipe in recipes.RECIPES.values():
            print(f"{recipe.name:<18} {recipe.task:<12} {recipe.plan.steps:>7} steps  {recipe.origin}")
        return 0
    recipe = recipes.changed(
        recipes.find(options.recipe),
        steps=options.steps,
        batch=options.batch,
        learning_rate=options.lr,
        seed=options.seed,
        sets=options.sets and tuple(options.sets.split(",")),
    )
    out = options.out or Path("runs") / recipe.name
    training.check_device(options.device)
    start = zoo.load(recipe.start_from).state_dict() if recipe.start_from else None
    model, log = recipes.run(recipe, out, options.resume, options.device, not options.quiet, start)
    if int(os.environ.get("RANK", 0)):
        return 0
    done = log[-1]["step"] if log else 0
    card = zoo.write(
        recipe,
        model,
        out,
        steps=done,
        seconds=log[-1]["seconds"] if log else 0.0,
        validation=log[-1:],
        **recipes.provenance(recipe, options.device),
    )
    if done < recipe.plan.steps:
        print(f"stopped at step {done} of {recipe.plan.steps}; go on with --resume --out {out}")
    psnr = f" · PSNR {log[-1]['psnr']:.2f} dB on held-out pictures" if log else ""
    print(f"{card.with_suffix('.safetensors')}{psnr}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from . import datasets, evaluation, images

    if options.out:
        _check_folder(options.out)
    methods = options.methods.split(",") if options.methods else evaluation.methods_for(options.task)
    files = datasets.folder(options.images)
    name = Path(options.images).name
    table, failures = evaluation.evaluate(options.task, files, methods, name, not options.quiet)
    for line in failures:
        print(f"skipped: {line}", file=sys.stderr)
    if options.out and len(table):
        with images.atomic(options.out) as temporary:
            table.to_csv(temporary, index=False)
    if len(table):
        print(evaluation.summary(table).to_string())
    return 2 if failures else 0


def _restore(options: argparse.Namespace) -> int:
    from . import degradations, evaluation, images, training, zoo

    degradations.scale_of(options.task)  # an unknown task is said before any work
    images.check_writable(options.output)
    device = training.check_device(options.device)
    model = evaluation.load_for(options.model, options.task)
    picture = images.load_uint8(options.input)
    restored = model.to(device).restore(
        picture, **({"tile": options.tile} if options.tile else {}), progress=not options.quiet
    )
    images.save(options.output, restored)
    size = f"{restored.shape[-1]}x{restored.shape[-2]}"
    print(f"{options.output}: {size} pixels, by {options.model or zoo.for_task(options.task)[0]}")
    return 0


def _publish(options: argparse.Namespace) -> int:
    from . import evaluation

    print(evaluation.publish(options.folder))
    return 0


# --------------------------------------------------------------------------------------------- errors


def _expected(why: Exception) -> bool:
    """Our own errors, and what the disk does; all else is a bug and keeps its traceback."""
    return type(why).__module__.startswith("helpers.") or isinstance(why, OSError)


def _sentence(why: Exception) -> str:
    if isinstance(why, OSError) and why.errno == errno.ENOSPC:
        return f"the disk is full while writing {why.filename or 'a file'}; free some space and try again."
    return " ".join(str(why).split())


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; create it first.")


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return value


if __name__ == "__main__":
    sys.exit(main())
