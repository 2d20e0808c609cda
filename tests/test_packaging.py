"""What ships and what is written of it: the wheel, the test command, the picture of the layout."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_wheel_holds_every_file_of_the_package(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("limpq_hub/")}
    tracked = subprocess.run(["git", "ls-files", "limpq_hub"], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = set(tracked.stdout.split())
    assert "limpq_hub/zoo/bundled/resnet18.tiny_imagenet/supernet.safetensors" in expected
    assert "limpq_hub/py.typed" in expected
    assert packed >= expected


def test_ci_runs_exactly_the_test_command_of_the_readme():
    command = next(line for line in README.splitlines() if line.endswith("-m pytest"))
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_picture_of_the_layout_names_every_room_of_the_package_and_no_other():
    contributing = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
    picture = contributing.split("## Layout")[1].split("```")[1]
    folders: list[str] = []
    drawn = set()
    for indent, name in re.findall(r"^( *)(\w+)/ ", picture, re.MULTILINE):
        folders = [*folders[: len(indent) // 2], name]
        drawn.add("/".join(folders))
    packages = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "limpq_hub").rglob("__init__.py")}
    assert packages - drawn == set(), "not in the picture"
    assert {folder for folder in drawn if not (ROOT / folder).is_dir()} == set(), "only in the picture"


def test_only_the_agreed_names_stand_at_the_top():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    top = {name.split("/")[0] for name in tracked}
    agreed = {"limpq_hub", "training", "app", "tests", "pyproject.toml", "README.md", "LICENSE"}
    assert {name for name in top if not name.startswith(".")} <= agreed
