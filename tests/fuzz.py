"""Tries every loader of the package on spoilt and hostile files, and writes the table of docs/robustness.md.

    python tests/fuzz.py [LOADER …] [--cases N] [--seed S] [--write]
    python tests/fuzz.py LOADER --repeat FOLDER       tries a kept case again, and shows what it raises

A case is a folder of files. It passes if the loader returns something valid, or raises its own error with a message of
one line that names the file. It fails with any other exception, a crash, more than LIMIT seconds, more memory than
the loader is allowed, a process begun, or a file opened outside of the case's folder. Cases are tried in a
process of their own, so that a crash is counted and not the end. What fails is kept under build/fuzz. Linux only.
"""

import argparse
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]  # the package of this checkout, wherever it was begun
KEPT, PAGE = ROOT / "build" / "fuzz", ROOT / "docs" / "robustness.md"
BEGIN, END = "<!-- fuzz: begin -->", "<!-- fuzz: end -->"
# Seconds of the processor for a case, and ten times as many by the clock, since the machine may be busy; enough for a
# slow machine, too, that clears two gigabytes page by page for the largest pictures allowed.
LIMIT = 60
FILE = 64 << 20  # bytes that a case may write
TRIES = 12  # children that may die of one loader before the rest of its cases is given up
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


class Watch:
    """Python's audit hook: notes what is begun or opened that no loader needs."""

    def __init__(self, box: Path, zoo: Path):
        self.box, self.seen, self.armed = str(box.resolve()), [], False
        self.readable = (*READABLE, str(zoo.resolve()))
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.armed:
            return
        if event in PROCESSES:
            self.seen.append(f"{event} {arguments[0]!r}")
        elif event in CHANGES or event == "open":
            for path in arguments[:2] if event in ("os.rename", "os.link", "os.symlink") else arguments[:1]:
                if isinstance(path, str | bytes | os.PathLike):  # else an open file's number
                    self._look(event, os.path.abspath(os.fsdecode(path)), arguments)

    def _look(self, event: str, place: str, arguments: tuple) -> None:
        inside = place == self.box or place.startswith(self.box + os.sep)
        reads = event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if not inside and not (reads and place.startswith(self.readable)):
            self.seen.append(f"{event} {place}")


def loaders(module: str = "fuzz_loaders") -> dict:
    return importlib.import_module(module).LOADERS


