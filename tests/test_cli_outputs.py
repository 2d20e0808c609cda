"""Tests of what commands write: it takes the place of nothing that they read, and of nothing that is sealed."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from limpq_hub.zoo.catalog import find_entry


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def own(tiny, tmp_path, monkeypatch):
    """A folder, the current one, with own.json, link.json to it, a table, and a pickle that ends in .json."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny.folder / "indicators.json", "own.json")
    os.symlink("own.json", "link.json")
    Path("table.csv").write_text("layer,weight_bits,activation_bits,time\nlayer1.0.conv1,2,2,1\n")
    Path("table.png").write_bytes(Path("table.csv").read_bytes())
    Path("steps.json").write_bytes(pickle.dumps({}))
    return tmp_path


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("search own.json --bitops w3a3 --output own.json", "--output 'own.json'"),
        ("search own.json --bitops w3a3 --output ./link.json", "--output 'link.json'"),
        ("search link.json --bitops w3a3 --output own.json", "--output 'own.json'"),
        ("search own.json --latency table.csv 3 --output table.csv", "--output 'table.csv'"),
        ("search own.json --energy table.png 3 --plot table.png", "--plot 'table.png'"),
        ("frontier own.json --latency table.png 3 --plot table.png", "--plot 'table.png'"),
        ("import steps.json --model test_resnet --output steps.json", "--output 'steps.json'"),
    ],
)
def test_a_file_that_is_read_is_not_written_over(own, limpq, command, told):
    before = content(own)
    code, out, err = limpq(*command.split())
    assert (code, out) == (2, "")
    assert err == (f"limpq {command.split()[0]}: {told} is a file that is read, and would be lost; name another one\n")
    assert content(own) == before


@pytest.mark.parametrize(
    "command",
    [
        "measure local-dir:{entry} --images pictures --output {file}",
        "measure resnet18 --images pictures --output {file}",
        "measure-latency local-dir:{entry} --output {file}",
        "search {entry}/indicators.json --bitops w3a3 --output {file}",
        "search resnet18 --bitops 3G --output {file}",
        "import steps.pkl --model test_resnet --output {file}",
    ],
)
@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("classes.json", "entry"),
        ("config.json", "entry"),
        ("link.json", "entry"),
        ("policies/small/policy.json", "checkpoint"),
    ],
)
def test_no_file_of_a_sealed_folder_is_written_over(entry_copy, limpq, command, file, kind):
    os.symlink("classes.json", entry_copy / "link.json")
    before = content(entry_copy)
    path = entry_copy / file
    code, out, err = limpq(*command.format(entry=entry_copy, file=path).split())
    assert (code, out) == (2, "")
    assert "which could not be opened any more; name another file\n" in err
    assert f"belongs to the {kind} in '{path.parent}'" in err
    assert content(entry_copy) == before
    find_entry(f"local-dir:{entry_copy}")


def test_a_file_beside_those_of_an_entry_is_written(entry_copy, limpq):
    path = entry_copy / "policy.json"
    for _ in range(2):
        assert limpq("search", f"local-dir:{entry_copy}", "--bitops", "w3a3", "--output", path)[0] == 0
    assert path.stat().st_size > 100
    find_entry(f"local-dir:{entry_copy}")


@pytest.mark.parametrize("seal", ["{", "[]", '{"files": 3, "kind": "entry"}', '{"architecture": "resnet18"}', "\xff"])
def test_a_config_that_is_no_seal_of_ours_guards_nothing(tmp_path, limpq, tiny, seal):
    (tmp_path / "config.json").write_text(seal, encoding="latin-1")
    path = tmp_path / "policy.json"
    path.write_text("old")
    assert limpq("search", tiny.name, "--bitops", "w3a3", "--output", path)[0] == 0
    assert path.stat().st_size > 100


def test_policy_and_figure_are_not_written_into_one_file(tmp_path, limpq, tiny):
    path = tmp_path / "both.png"
    code, out, err = limpq("search", tiny.name, "--bitops", "w3a3", "--output", path, "--plot", path)
    assert (code, out) == (2, "")
    assert err == f"limpq search: --output and --plot name one file, '{path}'; name two\n"
    assert not path.exists()


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ("search no_such --bitops 3G --output", "policy.json"),
        ("search no_such --bitops 3G --plot", "figure.png"),
        ("frontier no_such --plot", "figure.png"),
        ("import no.pkl --model no_such --output", "indicators.json"),
    ],
)
def test_a_folder_is_no_file_to_write_and_is_told_before_anything_is_looked_for(limpq, tmp_path, command, example):
    code, out, err = limpq(*command.split(), tmp_path)
    assert (code, out) == (2, "")
    assert f"'{tmp_path}' is a folder, and a file is to be written; name one, for example {tmp_path}/{example}\n" in err


def test_what_is_imported_is_written_under_a_name_that_the_other_commands_read(limpq, tmp_path):
    code, out, err = limpq("import", "no.pkl", "--model", "test_resnet", "--output", tmp_path / "steps.txt")
    assert (code, out) == (2, "")
    told = f"'{tmp_path}/steps.txt' does not end in .json, and the commands that take it go by that; for example"
    assert f"{told} {tmp_path}/indicators.json\n" in err


def test_what_went_into_a_stream_is_not_advised_as_a_file(limpq, tiny, tmp_path):
    kinds = {"weight": tiny.indicators.weight_steps, "act": tiny.indicators.activation_steps}
    steps = {kind: {name: dict(of_layer) for name, of_layer in layers.items()} for kind, layers in kinds.items()}
    (tmp_path / "steps.pkl").write_bytes(pickle.dumps(steps))
    network = ("--model", "test_resnet", "--input-size", 32, "--num-classes", 10)
    code, _, err = limpq("import", tmp_path / "steps.pkl", *network, "--output", os.devnull)
    assert (code, err) == (0, f"wrote {os.devnull}\n")
    code, _, err = limpq("search", tiny.name, "--bitops", "w3a3", "--output", os.devnull)
    assert code == 0
    assert err.endswith(f"next: limpq explain {tiny.name} --bitops w3a3\n")


def test_where_all_goes_to_the_null_device_json_and_file_may_go_there_both(own):
    words = ["search", "own.json", "--bitops", "w3a3", "--json", "--output", os.devnull]
    with open(os.devnull, "w") as null:
        done = subprocess.run([sys.executable, "-m", "limpq_hub", *words], stdout=null, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize(
    "command",
    [
        "search no_such --bitops w3a3",
        "measure-latency no_such",
        "measure no_such --images pictures",
        "import no.pkl --model test_resnet",
    ],
)
def test_a_file_is_not_written_between_the_json_that_is_printed(limpq, own, command, file):
    if command.startswith(("measure ", "import")):  # what they write must end in .json
        os.symlink(file, "out.json")
        file = "out.json"
    code, out, err = limpq(*command.split(), "--json", "--output", file)
    assert (code, out) == (2, "")
    assert err == (
        f"limpq {command.split()[0]}: --output '{file}' is where --json is printed, and no programme could read both "
        "in one; name another file, or leave --json out\n"
    )
