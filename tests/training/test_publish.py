"""What publish.py makes of the front: the figures of an entry, and what it refuses."""

import json
import shutil

import publish
import pytest
from tiny_run import FRONT

import limpq_hub
from limpq_hub.errors import ArtifactFormatError, TrainingError
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
        ("no front", " is not JSON: Expecting value: line 1 column 1 (char 0); is this the right file?"),
        ("[]", " must be an object, found []"),
        ("{}", ": joint is missing"),
        ('{"joint": {}}', ": joint must be a list, found {}"),
        ('{"joint": [3]}', ": joint must be an object, found 3"),
        *(
            (json.dumps({"joint": [RECORD, {name: RECORD[name] for name in RECORD if name != key}]}), message)
            for key, message in ((key, f": joint: {key} is missing") for key in RECORD)
        ),
        (json.dumps({"joint": [RECORD | {"bitops": 3.5}]}), ": joint: bitops must be a whole number, found 3.5"),
        (json.dumps({"joint": [RECORD | {"top1": "1.5"}]}), ": joint: top1 must be a number, found '1.5'"),
        (json.dumps({"joint": [RECORD]}), ": supernet_sha256 is missing"),
        ('{"joint": [{"top1": NaN}]}', ": NaN is not a number that can be used"),
    ],
)
def test_a_malformed_front_is_refused_and_the_entry_there_kept(runs, tmp_path, text, message):
    shutil.copytree(runs / "entry", tmp_path / "entry")
    (tmp_path / "front.json").write_text(text)
    with pytest.raises(ArtifactFormatError) as caught:
        publish.main(
            ["--joint", f"{runs}/joint", "--front", f"{tmp_path}/front.json", "--output", str(tmp_path / "entry")]
        )
    assert str(caught.value) == f"{tmp_path}/front.json{message}"
    assert find_entry(f"local-dir:{tmp_path}/entry").published[0].name == "w4a4"


def test_a_front_of_another_supernet_is_refused(runs, tmp_path):
    front = json.loads((runs / "front.json").read_text()) | {"supernet_sha256": "0" * 64}
    (tmp_path / "front.json").write_text(json.dumps(front))
    with pytest.raises(TrainingError) as caught:
        publish.main(
            ["--joint", f"{runs}/joint", "--front", f"{tmp_path}/front.json", "--output", str(tmp_path / "entry")]
        )
    assert str(caught.value) == (
        f"--front {tmp_path}/front.json was measured on another supernet than that of --joint {runs}/joint; measure it "
        f"with training/front.py --model local-dir:{runs}/joint"
    )
    assert not (tmp_path / "entry").exists()
