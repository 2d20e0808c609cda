"""`limpq measure`: pairs of bits on pictures without labels, cut off and continued, and the search in what it found."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image

from limpq_hub import Indicators
from limpq_hub.pictures.preparation import preparation_of
from limpq_hub.pictures.reading import read_picture
from limpq_hub.plan.progress_file import progress_file_of
from limpq_hub.quant.convert import set_policy_
from limpq_hub.quant.pair_divergence import pair_divergences
from limpq_hub.train import progress
from limpq_hub.train.measure import pair_importance
from limpq_hub.train.measure.pair_importance import Measuring
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import load_float_network, load_supernet
from limpq_hub.zoo.network import NetworkSpec


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "inside").mkdir(parents=True)
    for index in range(6):
        Image.effect_noise((40 + index, 34), 60 + index).save(folder / ("inside" if index % 2 else "") / f"{index}.png")
    return folder


def measured_directly(folder, pictures) -> dict:
    """Return the divergences of the joint weights, measured in one call on all pictures."""
    entry = find_entry(f"local-dir:{folder}")
    prepare = preparation_of(NetworkSpec.from_config(entry.folder.config, entry.name))
    images = torch.stack([prepare(read_picture(path)) for path in sorted(pictures.rglob("*.png"))])
    with torch.no_grad():
        reference = load_float_network(entry.folder)(images).log_softmax(-1)
    supernet = set_policy_(load_supernet(entry.folder, entry.indicators), entry.indicators.most_bits())
    return dict(pair_divergences(supernet, [images], [reference], background=entry.indicators.most_bits()))


def test_all_pairs_are_measured_and_the_search_in_them_follows(limpq, with_float, pictures, tmp_path):
    output, name = tmp_path / "indicators.json", f"local-dir:{with_float}"
    words = ("measure", name, "--images", pictures, "--others", 8, "--output", output)
    code, out, err = limpq(*words)
    assert (code, out) == (0, "")
    assert f"measured on 6 pictures, in {output}" in err
    assert f"next: limpq search {output} --bitops w3a3 --importance measured" in err
    indicators = Indicators.load(output)
    expected = measured_directly(with_float, pictures)
    assert list(indicators.divergences) == list(indicators.weight_steps)
    for layer, of_pairs in indicators.divergences.items():
        for bits, divergence in of_pairs.items():
            assert divergence == pytest.approx(max(0.0, expected[layer][bits]), rel=1e-4, abs=1e-6), (layer, bits)
    assert indicators.objective == "learned"
    how = indicators.provenance["divergences"]
    assert (how["weights"], how["others"], how["images"]) == ("joint", 8, 6)
    code, out, err = limpq("search", output, "--bitops", "w3a3", "--importance", "measured", "--json")
    assert (code, json.loads(out)["importance"]) == (0, "measured")
    code, out, err = limpq("explain", output, "--bitops", "w3a3", "--importance", "measured", "--json")
    assert (code, json.loads(out)["plan"]["importance"]) == (0, "measured"), err
    code, out, err = limpq("frontier", output, "--points", 3, "--importance", "measured", "--json")
    assert (code, {plan.get("importance") for plan in json.loads(out)}) == (0, {"measured"}), err
    code, out, err = limpq("search", name, "--bitops", "w3a3", "--importance", "measured")
    assert code == 2
    assert "were not measured; measure them with: limpq measure" in err


@pytest.mark.parametrize(
    ("words", "weights", "others"),
    [((), "joint", 3), (("--weights", "float"), "float", None), (("--weights", "float", "--others", 2), "float", 2)],
)
def test_the_other_layers_are_at_what_chose_best_or_at_what_is_asked_for(
    limpq, with_float, pictures, tmp_path, words, weights, others
):
    output = tmp_path / "indicators.json"
    code, _, err = limpq(
        "measure", f"local-dir:{with_float}", "--images", pictures, "--count", 2, *words, "--output", output
    )
    assert code == 0, err
    how = Indicators.load(output).provenance["divergences"]
    assert (how["weights"], how["others"]) == (weights, others)


def test_a_measurement_that_was_cut_off_goes_on_and_gives_the_same_file(
    limpq, with_float, pictures, tmp_path, monkeypatch
):
    name, whole, cut = f"local-dir:{with_float}", tmp_path / "whole.json", tmp_path / "cut.json"
    words = ("measure", name, "--images", pictures, "--count", 4, "--output")
    assert limpq(*words, whole)[0] == 0
    written, measured_in = [], []

    def write_twice(path, content):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        pair_importance_write(path, content)

    pair_importance_write = pair_importance.write_json
    monkeypatch.setattr(pair_importance, "write_json", write_twice)
    code, _, err = limpq(*words, cut)
    assert code == 130
    kept = tmp_path / ".cut.json.measured"
    assert f"{kept} keeps what was measured: the same command goes on from there\n" in err
    assert (cut.exists(), kept.exists()) == (False, True)
    monkeypatch.setattr(pair_importance, "write_json", pair_importance_write)
    divergences_of = pair_importance.pair_divergences

    def noting(*arguments, layers, **options):
        measured_in.append(list(layers))
        return divergences_of(*arguments, layers=layers, **options)

    monkeypatch.setattr(pair_importance, "pair_divergences", noting)
    assert limpq(*words, cut)[0] == 0
    assert cut.read_text() == whole.read_text()
    assert measured_in == [list(Indicators.load(whole).weight_steps)[2:]]
    assert [path.name for path in tmp_path.iterdir() if "measured" in path.name] == []


def test_what_was_measured_is_kept_where_it_cannot_be_saved(limpq, with_float, pictures, tmp_path, monkeypatch):
    output = tmp_path / "indicators.json"
    words = ("measure", f"local-dir:{with_float}", "--images", pictures, "--count", 2, "--output", output)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Indicators, "save", full)
        code, _, err = limpq(*words)
    assert (code, output.exists()) == (3, False), err
    monkeypatch.setattr(pair_importance, "pair_divergences", lambda *arguments, **options: pytest.fail("measured anew"))
    code, _, err = limpq(*words)
    assert (code, len(Indicators.load(output).divergences) > 0) == (0, True), err
    assert [path.name for path in tmp_path.iterdir() if "measured" in path.name] == []


@pytest.mark.parametrize("name", ["indicators", "indicators.txt", ".json.gz"])
def test_a_file_that_a_search_would_not_take_is_refused_before_anything_is_measured(limpq, pictures, tmp_path, name):
    code, _, err = limpq("measure", "resnet18", "--images", pictures, "--output", tmp_path / name)
    told = f"'{tmp_path / name}' does not end in .json, and the commands that take it go by that; for example "
    assert (code, f"{told}{tmp_path / 'indicators.json'}" in err) == (2, True), err
    assert [path.name for path in tmp_path.iterdir()] == [pictures.name]


def test_a_measurement_without_a_terminal_says_in_lines_what_is_left_and_takes_threads(
    limpq, with_float, pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0)
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    words = ("measure", f"local-dir:{with_float}", "--images", pictures, "--count", 2, "--output")
    code, out, err = limpq(*words, tmp_path / "one.json", "--threads", 1)
    assert (code, out, asked) == (0, "", [1])
    layers = len(Indicators.load(tmp_path / "one.json").weight_steps)
    first, *lines = [line for line in err.splitlines() if "measuring the importance" in line]
    assert first == f"measuring the importance: {layers} layers"
    assert [line.split(" · ")[0] for line in lines[-layers:]] == [
        f"layers {done}/{layers}" for done in range(1, layers + 1)
    ]
    assert lines[-1].endswith("· 0.0 min left")
    assert limpq(*words, tmp_path / "other.json")[0] == 0
    assert asked == [1]  # not given, it is left as it was
    assert limpq(*words, tmp_path / "none.json", "--threads", 0)[0] == 2


def test_other_pictures_do_not_go_on_where_some_were_measured(limpq, with_float, pictures, tmp_path):
    output = tmp_path / "indicators.json"
    (tmp_path / ".indicators.json.measured").write_text(json.dumps({"digest": "0" * 64, "divergences": {}}))
    code, _, err = limpq("measure", f"local-dir:{with_float}", "--images", pictures, "--output", output)
    assert (code, output.exists()) == (5, False)
    assert "is of another measurement: other pictures or batches, another entry, other weights" in err


def test_a_measurement_is_the_same_whatever_is_said_or_published_of_its_networks(with_float, reseal):
    def digest(weights="joint", others=3, images=1.0) -> str:
        entry = find_entry(f"local-dir:{with_float}")
        return Measuring(entry, [torch.full((2, 3, 32, 32), images)], weights, others).digest()

    whole = digest()
    assert len({whole, digest(weights="float"), digest(others=None), digest(images=0.5)}) == 4
    file = with_float / "indicators.json"
    indicators = Indicators.load(file)
    replace(indicators, alpha=9.0, provenance={"seconds": 1.5}).save(file)
    shutil.rmtree(with_float / "policies")
    (with_float / "metrics.json").unlink()
    reseal(with_float)
    assert digest() == whole
    steps = {name: dict(list(of_layer.items())[1:]) for name, of_layer in indicators.weight_steps.items()}
    replace(indicators, weight_steps=steps).save(file)
    reseal(with_float)
    assert digest() != whole


def test_an_output_of_as_long_a_name_as_a_file_can_have_keeps_what_was_measured_too(tmp_path):
    long = tmp_path / ("x" * 250 + ".json")
    for output in (long, long.with_name("y" + long.name[1:]), tmp_path / "short.json"):
        with progress_file_of(output) as kept:
            assert kept.parent == tmp_path
            kept.write_text("")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_without_pictures_is_refused(limpq, with_float, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, told in (
        ("empty", "holds no picture; is this the right folder?"),
        ("nowhere", "there is no such folder"),
    ):
        words = ("--images", tmp_path / folder, "--output", tmp_path / "indicators.json")
        code, _, err = limpq("measure", f"local-dir:{with_float}", *words)
        assert code == 3
        assert told in err


def test_a_measurement_is_written_into_a_stream_beside_which_nothing_can_be_kept(limpq, with_float, pictures, tmp_path):
    words = ("measure", f"local-dir:{with_float}", "--images", pictures, "--count", 2, "--output")
    with (tmp_path / "indicators.json").open("w") as stream:
        code, _, err = limpq(*words, f"/dev/fd/{stream.fileno()}")
    assert code == 0, err
    assert Indicators.load(tmp_path / "indicators.json").divergences


def test_what_another_run_has_taken_away_at_its_end_is_not_missed(
    limpq, with_float, pictures, tiny, tmp_path, monkeypatch
):
    def end_after_another(measuring, kept, *, tell):
        kept.unlink(missing_ok=True)
        return tiny.indicators

    monkeypatch.setattr(pair_importance, "measured_indicators", end_after_another)
    monkeypatch.setattr("limpq_hub.cli.measuring.first_budget", lambda indicators, **asked: "w3a3")
    output = tmp_path / "indicators.json"
    code, _, err = limpq("measure", f"local-dir:{with_float}", "--images", pictures, "--output", output)
    assert (code, output.exists()) == (0, True), err


def test_a_folder_to_write_is_refused_before_anything_is_measured(limpq, tmp_path):
    for command in ("measure resnet18 --images nowhere", "measure-latency resnet18"):
        code, _, err = limpq(*command.split(), "--output", tmp_path)
        assert code == 2
        told = f"argument --output: '{tmp_path}' is a folder, and a file is to be written; name one, for example"
        assert f"{told} {tmp_path}/" in err


@pytest.mark.parametrize("typed", ["８", "0_8", "9", "1"])
def test_the_most_bits_of_all_other_layers_are_ascii_digits_from_2_to_8(limpq, typed):
    code, out, err = limpq("measure", "no_such", "--images", "pictures", "--output", "out.json", "--others", typed)
    assert (code, out) == (2, "")
    assert f"argument --others: {typed!r} is not a whole number of at least 2 and at most 8\n" in err
