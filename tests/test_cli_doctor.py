"""Tests of `limpq doctor`: what is here, what is missing and how it is installed, and whether the Hub answers."""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest
from huggingface_hub import constants

from limpq_hub import search
from limpq_hub.train import extras


@pytest.fixture
def findings(limpq):
    """A function that runs the command and returns what it found."""

    def found() -> dict[str, str]:
        code, out, err = limpq("doctor", "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return found


def test_versions_devices_solver_and_cache_are_told(findings, monkeypatch):
    monkeypatch.setattr("limpq_hub.cli.doctor.usable_cores", lambda: 3)
    found = findings()
    assert found["torch"] == version("torch")
    assert found["pillow"] == version("pillow")
    assert found["devices"].startswith("CPU with 3 cores")
    assert found["solver"] == f"proves an optimum ({search('resnet18', bitops='3G').bitops:,} BitOps)"
    assert found["cache"].startswith(constants.HF_HUB_CACHE)
    assert found["cache"].endswith(" free")


def test_offline_mode_is_told_and_nothing_asked(findings, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert findings()["Hub"].startswith("offline mode is on (HF_HUB_OFFLINE)")


def test_a_hub_that_answers_and_one_that_does_not_are_told_apart(findings, online, monkeypatch):
    assert findings()["Hub"].startswith(f"{constants.ENDPOINT} answers (")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert findings()["Hub"] == (
        "http://127.0.0.1:9, asked for 3 s at most: the connection to the Hub was refused; check the internet "
        "connection, and HF_ENDPOINT or HTTPS_PROXY if one is set; what is bundled or in the cache works all the same"
    )


def test_a_cache_that_cannot_be_written_is_told_with_what_to_set(findings, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert findings()["cache"].endswith(" cannot be written; set HF_HOME to a folder that can")


def test_a_cache_in_the_place_of_a_file_is_told_with_what_to_set(findings, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    folder = tmp_path / "file"
    assert findings()["cache"] == (
        f"{folder}/hub cannot be a folder: {folder} is a file; set HF_HOME to a folder that can be written"
    )


@pytest.mark.parametrize(
    ("package", "error", "broken", "told"),
    [
        ("torch", "OSError('libcudart.so.12: cannot open')", ["devices"], "OSError: 'libcudart.so.12: cannot open'"),
        ("torch", "SyntaxError('of another Python')", ["devices"], "SyntaxError: 'of another Python'"),
        ("huggingface_hub", None, ["cache", "Hub"], 'ImportError: "cannot import name '),
        ("torch", "AttributeError('half installed')", ["devices"], "AttributeError: 'half installed'"),
    ],
)
def test_what_is_broken_is_told_in_its_own_line_and_the_rest_all_the_same(tmp_path, package, error, broken, told):
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(f"raise {error}" if error else "")
    # In an entry of its own, before all others: a package of another version than this one needs.
    code = "import sys; sys.path.insert(0, sys.argv.pop()); from limpq_hub.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", "--json", str(tmp_path)],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [name for name, finding in found.items() if finding.startswith("does not work: ")] == broken
    assert all(found[name].startswith(f"does not work: {told}") for name in broken)


def test_missing_extras_are_told_with_the_line_that_installs_them(findings, monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "data", ("datasets", "no_such_module"))
    monkeypatch.setitem(extras.EXTRAS, "train", ("json",))
    found = findings()
    assert found["extra 'train'"] == "present"
    assert found["extra 'data'"].endswith(
        'no_such_module missing; data sets of the Hub (hfds/...) need it: pip install "limpq-hub[data]"'
    )


def test_a_missing_package_is_told(findings, monkeypatch):
    monkeypatch.setattr("limpq_hub.cli.doctor._PACKAGES", ("no-such-package",))
    assert findings()["no-such-package"] == "missing; pip install limpq-hub brings it"


def test_without_json_there_is_a_table(limpq):
    code, out, _ = limpq("doctor")
    assert code == 0
    assert "\n  solver" in out


def test_the_table_shows_the_name_of_a_missing_extra_in_its_brackets(limpq, monkeypatch):
    monkeypatch.setattr(extras, "EXTRAS", dict.fromkeys(extras.EXTRAS, ("no_such_module",)))
    code, out, _ = limpq("doctor")
    assert code == 0
    for extra in extras.EXTRAS:
        assert f'it: pip install "limpq-hub[{extra}]"' in out


@pytest.mark.parametrize(("threads", "told"), [(1, ", 1 thread of torch"), (3, ", 3 threads of torch")])
def test_threads_are_counted_in_the_right_number(findings, monkeypatch, threads, told):
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    assert told in findings()["devices"]
