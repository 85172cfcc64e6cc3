"""course.py, the three commands without make: what it installs, what it runs, what it refuses. Nothing is installed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import course  # noqa: E402


@pytest.fixture
def called(monkeypatch, tmp_path):
    """The commands that would be run, in an empty folder for .venv."""
    commands = []
    monkeypatch.setattr(course.subprocess, "run", lambda command, check: commands.append(command))
    monkeypatch.setattr(course, "VENV", str(tmp_path))
    monkeypatch.setattr(course, "STAMP", str(tmp_path / "stamp"))
    monkeypatch.setattr(course, "PYTHON", str(tmp_path / "python"))
    monkeypatch.setattr(course.shutil, "which", lambda name: None)
    return commands


def test_a_first_call_installs_and_a_second_does_not(called):
    assert course.main(["setup"]) == 0
    assert [" ".join(map(str, command)) for command in called][-1].endswith("-r requirements.txt -e .[dev]")
    called.clear()
    assert course.main(["setup"]) == 0
    assert called == []


def test_exact_versions_are_installed_once_and_stay(called):
    lock = ["setup", "--lock", "requirements.lock"]
    course.main(["setup"])
    course.main(lock)
    assert called[-1][-2:] == ["-c", "requirements.lock"]
    called.clear()
    course.main(lock)
    course.main(["setup"])  # a learner's command beside CI's changes nothing
    assert called == []
    course.main(["test", "-n0", "tests/test_metrics.py"])
    assert called[-1][1:] == ["-m", "pytest", "-q", "-n0", "tests/test_metrics.py"]


def test_an_installation_that_failed_is_begun_again(called, monkeypatch):
    def fail(command, check):
        raise subprocess.CalledProcessError(7, command)

    with monkeypatch.context() as broken:
        broken.setattr(course.subprocess, "run", fail)
        assert course.main(["setup"]) == 7
    assert course.main(["setup"]) == 0
    assert called


@pytest.mark.parametrize("uv", [None, "/bin/uv"])
@pytest.mark.parametrize("cpu", [False, True])
def test_the_cpu_build_is_fetched_from_pytorchs_index_alone_and_only_when_asked(uv, cpu):
    commands = course.installation(uv, cpu, "requirements.lock", fresh=True)
    assert any(course.CPU_WHEELS in command or "--torch-backend=cpu" in command for command in commands) is cpu
    for command in commands:
        assert (course.CPU_WHEELS in command) <= (command[-4:-2] == ["torch", "torchvision"])
    assert all("-c" in command for command in commands if "install" in command)


def test_a_computer_without_a_gpu_is_told_what_it_can_save(called, capsys, monkeypatch):
    monkeypatch.setattr(course.platform, "system", lambda: "Linux")
    course.main(["setup"])
    assert "no NVIDIA driver here: `make setup CPU=1`" in capsys.readouterr().out


REFUSED = {"dance": "invalid choice: 'dance'", "course fast": "course takes no fast", "": "COMMAND"}


@pytest.mark.parametrize(("line", "said"), [*REFUSED.items(), ("setup --lock no.lock", "no.lock is not there")])
def test_what_it_cannot_do_is_one_sentence(line, said, called, capsys):
    with pytest.raises(SystemExit) as stopped:
        course.main(line.split())
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert called == []


def test_an_old_python_is_told_which_one_it_takes(called, capsys, monkeypatch):
    monkeypatch.setattr(course.sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit):
        course.main(["lab"])
    assert "Python 3.10 or newer" in capsys.readouterr().err
