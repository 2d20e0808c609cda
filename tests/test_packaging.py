"""What ships and what is written of it: the wheel, the test command, the picture of the layout."""

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from limpq_hub import __version__

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def extracted(tmp_path_factory) -> Path:
    """Return a folder with nothing in it but what the wheel holds."""
    root = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(root), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(root.glob("*.whl"))) as wheel:
        wheel.extractall(root / "extracted")
    return root / "extracted"


def test_the_wheel_holds_every_file_of_the_package(extracted):
    packed = {path.relative_to(extracted).as_posix() for path in extracted.rglob("*") if path.is_file()}
    tracked = subprocess.run(["git", "ls-files", "limpq_hub"], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = set(tracked.stdout.split())
    assert "limpq_hub/zoo/bundled/resnet18.tiny_imagenet/supernet.safetensors" in expected
    assert "limpq_hub/py.typed" in expected
    assert packed >= expected


def test_the_wheel_is_of_at_most_95_megabytes(extracted):
    (wheel,) = extracted.parent.glob("*.whl")
    assert wheel.stat().st_size <= 95_000_000


def test_the_wheel_holds_the_recipes(extracted):
    in_checkout, packed = ROOT / "training/recipes", extracted / "limpq_hub/train/recipes"
    assert {path.name: path.read_bytes() for path in packed.iterdir()} == {
        path.name: path.read_bytes() for path in in_checkout.iterdir()
    }


def run_from_the_wheel(extracted: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in an empty folder, with the package of the wheel before any other."""
    (extracted.parent / "empty").mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(extracted), "ACCELERATE_USE_CPU": "true", "COLUMNS": "300"}
    where = {"cwd": extracted.parent / "empty", "env": environment}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=240, **where)


def test_a_command_starts_from_the_wheel_by_its_module_and_knows_the_recipes(extracted):
    told = run_from_the_wheel(extracted, "-m", "limpq_hub.train.indicators", "--help")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("usage: accelerate launch -m limpq_hub.train.indicators [-h]")
    assert "one of paper-mobilenetv1, paper-resnet18" in told.stdout


@pytest.mark.slow
def test_what_the_wheel_says_comes_next_works_there(extracted):
    from PIL import Image

    where = extracted.parent / "empty"
    for split in ("train", "val"):
        for label in range(2):
            (where / f"my pictures/{split}/class{label}").mkdir(parents=True, exist_ok=True)
            for index in range(4):
                color = (20 * index, 100 * label, 0)
                Image.new("RGB", (32, 32), color).save(where / f"my pictures/{split}/class{label}/{index}.png")
    small = ["--model", "test_resnet", "--input-size", "32", "--batch-size", "4", "--workers", "0"]
    options = [*small, "--data", "my pictures", "--max-steps", "1", "--output", "float"]
    done = run_from_the_wheel(extracted, "-m", "limpq_hub.train.pretrain", *options)
    assert done.returncode == 0, done.stderr
    following = shlex.split(done.stdout.splitlines()[-1].removeprefix("next: "))
    assert following[:4] == ["accelerate", "launch", "-m", "limpq_hub.train.indicators"]
    assert following[following.index("--data") + 1] == "my pictures"
    short = ["--recipe", "paper-resnet18", "--batch-size", "4", "--workers", "0", "--max-steps", "1"]
    short += ["--anchor-gap", "99"]
    command = ["-m", "accelerate.commands.accelerate_cli", *following[1:], *short]
    done = run_from_the_wheel(extracted, *command)
    assert done.returncode == 0, done.stderr
    learned = json.loads((where / "out/joint/indicators.json").read_text())
    assert learned["alpha"] == 3  # of the recipe
    command = learned["provenance"]["command"]
    assert command.startswith("accelerate launch -m limpq_hub.train.indicators --model test_resnet")
    next_line, then_line = done.stdout.splitlines()[-2:]
    assert next_line == "next: limpq search out/joint/indicators.json --bitops w4a4"
    searched = run_from_the_wheel(extracted, "-m", "limpq_hub", *shlex.split(next_line)[2:])
    assert searched.returncode == 0, searched.stderr
    tuning = shlex.split(then_line.removeprefix("then: "))
    short = ["--batch-size", "4", "--workers", "0", "--max-steps", "1", "--calibrate-images", "4"]
    done = run_from_the_wheel(extracted, "-m", "accelerate.commands.accelerate_cli", *tuning[1:], *short)
    assert done.returncode == 0, done.stderr


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


def test_version_citation_and_changes_name_the_same_version():
    changes = (ROOT / ".github/CHANGELOG.md").read_text()
    assert re.search(r"^## (.+?), ", changes, re.MULTILINE)[1] == __version__
    assert f"\nversion: {__version__}\n" in (ROOT / ".github/CITATION.cff").read_text()
    wheel = f"limpq_hub-{__version__}-py3-none-any.whl"
    assert all(wheel in (ROOT / name).read_text() for name in ("training/README.md", "app/requirements.txt"))


def test_a_release_is_built_and_checked_then_tagged_then_published_and_only_publishing_may_sign():
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    assert [(name, job.get("needs")) for name, job in jobs.items()] == [
        ("build", None),
        ("tag", "build"),
        ("publish", "tag"),
    ]
    assert {name: job.get("permissions") for name, job in jobs.items()} == {
        "build": None,
        "tag": {"contents": "write"},
        "publish": {"id-token": "write"},
    }
    commands = [step["run"] for step in jobs["build"]["steps"] if "run" in step]
    assert ["bash .ci/run" in command for command in commands].index(True) < [
        "twine check --strict" in command for command in commands
    ].index(True)
    assert jobs["publish"]["steps"][-1]["uses"].startswith("pypa/gh-action-pypi-publish@")


def test_the_check_of_a_release_refuses_a_version_without_a_date_and_takes_one_with_it(tmp_path):
    steps = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]["build"]["steps"]
    (check,) = [step["run"] for step in steps if step.get("id") == "version"]
    for name in (".github/CHANGELOG.md", ".github/CITATION.cff", "limpq_hub/version.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run("git init -q . && git remote add origin .", shell=True, cwd=tmp_path, check=True)
    environment = os.environ | {"GITHUB_OUTPUT": str(tmp_path / "output"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    (tmp_path / "python").symlink_to(sys.executable)
    found = []
    for heading in ("not released", "2026-12-01"):
        changes = tmp_path / ".github/CHANGELOG.md"
        changes.write_text(re.sub(r"^## .*", f"## {__version__}, {heading}", changes.read_text(), count=1, flags=re.M))
        command = ["bash", "-e", "-c", check]
        found.append(subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True))
    assert (found[0].returncode, found[0].stdout) == (1, f"no date for {__version__} in CHANGELOG\n")
    assert (found[1].returncode, (tmp_path / "output").read_text()) == (0, f"version={__version__}\n")
