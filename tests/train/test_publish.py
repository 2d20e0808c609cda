"""What publish.py makes of the front: the figures of an entry, and what it refuses."""

import dataclasses
import json
import re
import shutil

import pytest
from tiny_run import FRONT

import limpq_hub
from limpq_hub import Indicators
from limpq_hub.errors import ArtifactFormatError, ArtifactIntegrityError, HubNotFoundError, PolicyError, TrainingError
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.train import publish
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.loading import NotFineTunedWarning

RECORD = {"policy_sha256": "0f", "bitops": 3, "top1": 1.5, "calibration_images": 0}


def test_the_entry_holds_the_records_of_the_front_and_how_they_came_about(runs):
    front = json.loads((runs / "front.json").read_text())
    metrics = find_entry(f"local-dir:{runs}/entry").folder.read_json("metrics.json")
    assert metrics.keys() == {"float", "joint", "joint_provenance"}
    assert metrics["joint"] == front["joint"]
    assert metrics["joint_provenance"] == {key: value for key, value in front.items() if key != "joint"}
    assert metrics["joint_provenance"]["data"]["validation_images"] == 48
    assert metrics["float"] == json.loads((runs / "joint/metrics.json").read_text())["float"]


@pytest.mark.parametrize("place", range(len(FRONT)))
def test_what_was_measured_as_shipped_is_told_when_the_joint_weights_are_loaded(runs, place):
    with pytest.warns(NotFineTunedWarning):
        model = limpq_hub.load(f"local-dir:{runs}/entry", bitops=FRONT[place], weights="joint")
    record = json.loads((runs / "front.json").read_text())["joint"][2 * place]
    assert model.limpq.plan.policy.digest() == record["policy_sha256"]
    assert model.limpq.top1 == record["top1"]


def test_an_entry_without_a_front_has_no_figures_of_the_joint_weights(runs, tmp_path):
    publish.main(["--joint", f"{runs}/joint", "--output", str(tmp_path / "entry")])
    metrics = find_entry(f"local-dir:{tmp_path}/entry").folder.read_json("metrics.json")
    assert metrics == json.loads((runs / "joint/metrics.json").read_text())
    assert metrics["joint"] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no front", "{} is not JSON: Expecting value: line 1 column 1 (char 0); is this the right file?"),
        ("[]", "front must be an object, found []"),
        ("{}", "front: joint is missing"),
        ('{"joint": {}}', "front: joint must be a list, found {}"),
        ('{"joint": [3]}', "front: joint must be an object, found 3"),
        *(
            (json.dumps({"joint": [RECORD, {name: RECORD[name] for name in RECORD if name != key}]}), message)
            for key, message in ((key, f"front: joint: {key} is missing") for key in RECORD)
        ),
        (json.dumps({"joint": [RECORD | {"bitops": 3.5}]}), "front: joint: bitops must be a whole number, found 3.5"),
        (json.dumps({"joint": [RECORD | {"top1": "1.5"}]}), "front: joint: top1 must be a number, found '1.5'"),
        (json.dumps({"joint": [RECORD]}), "front: supernet_sha256 is missing"),
        ('{"joint": [{"top1": NaN}]}', "{}: NaN is not a number that can be used"),
    ],
)
def test_a_malformed_front_is_refused_and_the_entry_there_kept(runs, tmp_path, text, message):
    shutil.copytree(runs / "entry", tmp_path / "entry")
    (tmp_path / "front.json").write_text(text)
    with pytest.raises(ArtifactFormatError) as caught:
        publish.main(
            ["--joint", f"{runs}/joint", "--front", f"{tmp_path}/front.json", "--output", str(tmp_path / "entry")]
        )
    named = message if message.startswith("front") else message.format(tmp_path / "front.json")
    assert str(caught.value) == named
    assert find_entry(f"local-dir:{tmp_path}/entry").published[0].name == "w4a4"


