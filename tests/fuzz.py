"""Tries every loader of the package on spoilt and hostile files, and writes the table of docs/robustness.md.

    python tests/fuzz.py [LOADER …] [--cases N] [--seed S] [--write]
    python tests/fuzz.py LOADER --repeat FOLDER       tries a kept case again, and shows what it raises

A case is a folder of files. It passes if the loader returns something valid, or raises its own error with a message of
one line that names the file. It fails with any other exception, a crash, more than LIMIT seconds, more memory than
the loader is allowed, a process begun, or a file opened outside of the case's folder. Cases are tried in a
process of their own; a crash ends those of its loader alone. What fails is kept under build/fuzz. Linux only.
"""

import argparse
import contextlib
import importlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]  # the package of this checkout, wherever it was begun
from helpers.publishing.benchmark import memory_mib  # noqa: E402

KEPT, PAGE = ROOT / "build" / "fuzz", ROOT / "docs" / "robustness.md"
BEGIN, END = "<!-- fuzz: begin -->", "<!-- fuzz: end -->"
# Seconds of the processor for a case, and ten times as many by the clock, since the machine may be busy; enough for a
# slow machine, too, that clears two gigabytes page by page for the largest pictures allowed.
LIMIT = 60
FILE = 64 << 20  # bytes that a case may write

HUNG = (-signal.SIGPROF, -signal.SIGALRM)  # exit statuses of a child whose time is up
FAILED = ("wrong", "crashed", "hung")


def cases(loader, count: int, seed: int) -> Iterator[tuple[str, dict]]:
    """(name, case): the nasty ones, the good ones, then spoilt ones, which depend on seed and number alone."""
    yield from ((f"nasty: {name}", case) for name, case in loader.nasty().items())
    good = loader.good()
    yield from ((f"good {index}", case) for index, case in enumerate(good))
    for index in range(count):
        rng = random.Random(f"{seed} {index}")
        yield f"spoilt {index}", rng.choice(loader.ways)(rng.choice(good), rng, rng.choice(good))


# ------------------------------------------------------------------------------------------ the child

PROCESSES = ("os.system", "subprocess.Popen", "os.posix_spawn", "os.exec", "os.fork", "os.forkpty", "socket.connect")
CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
READABLE = (str(ROOT), sys.prefix, sys.base_prefix)
READABLE += ("/usr", "/lib", "/etc", "/proc", "/sys", "/dev/null", "/dev/urandom")


def watch(box: Path, zoo: Path) -> list[str]:
    """What an audit hook of Python notes from now on: what is begun or opened that no loader needs."""
    seen, inside, readable = [], str(box.resolve()), (*READABLE, str(zoo.resolve()))

    def hook(event: str, arguments: tuple) -> None:
        if event in PROCESSES:
            seen.append(f"{event} {arguments[0]!r}")
        elif event in CHANGES or event == "open":
            for path in arguments[:2] if event in ("os.rename", "os.link", "os.symlink") else arguments[:1]:
                if isinstance(path, str | bytes | os.PathLike):  # else an open file's number
                    place = os.path.abspath(os.fsdecode(path))
                    reads = event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
                    if not f"{place}/".startswith(f"{inside}/") and not (reads and place.startswith(readable)):
                        seen.append(f"{event} {place}")

    sys.addaudithook(hook)
    return seen


def loaders(module: str = "fuzz_loaders") -> dict:
    return importlib.import_module(module).LOADERS


