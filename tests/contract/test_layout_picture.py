"""The picture of the layout in CONTRIBUTING.md is the tree of folders."""

import subprocess
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).parents[2]
NAMES_OF_ITS_OWN = ("model_repository",)  # its folders are models, named by the contract


def pictured() -> dict[str, str]:
    """Folder → its line of explanation."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = text.partition("## Layout")[2].split("```")[1]
    folders, parent = {}, ""
    for line in block.strip("\n").splitlines():
        name, _, explanation = line.strip().partition(" ")
        if line.startswith(" "):
            name = parent + name
        else:
            parent = name
        folders[name.rstrip("/")] = explanation.strip()
    return folders


def tracked() -> set[str]:
    """Folders of the repository, and within them the folders that hold Python code."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    found = set()
    for path in map(PurePosixPath, listed.splitlines()):
        top, *rest = path.parts[:-1] or (".",)
        if top.startswith("."):
            continue
        found.add(top)
        if rest and path.suffix == ".py" and top not in NAMES_OF_ITS_OWN:
            found.add(f"{top}/{rest[0]}")
    return found


def test_the_picture_shows_every_folder_and_no_other() -> None:
    assert set(pictured()) == tracked()


def test_every_folder_of_the_picture_is_explained() -> None:
    assert [folder for folder, explanation in pictured().items() if not explanation] == []
