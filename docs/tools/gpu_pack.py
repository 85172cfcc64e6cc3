"""Pack all that trainings on another machine need into one file: code, weights to begin with, pictures as they are.

    python docs/tools/gpu_pack.py [RECIPE ...] [--sets T91,CID22] [--megabytes 50] [--out build/gpu-pack.tar.gz]

There, Python wants torch and what the package imports: unpack with `tar xf`, and give the command that is printed here.
Back comes the folder `runs`. The picture files are the same, so cards and checkpoints are as of a training here.
"""

import argparse
import io
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from helpers import CourseError, datasets, recipes, zoo  # noqa: E402
from helpers.service.files import CATALOG, atomic  # noqa: E402

QUEUE = ("edsr-x2", "edsr-x3-first", "edsr-x3", "jpeg-blind-first", "jpeg-blind", "rescsnet-any")


def choose(sets: list[str], megabytes: float) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of the sets that fit, in the order given; and the sets that do not. Raises CourseError."""
    packed, left_out = {}, []
    for name in sets:
        packed[name] = datasets.folder(name)
        if size(sum(packed.values(), [])) > megabytes:
            left_out.append(name)
            del packed[name]
    if not packed:
        raise CourseError(f"none of {', '.join(sets)} fits into {megabytes:g} MB; name others by SETS.")
    return packed, left_out


def size(files: list[Path]) -> float:
    """Of files, in MB."""
    return sum(path.stat().st_size for path in files) / 1e6


def pack(out: Path, queue: list[recipes.Recipe], packed: dict[str, list[Path]]) -> None:
    """Write the .tar.gz; sets go to data/downloads/train, where they are found without COURSE_DATA."""
    names = {name for recipe in queue for name in (recipe.name, recipe.start_from)}
    weights = [path for path in sorted(zoo.WEIGHTS.iterdir()) if path.stem in names]
    code = [ROOT / "pyproject.toml", ROOT / "requirements.txt", ROOT / "LICENSE", *(ROOT / "helpers").rglob("*.py")]
    members = {path.relative_to(ROOT): path for path in (*code, *datasets.bundled())}
    members |= {Path("data", "weights", path.name): path for path in weights}
    members |= {Path("data", "catalog", path.name): path for path in CATALOG.glob("*.json")}  # licences, for the cards
    for name, files in packed.items():
        members |= {Path("data", "downloads", "train", Path(name).name, path.name): path for path in files}
    commit = recipes.commit().encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic(out) as temporary, tarfile.open(temporary, "w:gz") as archive:
        for inside, path in members.items():
            archive.add(path, Path("gpu-pack", inside))
        about = tarfile.TarInfo("gpu-pack/data/COMMIT")  # for the cards, since no repository goes along
        about.size = len(commit)
        archive.addfile(about, io.BytesIO(commit))


def main() -> None:
    """Pack, and say what is in it, what is left out, and what to do with it."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("recipes", nargs="*", default=QUEUE, metavar="RECIPE")
    options.add_argument("--sets", help="image sets or folders, separated by commas, instead of the recipes' own")
    options.add_argument("--megabytes", type=float, default=50, help="of pictures that may go along (50)")
    options.add_argument("--out", type=Path, default=ROOT / "build" / "gpu-pack.tar.gz")
    options = options.parse_args()
    try:
        queue = [recipes.find(name) for name in options.recipes]
        for place, recipe in enumerate(queue):
            first = recipe.start_from
            if first and not zoo.has(first) and first not in options.recipes[:place]:
                raise CourseError(f"{recipe.name} begins with {first}, which is not shipped; name that before it.")
        own = list(dict.fromkeys(name for recipe in queue for name in recipe.sets))
        packed, left_out = choose(options.sets.split(",") if options.sets else own, options.megabytes)
        pack(options.out, queue, packed)
    except (CourseError, OSError) as why:
        print(f"error: {why}", file=sys.stderr)
        sys.exit(2)
    print(f"{options.out}: {size([options.out]):.1f} MB")
    for name, files in packed.items():
        print(f"  {name}: {len(files)} pictures, {size(files):.1f} MB")
    for name in left_out:
        print(f"  left out, since {options.megabytes:g} MB may go along: {name}, {size(datasets.folder(name)):.1f} MB")
    whole = set(own) == set(packed) and not any(recipe.validation for recipe in queue)  # whose set does not go along
    sets = "" if whole else f" --sets {','.join(Path(name).name for name in packed)}"
    train = f"python -m helpers train {' '.join(options.recipes)}{sets} --minutes 12 --resume"
    print(f"there:    tar xf {options.out.name} && cd gpu-pack && {train}; tar czf ../runs.tar.gz runs")
    print("and here: tar xf runs.tar.gz")


if __name__ == "__main__":
    main()