def child(names: list[str], module: str, count: int | None, share: int, seed: int, limits: tuple, pipe) -> None:
    """Try the cases of loaders in a folder; the parent hears of each before it is loaded and after."""
    folder, seconds, kept = limits
    os.dup2(os.open(kept / "stderr.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)  # what libraries print
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    box, zoo = folder / "box", folder / "zoo"
    seen = watch(box, zoo)
    for name in names:
        loader = loaders(module)[name]
        loader.prepare(zoo)
        put(loader.good()[0], box)
        loader.load(box)  # so that what is imported and cached on the way is there before anything is counted
        for index, (which, case) in enumerate(cases(loader, loader.cases // share if count is None else count, seed)):
            put(case, box)
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
            before = memory_mib("VmRSS")
            found = {"loader": name, "index": index, "case": which}
            pipe.send(found)
            start = time.process_time()
            outcome, said = attempt(loader, box, seen, seconds)
            if outcome != {"good": "accepted", "nasty:": "refused"}.get(which.split()[0], outcome):
                outcome, said = "wrong", f"was {outcome} {said}"
            found |= {"seconds": time.process_time() - start, "peak": memory_mib("VmHWM") - before}
            found |= {"outcome": outcome, "said": said}
            put(case, box)  # as it was before it was loaded
            keep(found, box, kept)
            pipe.send(found)


def put(case: dict[str, bytes], box: Path) -> None:
    """The case's files, and nothing else, in the box."""
    os.chdir(box.parent)
    shutil.rmtree(box, ignore_errors=True)
    box.mkdir()
    for name, data in case.items():
        (box / name).write_bytes(data)


def attempt(loader, box: Path, seen: list[str], seconds: int) -> tuple[str, str]:
    """("accepted" | "refused" | "wrong", what was said)."""
    os.chdir(box)
    seen.clear()
    limit(loader.memory, seconds)
    try:
        loader.load(box)
        outcome, said = "accepted", ""
    except loader.errors as why:
        outcome, said = fault_of(str(why), loader, box)
    except BaseException as why:
        places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(why.__traceback__)]
        ours = [f"{Path(name).name}:{line}" for name, line in places if f"{os.sep}helpers{os.sep}" in name]
        where = f" (helpers/{ours[-1]})" if ours else ""
        outcome, said = "wrong", f"{type(why).__name__}: {' '.join(str(why).split())[:200]}{where}"
    finally:
        limit(None)
    return ("wrong", f"not its business: {seen[0]}") if seen else (outcome, said)


def fault_of(said: str, loader, box: Path) -> tuple[str, str]:
    """Whether a message is one line that names the file."""
    if "\n" in said or not said.isprintable() or len(said) > 800:
        return "wrong", f"not one plain line: {said!r}"[:300]
    if loader.named and not any(str(box / name) in said for name in os.listdir(box)) and str(box) not in said:
        return "wrong", f"names no file: {said}"[:300]
    return "refused", said


def limit(more: int | None, seconds: int = 0) -> None:
    """Allow so much more memory than there is now, files of FILE bytes, some seconds; None: as much as there is."""
    endless = resource.RLIM_INFINITY
    memory = endless if more is None else int(memory_mib("VmSize") * 2**20) + more
    resource.setrlimit(resource.RLIMIT_AS, (memory, endless))
    resource.setrlimit(resource.RLIMIT_FSIZE, (endless if more is None else FILE, endless))
    signal.setitimer(signal.ITIMER_PROF, seconds)  # it ends the process, whatever that is at
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)


# ------------------------------------------------------------------------------------------ the parent


def run(
    names: list[str], count: int | None = None, seed: int = 0, share: int = 1, module: str = "fuzz_loaders"
) -> Iterator[tuple[str, list[dict]]]:
    """Each loader's name and outcomes, of `count` cases or a share of what a full run has.

    A case that kills its child ends its loader; those that are left have another child.
    """
    left, context = list(names), get_context("spawn")
    KEPT.mkdir(parents=True, exist_ok=True)
    while left:
        found, said = {name: [] for name in left}, {}
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            here, there = context.Pipe(duplex=False)
            order = (left, module, count, share, seed, (Path(folder), LIMIT, KEPT), there)
            process = context.Process(target=child, args=order)
            process.start()
            there.close()  # so that its end is heard of
            with contextlib.suppress(EOFError):
                while True:
                    said = here.recv()
                    said = here.recv()
                    found[said["loader"]].append(said)
            process.join()
            if process.exitcode:  # it died in this case
                if "outcome" in said or not said:
                    raise SystemExit(f"fuzz: no case of {left[0]} is begun; look at {KEPT / 'stderr.txt'}")
                outcome = "hung" if process.exitcode in HUNG else "crashed"
                said |= {"outcome": outcome, "said": f"exit status {process.exitcode}", "seconds": 0, "peak": 0}
                found[said["loader"]].append(said)
                keep(said, Path(folder) / "box", KEPT)
        done = left[: left.index(said["loader"]) + 1]
        yield from ((name, found[name]) for name in done)
        left = left[len(done) :]


def keep(result: dict, box: Path, kept: Path) -> None:
    """Copy the files of a case if it failed; of a fault that is known three are enough."""
    if result["outcome"] in FAILED:
        target = kept / result["loader"] / str(result["index"])
        if [path.read_text() for path in target.parent.glob("*/said.txt")].count(result["said"]) < 3:
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(box, target, symlinks=True)
            (target / "said.txt").write_text(result["said"])


# ------------------------------------------------------------------------------------------ the table

HEAD = """| what is loaded | cases | accepted | refused | failed | slowest, s | memory, MiB |
|---|--:|--:|--:|--:|--:|--:|
"""


def row(name: str, results: list[dict]) -> str:
    """A row of the table: how many cases were tried and how they ended, the slowest, and the most memory."""
    count = {key: sum(one["outcome"] == key for one in results) for key in ("accepted", "refused", *FAILED)}
    slowest, most = max(one["seconds"] for one in results), max(one["peak"] for one in results)
    bad = sum(count[key] for key in FAILED)
    figures = f"{len(results):,} | {count['accepted']:,} | {count['refused']:,} | {bad:,}"
    return f"| {loaders()[name].about} | {figures} | {slowest:.1f} | {max(0, most):,.0f} |"


def write(name: str, found: list[dict]) -> None:
    """Put the row of what was tried into the page's table; those of other loaders stay."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    old, after = rest.split(END)
    rows = {line.split(" | ")[0]: line for line in old.splitlines() if line.startswith("| ")}
    rows[f"| {loaders()[name].about}"] = row(name, found)
    order = [rows[key] for loader in loaders().values() if (key := f"| {loader.about}") in rows]
    PAGE.write_text(f"{before}{BEGIN}\n\n{HEAD}" + "\n".join(order) + f"\n\n{END}{after}", encoding="utf-8")


def repeat(name: str, case: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        loader, box = loaders()[name], Path(folder) / "box"
        loader.prepare(Path(folder) / "zoo")
        shutil.copytree(case, box, symlinks=True, ignore=shutil.ignore_patterns("said.txt"))
        os.chdir(box)
        loader.load(box)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("loaders", nargs="*", metavar="LOADER")
    parser.add_argument("--cases", type=int, help="of each loader, beside the good and the nasty ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the table into docs/robustness.md")
    parser.add_argument("--repeat", type=Path, metavar="FOLDER", help="try this kept case of LOADER again")
    options = parser.parse_args()
    if unknown := set(options.loaders) - set(loaders()):
        parser.error(f"no loader is called {', '.join(sorted(unknown))}; there are {', '.join(loaders())}")
    if options.repeat:
        if len(options.loaders) != 1 or not options.repeat.is_dir():
            parser.error("--repeat wants one LOADER, and the folder of a case that was kept")
        repeat(options.loaders[0], options.repeat.resolve())
        return 0

    bad = {}
    for name, found in run(options.loaders or list(loaders()), options.cases, options.seed):
        print(row(name, found), flush=True)
        if options.write:
            write(name, found)
        bad |= {(name, one["said"]): one for one in reversed(found) if one["outcome"] in FAILED}
    for one in bad.values():
        print(f"{one['loader']}, {one['case']}: {one['outcome']}: {one['said']}")
        print(f"    python tests/fuzz.py {one['loader']} --repeat build/fuzz/{one['loader']}/{one['index']}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