def child(module: str, names: list, count: int | None, share: int, seed: int, first: dict, folder: str) -> None:
    """Try the cases of loaders; two lines of JSON for each on the real stdout, which the parent reads."""
    report, sys.stdout = sys.stdout, sys.stderr
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    box, zoo = Path(folder) / "box", Path(folder) / "zoo"
    watch = Watch(box, zoo)
    for name in names:
        loader = loaders(module)[name]
        loader.prepare(zoo)
        put(loader.good()[0], box)
        loader.load(box)  # so that what is imported and cached on the way is there before anything is counted
        for index, (which, case) in enumerate(cases(loader, loader.cases // share if count is None else count, seed)):
            if index < first.get(name, 0):
                continue
            put(case, box)
            base = forget_peak()
            print(json.dumps({"loader": name, "index": index, "case": which}), file=report, flush=True)
            start = time.process_time()
            outcome, said = attempt(loader, box, watch)
            if outcome != {"good": "accepted", "nasty:": "refused"}.get(which.split()[0], outcome):
                outcome, said = "wrong", f"was {outcome} {said}"
            facts = {"outcome": outcome, "said": said, "seconds": time.process_time() - start, "peak": peak() - base}
            if outcome in FAILED:
                put(case, box)  # as it was before it was loaded
                keep({"loader": name, "index": index} | facts, box)
            print(json.dumps(facts), file=report, flush=True)
        print(json.dumps({"loader": name, "end": True}), file=report, flush=True)


def put(case: dict[str, bytes], box: Path) -> None:
    """The case's files, and nothing else, in the box."""
    os.chdir(box.parent)
    shutil.rmtree(box, ignore_errors=True)
    box.mkdir()
    for name, data in case.items():
        (box / name).write_bytes(data)


def attempt(loader, box: Path, watch: Watch) -> tuple[str, str]:
    """("accepted" | "refused" | "wrong", what was said)."""
    os.chdir(box)
    watch.seen.clear()
    limit(loader.memory)
    try:
        watch.armed = True
        loader.load(box)
        outcome, said = "accepted", ""
    except loader.errors as why:
        outcome, said = fault_of(str(why), loader, box)
    except BaseException as why:
        frames = [f for f in traceback.extract_tb(why.__traceback__) if f"{os.sep}helpers{os.sep}" in f.filename]
        where = f" (helpers/{Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        outcome, said = "wrong", f"{type(why).__name__}: {' '.join(str(why).split())[:200]}{where}"
    finally:
        watch.armed = False
        limit(None)
    return ("wrong", f"not its business: {watch.seen[0]}") if watch.seen else (outcome, said)


def fault_of(said: str, loader, box: Path) -> tuple[str, str]:
    """Whether a message is one line that names the file."""
    if "\n" in said or not said.isprintable() or len(said) > 800:
        return "wrong", f"not one plain line: {said!r}"[:300]
    if loader.named and not any(str(box / name) in said for name in os.listdir(box)) and str(box) not in said:
        return "wrong", f"names no file: {said}"[:300]
    return "refused", said


def limit(more: int | None) -> None:
    """Allow so much more memory than there is now, files of FILE bytes, LIMIT seconds; None: as much as there is."""
    pages, endless = int(Path("/proc/self/statm").read_text().split()[0]), resource.RLIM_INFINITY
    memory = endless if more is None else pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (memory, endless))
    resource.setrlimit(resource.RLIMIT_FSIZE, (endless if more is None else FILE, endless))
    signal.setitimer(signal.ITIMER_PROF, 0 if more is None else LIMIT)  # it ends the process, whatever that is at
    signal.setitimer(signal.ITIMER_REAL, 0 if more is None else 10 * LIMIT)


def forget_peak() -> int:
    """The resident bytes now, from which the peak is counted."""
    Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


# ------------------------------------------------------------------------------------------ the parent


def run(
    names: list[str],
    count: int | None = None,
    seed: int = 0,
    *,
    share: int = 1,
    module: str = "fuzz_loaders",
    tell: Callable[[str, list[dict]], None] = lambda name, found: None,
) -> dict[str, list[dict]]:
    """All outcomes by loader, of `count` cases each or a share of what a full run has.

    A child that dies or hangs is followed by another, from the next case. `tell` hears of each loader that is done.
    """
    results: dict[str, list[dict]] = {name: [] for name in names}
    left, first, deaths = list(names), {}, 0
    while left:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            order = {"module": module, "names": left, "count": count, "share": share, "seed": seed, "first": first}
            ended = supervise(order | {"folder": folder}, results, tell)
        left, deaths = [name for name in left if name not in ended], 0 if ended else deaths + 1
        if left and (deaths > TRIES or not results[left[0]]):
            raise SystemExit(f"fuzz: {left[0]} kills every child; look at {KEPT}")
        first = {name: results[name][-1]["index"] + 1 for name in left[:1]}
    return results


def supervise(order: dict, results: dict[str, list[dict]], tell: Callable[[str, list[dict]], None]) -> set[str]:
    """One child to its end; returns the loaders that it finished."""
    KEPT.mkdir(parents=True, exist_ok=True)
    said = f"fuzz.KEPT, fuzz.LIMIT = fuzz.Path({str(KEPT)!r}), {LIMIT}; fuzz.child(**{order!r})"
    command = [sys.executable, "-c", f"import sys; sys.path.append({str(ROOT / 'tests')!r}); import fuzz; {said}"]
    errors = (KEPT / "stderr.txt").open("w")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    ended, begun = set(), None
    for line in process.stdout:
        said = json.loads(line)
        if "end" in said:
            ended.add(said["loader"])
            tell(said["loader"], results[said["loader"]])
        elif "case" in said:
            begun = said
        else:
            results[begun["loader"]].append(begun | said)
            begun = None
    status = process.wait()
    if begun:  # the child died in this case
        outcome = "hung" if status in HUNG else "crashed"
        begun |= {"outcome": outcome, "said": f"exit status {status}", "seconds": 0, "peak": 0}
        results[begun["loader"]].append(begun)
        keep(begun, Path(order["folder"]) / "box")
    return ended


def keep(result: dict, box: Path) -> None:
    """Copy the files of a failed case; of a fault that is known three are enough."""
    known = KEPT / result["loader"]
    same = [path for path in known.glob("*/said.txt") if path.read_text() == result["said"]]
    if len(same) < 3:
        target = known / f"{result['index']}"
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
    return f"| {loaders()[name].about} | {figures} | {slowest:.1f} | {max(0, most) >> 20:,} |"


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
        repeat(options.loaders[0], options.repeat.resolve())
        return 0

    def tell(name: str, found: list[dict]) -> None:
        print(row(name, found), flush=True)
        if options.write:
            write(name, found)

    results = run(options.loaders or list(loaders()), options.cases, options.seed, tell=tell)
    bad = [one for found in results.values() for one in found if one["outcome"] in FAILED]
    for one in {(one["loader"], one["said"]): one for one in reversed(bad)}.values():
        print(f"{one['loader']}, {one['case']}: {one['outcome']}: {one['said']}")
        print(f"    python tests/fuzz.py {one['loader']} --repeat build/fuzz/{one['loader']}/{one['index']}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
