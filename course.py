"""The course in three commands, on Linux, macOS and Windows; only Python 3.10 or newer is needed to begin.

    python course.py lab     the notebooks in JupyterLab: to learn
    python course.py course  all of them, end to end: copies, HTML and results under build/
    python course.py test    style, all tests, the stored outputs of the notebooks

Each first sets up what it needs in .venv, as `python course.py setup` does alone. `make` calls this file, too.
"""

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, ".installed")
BIN = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
PYTHON = os.path.join(BIN, "python.exe" if os.name == "nt" else "python")
PIP = os.path.join(BIN, "pip.exe" if os.name == "nt" else "pip")
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
OLDEST = (3, 10)


def main(arguments=None):
    """Do one command; its exit code, or 2 for what cannot begin."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="%(prog)s COMMAND [options]"
    )
    parser.add_argument("command", choices=["setup", "ready", "lab", "course", "test"], metavar="COMMAND")
    parser.add_argument("--cpu", action="store_true", help="PyTorch without CUDA: on Linux 2 GB instead of 6")
    parser.add_argument("--lock", metavar="FILE", help="exact versions to install, such as requirements.lock")
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command not in ("lab", "test"):
        parser.error(f"{options.command} takes no {' '.join(rest)}")
    if options.lock and not os.path.isfile(os.path.join(ROOT, options.lock)):
        parser.error(f"{options.lock} is not there")
    if sys.version_info < OLDEST:
        parser.error(f"the course needs Python 3.10 or newer; this is {platform.python_version()}")
    os.chdir(ROOT)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait actively make a busy machine crawl
    try:
        if not setup(options.cpu, options.lock) and options.command == "setup":
            print(".venv has all that is needed")
        for command in commands(options.command, rest):
            subprocess.run(command, check=True)
    except subprocess.CalledProcessError as why:
        return why.returncode
    except KeyboardInterrupt:
        return 130
    return 0


def commands(name, rest):
    """What a command runs, one after another."""
    python = [PYTHON, "-m"]
    if name == "lab":
        as_root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        first = os.path.join("notebooks", "01_data_preparation.ipynb")
        return [[*python, "jupyterlab", *as_root, "--notebook-dir=.", *(rest or [first])]]
    if name == "course":
        return [[PYTHON, os.path.join("notebooks", "run.py"), "--out", "build"]]
    if name == "test":  # a process may take 3 GB, so no more than four
        workers = [] if any(word.startswith("-n") for word in rest) else ["-n", "auto", "--maxprocesses=4"]
        programs = sorted(os.path.join("notebooks", name) for name in os.listdir("notebooks") if name.endswith(".py"))
        style = [[*python, "ruff", "check", "."], [*python, "ruff", "format", "--check", "."]]
        style += [[*python, "ruff", "format", "--check", "--line-length", "120", *programs]]  # as `make lint` does
        return [*style, [*python, "pytest", "-q", *workers, *rest]]
    return []


def setup(cpu, lock):
    """Install all that is needed into .venv; False where it is there already, by the same requirements and versions."""
    requirements, versions = fingerprint("requirements.txt", "pyproject.toml"), fingerprint(lock)
    if os.path.isfile(STAMP) and os.path.isfile(PYTHON):  # which is a link, and may lead to a Python that is gone
        with open(STAMP, encoding="utf-8") as file:
            before = file.read().split()
        if before[:1] == [requirements] and (not lock or before[1:] == [versions]):
            return False
    whole = os.path.isfile(PYTHON) and (shutil.which("uv") or os.path.isfile(PIP))  # neither absent nor half made
    on_linux, fresh = platform.system() == "Linux", not whole
    if fresh and on_linux and not cpu and not shutil.which("nvidia-smi"):
        print("no NVIDIA driver here: `make setup CPU=1`, or `python course.py setup --cpu`, saves 4 GB", flush=True)
    size = "2 GB" if cpu or not on_linux else "6 GB"
    print(f"setting up .venv (about {size} with PyTorch, once) ...", flush=True)
    if fresh and shutil.which("uv"):  # what is there may be half made, or its Python gone; venv clears it away itself
        shutil.rmtree(VENV, ignore_errors=True)
    for command in installation(shutil.which("uv"), cpu and on_linux, lock, fresh):
        subprocess.run(command, check=True)
    with open(STAMP, "w", encoding="utf-8") as file:
        file.write(f"{requirements} {versions}\n")
    activate = os.path.join(".venv", "Scripts", "activate") if os.name == "nt" else "source .venv/bin/activate"
    if platform.system() == "Windows" and shutil.which("nvidia-smi") and not cpu:
        print("for Windows PyTorch was installed without CUDA; https://pytorch.org has the command for your GPU")
    print(f"ready: `make lab`, or `python course.py lab`, opens the notebooks; {activate} is for python -m helpers")
    return True


def fingerprint(*paths):
    """The SHA-256 of some files, one after another."""
    digest = hashlib.sha256()
    for path in filter(None, paths):
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def installation(uv, cpu, lock, fresh):
    """The commands that make .venv: by uv where there is one, else by venv and pip, which take a few minutes longer.

    On Linux PyTorch's CPU build comes from PyTorch's own index; elsewhere the usual one has no CUDA anyway.
    """
    pinned = ["-c", lock] if lock else []
    packages = ["-r", "requirements.txt", "-e", ".[dev]", *pinned]
    if uv:
        make = [[uv, "venv", "--seed", "--python", sys.executable, VENV]] if fresh else []
        return [*make, [uv, "pip", "install", "--python", PYTHON, *(["--torch-backend=cpu"] if cpu else []), *packages]]
    make = [[sys.executable, "-m", "venv", "--clear", VENV]] if fresh else []
    quiet = [] if sys.stdout.isatty() else ["--quiet"]  # in a terminal pip shows what it fetches, with a bar
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", *quiet]
    torch = [[*pip, "--index-url", CPU_WHEELS, "torch", "torchvision", *pinned]] if cpu else []
    return [*make, *torch, [*pip, *packages]]


if __name__ == "__main__":
    sys.exit(main())