def test_a_front_of_another_supernet_is_refused(runs, tmp_path):
    front = json.loads((runs / "front.json").read_text()) | {"supernet_sha256": "0" * 64}
    (tmp_path / "front.json").write_text(json.dumps(front))
    with pytest.raises(ArtifactFormatError) as caught:
        publish.main(
            ["--joint", f"{runs}/joint", "--front", f"{tmp_path}/front.json", "--output", str(tmp_path / "entry")]
        )
    assert str(caught.value) == (
        f"the front was measured on another supernet than that of {runs}/joint; measure it with: accelerate "
        f"launch -m limpq_hub.train.front --model local-dir:{runs}/joint"
    )
    assert not (tmp_path / "entry").exists()


@pytest.mark.parametrize("pair", ["w4a4", "=out/w4a4", "w4a4=", ""])
def test_a_checkpoint_that_is_no_pair_is_refused(runs, tmp_path, pair):
    with pytest.raises(TrainingError, match=f"^--checkpoint '{pair}' is not NAME=DIR, for example 3G=out/resnet18-3G$"):
        publish.main(["--joint", f"{runs}/joint", "--checkpoint", pair, "--output", str(tmp_path / "entry")])
    assert list(tmp_path.iterdir()) == []


def test_one_name_for_two_checkpoints_is_refused(runs, tmp_path):
    checkpoints = ["--checkpoint", f"a={runs}/w4a4", "--checkpoint", "a=out/other"]
    with pytest.raises(TrainingError) as caught:
        publish.main(["--joint", f"{runs}/joint", *checkpoints, "--output", str(tmp_path / "entry")])
    assert str(caught.value) == f"--checkpoint 'a' is given for {runs}/w4a4 and for out/other; give one another name"
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_without_a_name_is_answered_with_that_of_its_folder(runs, tmp_path):
    folder = tmp_path / "my runs" / "w4a4"
    folder.mkdir(parents=True)
    with pytest.raises(TrainingError) as caught:
        publish.main(["--joint", f"{runs}/joint", "--checkpoint", str(folder), "--output", str(tmp_path / "entry")])
    assert str(caught.value) == f"--checkpoint '{folder}' is not NAME=DIR, write --checkpoint 'w4a4={folder}'"


def test_a_checkpoint_folder_that_is_not_there_is_told_as_such(runs, tmp_path):
    with pytest.raises(ArtifactIntegrityError, match="^'.*/nowhere': there is no such folder; give the output folder"):
        publish.main(
            ["--joint", f"{runs}/joint", "--checkpoint", f"w4a4={tmp_path}/nowhere", "--output", f"{tmp_path}/e"]
        )


