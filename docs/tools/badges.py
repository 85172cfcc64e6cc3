"""Make badges, setup cells and links name another repository or branch: make badges REPO=owner/name BRANCH=main.

    python docs/tools/badges.py [--repository OWNER/NAME] [--branch BRANCH] [--root FOLDER]

What they name is said once, in pyproject.toml under [tool.course], which is written last: after a break, run it again.
Exit code 2 for bad input.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from helpers.service.files import atomic  # noqa: E402

KINDS = {".cff", ".ipynb", ".md", ".py", ".toml", ".txt", ".yaml", ".yml"}
LEFT_OUT = {".git", ".venv", "build", "runs", "downloads", "__pycache__", "tests"}  # tests link to no place of ours
TABLE = re.compile(r'(\[tool\.course\]\nrepository = ")(.+)("\nbranch = ")(.+)(")')
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/(?!\.+$)[\w.-]{1,100}(?<!\.git)", re.ASCII)
BRANCH = re.compile(r"\w(?:[\w-]|\.(?!\.|$))*(?<!\.lock)", re.ASCII)
# What only this course's own links look like; a link to anybody else's repository looks like neither.
BADGE = re.compile(r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/blob/([\w.-]+)/notebooks/(\w+\.ipynb)")
CLONE = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+)\.git (?:--branch ([\w.-]+) course\b|&& cd )")


PLACEHOLDER = "/".join(("your-name", "restoration-course"))  # which no owner has; in parts, so that it stays here
NOTE = f"""> Badges and links to GitHub lead nowhere yet: they name the placeholder `{PLACEHOLDER}`. Whoever owns this
> copy runs `make badges REPO=owner/name`, which removes this note, too.

"""


class BadgeError(ValueError):
    """A repository or branch that no badge can name, or a file that says none."""


class Course(NamedTuple):
    """Where the course lives on GitHub: "owner/name", and the branch or tag that badges open."""

    repository: str
    branch: str


def main(arguments: list[str] | None = None) -> int:
    """Write what the command line asks for; 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", default="", metavar="OWNER/NAME")  # empty: as it is, for make's sake
    parser.add_argument("--branch", default="")
    parser.add_argument("--root", type=Path, default=ROOT, help="another copy of the course")
    options = parser.parse_args(arguments)
    repository, branch, root = options.repository, options.branch, options.root
    try:
        if not repository and not branch:
            raise BadgeError("name the repository: make badges REPO=owner/name")
        if repository and not NAME.fullmatch(repository):
            raise BadgeError(f"{repository!r} is no repository on GitHub; write REPO=owner/name.")
        if branch and not BRANCH.fullmatch(branch):
            raise BadgeError(f"{branch!r} is no branch or tag for a badge: letters, digits, '_', '-' and '.' alone.")
        now = said(root)
        done = rewrite(root, Course(repository or now.repository, branch or now.branch))
    except (BadgeError, OSError) as why:
        print(f"error: {why}", file=sys.stderr)
        return 2
    print(*(path.relative_to(root) for path in done), sep="\n", end="\n" if done else "")
    print(f"all name {' at '.join(said(root))}" + ("" if done else ", as before"))
    return 0


def said(root: Path = ROOT) -> Course:
    """What pyproject.toml says."""
    table = TABLE.search((root / "pyproject.toml").read_text(encoding="utf-8"))
    if not table:
        raise BadgeError("pyproject.toml has no [tool.course] with repository and branch; restore it with git.")
    return Course(table[2], table[4])


def files(root: Path) -> list[Path]:
    """The course's files of text, pyproject.toml last."""
    found = [path for path in sorted(root.rglob("*")) if path.suffix in KINDS and path.is_file()]
    found = [path for path in found if not LEFT_OUT.intersection(path.relative_to(root).parts)]
    return sorted(found, key=lambda path: path.name == "pyproject.toml")


def outdated(root: Path, new: Course) -> dict[Path, str]:
    """The files that name another course than `new`, each with the text that it should have."""
    texts = {path: path.read_text(encoding="utf-8") for path in files(root)}
    badges = [found for text in texts.values() for found in BADGE.findall(text)]
    clones = [found for text in texts.values() for found in CLONE.findall(text)]
    repositories = {said(root).repository, *(badge[0] for badge in badges), *(clone[0] for clone in clones)}
    branches = {said(root).branch, *(badge[1] for badge in badges), *(clone[1] for clone in clones if clone[1])}
    right = {}
    for path, text in texts.items():
        for old in sorted(repositories):
            text = renamed(text, old, branches, new)
        text = TABLE.sub(rf"\g<1>{new.repository}\g<3>{new.branch}\g<5>", text)
        right[path] = noted(text, new) if path == root / "README.md" else text
    return {path: text for path, text in right.items() if text != texts[path]}


def noted(text: str, new: Course) -> str:
    """The README with the note on the placeholder below its title while that stands, and without it after."""
    text = text.replace(NOTE, "")
    return text.replace("\n\n", "\n\n" + NOTE, 1) if new.repository == PLACEHOLDER else text


def renamed(text: str, repository: str, branches: set[str], new: Course) -> str:
    """A text whose links to a repository, and to one of these branches in it, lead to the new ones."""
    owner, name = map(re.escape, repository.split("/"))
    new_owner, new_name = new.repository.split("/")
    link = rf"(github(?:usercontent)?(?:\.com)?/){owner}/{name}"
    end = r"(?=\.git\b|\.?(?![\w.-]))"  # not "owner/name-of-another"
    branch = rf"(?:{'|'.join(map(re.escape, sorted(branches)))})(?![\w-]|\.\w)"
    text = re.sub(rf"({link}\.git --branch ){branch}(?= course\b)", rf"\g<1>{new.branch}", text)
    text = re.sub(rf"({link}/(?:blob/|tree/|raw/|)){branch}", rf"\g<1>{new.branch}", text)
    text = re.sub(rf"({link}\.git && cd ){name}(?![\w.-])", rf"\g<1>{new_name}", text)
    text = re.sub(rf"\b{owner}\.github\.io/{name}{end}", f"{new_owner.lower()}.github.io/{new_name}", text)
    return re.sub(link + end, rf"\g<1>{new.repository}", text)


def rewrite(root: Path, new: Course) -> list[Path]:
    """Make all files name `new`; those that were changed."""
    texts = outdated(root, new)
    for path, text in texts.items():
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return list(texts)


if __name__ == "__main__":
    sys.exit(main())