@pytest.mark.parametrize(("name", "warned"), [("w3a3", True), ("1M", True), ("w5a5", False), ("mine", False)])
def test_a_checkpoint_that_takes_more_than_its_name_says_is_told(runs, tmp_path, capsys, name, warned):
    publish.main(["--joint", f"{runs}/joint", "--checkpoint", f"{name}={runs}/w4a4", "--output", f"{tmp_path}/entry"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert len(lines) == warned
    if warned:
        assert re.search(
            rf"policy {name} takes .*M BitOps, more than the .*M that its name says: was .*w4a4 meant\?", lines[0]
        )


def test_folders_may_be_named_as_other_commands_name_them(runs, tmp_path):
    folders = ["--joint", f"local-dir:{runs}/joint", "--checkpoint", f"w4a4=local-dir:{runs}/w4a4"]
    publish.main([*folders, "--output", str(tmp_path / "entry")])
    assert [policy.name for policy in find_entry(f"local-dir:{tmp_path}/entry").published] == ["w4a4"]


def test_the_joint_folder_is_not_replaced(runs):
    for output in (f"{runs}/joint", f"{runs}/entry/../joint"):
        with pytest.raises(TrainingError, match="^--output would replace --joint; choose another --output$"):
            publish.main(["--joint", f"{runs}/joint", "--output", output])


def test_without_a_repository_nothing_is_sent_and_the_next_command_is_told(online, runs, tmp_path, capsys):
    publish.main(["--joint", f"{runs}/joint", "--output", str(tmp_path / "entry")])
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{tmp_path}/entry: 0 policies, [0-9.]+ MB in all", said[0])
    model = f"local-dir:{tmp_path}/entry"
    assert said[1] == f"next: limpq predict PICTURE --model {model} --bitops w4a4"
    assert said[2] == f"to publish it for everyone, or with --private: limpq push {model} you/test_resnet-limpq"
    assert online.hub.requests == []


@pytest.mark.parametrize(("name", "budget"), [("6G", "6G"), ("small", "w4a4"), ("1M", "w4a4")])
def test_the_next_command_leads_to_what_was_fine_tuned_where_its_name_is_a_budget(runs, tmp_path, capsys, name, budget):
    publish.main(["--joint", f"{runs}/joint", "--checkpoint", f"{name}={runs}/w4a4", "--output", f"{tmp_path}/entry"])
    model = f"local-dir:{tmp_path}/entry"
    assert f"next: limpq predict PICTURE --model {model} --bitops {budget}" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    "option",
    ["--tag v1", "--tag=", "--license mit", "--private", "--create-pr", "--revision next", "--base-model you/float"],
)
def test_what_only_a_push_takes_is_refused_without_a_repository(runs, tmp_path, option):
    name = option.split()[0].rstrip("=")
    with pytest.raises(TrainingError, match=f"^{name} is for what --repo-id publishes; give both, or neither$"):
        publish.main(["--joint", f"{runs}/joint", "--output", str(tmp_path / "entry"), *option.split()])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_with_a_repository_the_entry_is_published_as_the_options_say(online, runs, tmp_path, capsys):
    made = ["--joint", f"{runs}/joint", "--checkpoint", f"w4a4={runs}/w4a4", "--output", str(tmp_path / "entry")]
    card = ["--license", "apache-2.0", "--base-model", "you/float"]
    publish.main([*made, *card, "--repo-id", "you/net", "--private", "--revision", "next", "--tag", "paper"])
    references = online.hub.references("you/net")
    commit = references["refs/heads/next"]
    assert references["refs/tags/paper"] == commit != references["refs/heads/main"]
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"published you/net@{commit[:12]}, tag paper; next: limpq search hf-hub:you/net --bitops w4a4"
    readme = online.hub.files("you/net", "next")["README.md"].decode()
    assert "license: apache-2.0" in readme
    assert "base_model: you/float" in readme
    entry = find_entry("hf-hub:you/net@paper", cache_dir=online.cache)
    assert [published.name for published in entry.published] == ["w4a4"]
    assert entry.folder.config["dataset"] == entry.indicators.provenance["data"]["name"]
    with pytest.raises(HubNotFoundError):
        find_entry("hf-hub:you/net@paper", cache_dir=str(tmp_path / "other"), token=online.hub.other_token)
    publish.main([*made, "--repo-id", "you/net", "--create-pr"])
    assert "refs/pr/1" in online.hub.references("you/net")
    assert ", tag" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_the_licence_on_the_card_beside_the_joint_training_is_published(online, runs, tmp_path):
    shutil.copytree(runs / "joint", tmp_path / "joint")
    (tmp_path / "joint" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    publish.main(["--joint", f"{tmp_path}/joint", "--output", f"{tmp_path}/entry", "--repo-id", "you/net"])
    assert "license: apache-2.0" in online.hub.files("you/net")["README.md"].decode()


@pytest.fixture
def measured(runs, tmp_path):
    """The indicators of the joint training with a divergence for each pair of bits, as `limpq measure` writes them."""
    trained = Indicators.load(runs / "joint/indicators.json")
    pairs = {
        name: {
            LayerBits(weight, activation): 1.0 / (weight * activation)
            for weight in steps
            for activation in trained.activation_steps[name]
        }
        for name, steps in trained.weight_steps.items()
    }
    provenance = dict(trained.provenance) | {"divergences": {"images": 6}}
    indicators = dataclasses.replace(trained, divergences=pairs, provenance=provenance)
    indicators.save(tmp_path / "measured.json")
    return indicators


@pytest.mark.parametrize("importance", [None, "learned", "measured"])
def test_measured_pairs_are_published_and_what_a_search_adds_up_is_chosen(runs, tmp_path, measured, importance):
    words = ["--joint", f"{runs}/joint", "--indicators", f"{tmp_path}/measured.json", "--output", f"{tmp_path}/entry"]
    publish.main([*words, *(["--importance", importance] if importance else [])])
    published = find_entry(f"local-dir:{tmp_path}/entry").indicators
    assert published == measured.using(importance)
    found = limpq_hub.search(f"local-dir:{tmp_path}/entry", bitops="w3a3").policy
    expected = limpq_hub.search(measured, bitops="w3a3", importance=importance or "learned").policy
    assert found == expected


def test_coupled_steps_are_published_with_how_far_apart_bits_may_be_and_why(runs, tmp_path, measured):
    folder = f"{tmp_path}/entry"
    words = ["--joint", f"{runs}/joint", "--output", folder]
    publish.main([*words, "--importance", "coupled", "--apart", "1", "--reason", " It was\n the best of six. "])
    published = find_entry(f"local-dir:{folder}").indicators
    assert (published.objective, published.apart) == ("coupled", 1)
    assert published.provenance["objective_reason"] == "It was the best of six."
    found = limpq_hub.search(f"local-dir:{folder}", bitops="w3a3").policy
    assert found == limpq_hub.search(measured, bitops="w3a3", importance="coupled", apart=1).policy
    assert found != limpq_hub.search(measured, bitops="w3a3", importance="learned").policy
    # Again from there: measured pairs are of the same training, and a reason goes with what it is the reason of.
    again = ["--joint", folder, "--indicators", f"{tmp_path}/measured.json", "--output", f"{tmp_path}/again"]
    publish.main([*again, "--importance", "measured"])
    assert find_entry(f"local-dir:{tmp_path}/again").indicators == measured.using("measured")
    publish.main(["--joint", folder, "--output", f"{tmp_path}/same"])
    assert find_entry(f"local-dir:{tmp_path}/same").indicators == published
    publish.main(["--joint", folder, "--output", f"{tmp_path}/other", "--apart", "0"])
    other = find_entry(f"local-dir:{tmp_path}/other").indicators
    assert (other.objective, other.apart, "objective_reason" in other.provenance) == ("coupled", 0, False)


@pytest.mark.parametrize(
    ("options", "changed"),
    [([], False), (["--importance", "learned"], False), (["--importance", "coupled"], True), (["--apart", "2"], True)],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_front_of_another_search_is_left_out_and_told(runs, tmp_path, capsys, options, changed):
    publish.main(["--joint", f"{runs}/entry", *options, "--output", f"{tmp_path}/entry"])
    before, after = (find_entry(f"local-dir:{folder}/entry").metrics for folder in (runs, tmp_path))
    assert after == ({"float": before["float"], "joint": []} if changed else before)
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    told = [
        f"note: the front of {runs}/entry is left out: it lies along another search",
        "note: the BatchNorm statistics lie along another search; measure them with: python -m "
        f"limpq_hub.train.anchors --model local-dir:{tmp_path}/entry --data FOLDER --output OUTPUT",
    ]
    assert notes == (told if changed else [])


def test_indicators_of_another_training_are_not_published(runs, tmp_path, measured):
    dataclasses.replace(measured, alpha=measured.alpha + 1).save(tmp_path / "measured.json")
    with pytest.raises(ArtifactFormatError, match="are of another training of .* than the entry; measure those of the"):
        publish.main(
            ["--joint", f"{runs}/joint", "--indicators", f"{tmp_path}/measured.json", "--output", f"{tmp_path}/entry"]
        )
    assert not (tmp_path / "entry").exists()


def test_what_was_not_measured_cannot_be_what_a_search_adds_up(runs, tmp_path, reseal):
    joint = shutil.copytree(runs / "entry", tmp_path / "joint")
    dataclasses.replace(Indicators.load(joint / "indicators.json"), divergences={}).save(joint / "indicators.json")
    reseal(joint)
    with pytest.raises(PolicyError, match="were not measured; measure them with: limpq measure"):
        publish.main(["--joint", f"{joint}", "--importance", "measured", "--output", f"{tmp_path}/entry"])
    assert not (tmp_path / "entry").exists()


def test_pairs_that_the_joint_training_measured_can_be_what_a_search_adds_up(runs, tmp_path):
    publish.main(["--joint", f"{runs}/joint", "--importance", "measured", "--output", f"{tmp_path}/entry"])
    published, trained = (
        find_entry(f"local-dir:{folder}").indicators for folder in (f"{tmp_path}/entry", f"{runs}/joint")
    )
    assert published == trained.using("measured")
    assert (published.objective, trained.objective) == ("measured", "learned")
