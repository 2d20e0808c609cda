"""Tests of what many pictures say: the stored figures are of these weights and policies, and the command gives them."""

import json
import shutil

import _hub_models
import _measured
import _zoo
import measure
import pytest
import torch
from _actions import find_bits
from _hub_fetch import COMPLETE
from _measured import measured_of
from _request import Request
from _zoo import entry_of, first_model, rival_policies, searched_plan
from PIL import Image

from limpq_hub import list_models, load
from limpq_hub.errors import DataError
from limpq_hub.pictures import read_picture
from limpq_hub.pictures.preparation import preparation_of
from limpq_hub.zoo import catalog
from limpq_hub.zoo.entry_folder import load_float_network

MEASURED = [model for model in list_models() if measured_of(model) is not None]


def test_the_figures_of_the_first_entry_are_of_the_weights_that_it_has():
    assert first_model() in MEASURED


@pytest.mark.parametrize("model", MEASURED)
def test_each_figure_is_of_the_policy_that_the_page_shows_at_its_budget(model):
    measured = measured_of(model)
    assert measured.images >= 300
    for budget in measured.budgets:
        request = Request(model, budget.gigabitops)
        assert budget.searched.policy_sha256 == searched_plan(request).policy.digest()
        assert budget.uniform.policy_sha256 == rival_policies(request)["uniform filled"].digest()
        assert max(budget.searched.bitops, budget.uniform.bitops) <= budget.gigabitops * 1e9
        assert budget.kl_difference == pytest.approx(budget.searched.kl - budget.uniform.kl, abs=2e-5)


@pytest.fixture
def small(tmp_path, monkeypatch, with_float) -> str:
    """The tiny entry with its float network as the only bundled one, and nothing measured of it."""
    shutil.copytree(with_float, tmp_path / "bundled" / "tiny.noise")
    monkeypatch.setattr(catalog, "BUNDLED", tmp_path / "bundled")
    monkeypatch.setattr(_measured, "FILE", tmp_path / "measured.json")
    monkeypatch.setattr(measure, "FILE", tmp_path / "measured.json")
    for cache in (_zoo._opened, measured_of):
        cache.cache_clear()
    yield "tiny.noise"
    for cache in (_zoo._opened, measured_of):
        cache.cache_clear()


@pytest.fixture
def pictures(tmp_path):
    """Twelve pictures in the folders of three classes."""
    draw = torch.Generator().manual_seed(0)
    for place in range(12):
        folder = tmp_path / "DATA" / "val" / f"n000{place % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8, generator=draw)
        Image.fromarray(pixels.numpy()).save(folder / f"{place}.png")
    return tmp_path / "DATA" / "val"


def test_an_entry_without_figures_says_the_command_that_measures_it(small):
    request = Request(small, 0.05)
    assert f"python app/measure.py --model {small} --data FOLDER" in find_bits(request).headline
    assert find_bits(request).many == ""


@pytest.mark.filterwarnings("ignore::limpq_hub.zoo.loading.NotFineTunedWarning")
def test_the_command_measures_agreement_and_divergence_as_two_softmaxes_give_them(small, pictures, tmp_path):
    measure.main(["--model", small, "--data", str(pictures), "--images", "9"])
    record = json.loads((tmp_path / "measured.json").read_text())["models"][small]
    assert record["command"] == f"python app/measure.py --model {small} --data DATA/val --images 9"
    measured = measured_of(small)
    assert measured.images == 9
    policy = searched_plan(Request(small, measured.budgets[0].gigabitops)).policy
    network, entry = load(small, policy=policy, weights="joint"), entry_of(small)
    paths = sorted(pictures.glob("*/*"))
    prepare = preparation_of(network.limpq.network)
    images = torch.stack([prepare(read_picture(paths[place * 12 // 9])) for place in range(9)])
    with torch.inference_mode():
        ours = network(images).softmax(-1).double()
        reference = load_float_network(entry.folder)(images).softmax(-1).double()
    figures, same = measured.budgets[0].searched, ours.argmax(1) == reference.argmax(1)
    assert figures.agreement == pytest.approx(100 * same.double().mean().item(), abs=0.01)
    assert figures.kl == pytest.approx((reference * (reference / ours).log()).sum(1).mean().item(), abs=1e-4)
    assert "Here are 9 (DATA, val)" in find_bits(Request(small, 0.05)).many


@pytest.mark.parametrize("typed", ["0", "1", "1_0", "１０", "1" * 5000])
def test_how_many_pictures_is_a_whole_number_of_ascii_digits_from_two_on(small, capsys, typed):
    with pytest.raises(SystemExit):
        measure.main(["--model", small, "--data", "val", "--images", typed])
    assert "is not a whole number of at least 2 and at most 1000000\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "words", "told"),
    [
        ("DATA", ["--data", "data"], "--data DATA/data --images 4"),
        ("DATA", ["--data=data"], "--data DATA/data --images 4"),
        ("DATA/data", ["--data", "."], "--data DATA/data --images 4"),
        ("DATA/data/n0000", ["--dat", "../../data"], "--data DATA/data --images 4"),
    ],
)
def test_the_command_names_the_folder_wherever_it_was_typed(small, pictures, monkeypatch, folder, words, told):
    pictures.rename(pictures.with_name("data"))
    monkeypatch.chdir(pictures.parents[1] / folder)
    monkeypatch.setattr(measure, "measure", lambda model, data, images: {"from": data.name})
    measure.main(["--model", small, *words, "--images", "4"])
    record = json.loads(measure.FILE.read_text())["models"][small]
    assert record == {"from": "data", "command": f"python app/measure.py --model {small} {told}"}


@pytest.mark.parametrize("images", [1, 9])
def test_a_single_picture_is_refused_before_anything_is_measured(small, pictures, monkeypatch, images):
    monkeypatch.setattr(measure, "read_picture", lambda path: pytest.fail("a picture was read"))
    if images > 1:
        for path in sorted(pictures.glob("*/*"))[1:]:
            path.unlink()
    with pytest.raises(
        DataError, match="^of one picture there is no standard error: give --data a folder with more, a"
    ):
        measure.measure(small, pictures, images)


def test_a_folder_without_pictures_is_refused(small, tmp_path):
    with pytest.raises(DataError, match="holds no folders of pictures, or none are asked for: give --data FOLDER"):
        measure.measure(small, tmp_path, 500)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("tiny.noise", "measure.py: {data} holds no folders of pictures, or none are asked for: give --data FOLDER "),
        (
            "hf-hub:you/tiny",
            "measure.py: --model 'hf-hub:you/tiny' is not bundled, and no other is measured; use one of: ",
        ),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_line(small, tmp_path, capsys, model, message):
    with pytest.raises(SystemExit) as stop:
        measure.main(["--model", model, "--data", str(tmp_path / "bundled")])
    told = capsys.readouterr().err
    assert stop.value.code in (2, 3)
    assert told.startswith(message.format(data=tmp_path / "bundled"))
    assert told.count("\n") == 1


def test_no_command_is_advised_for_an_entry_of_the_hub_which_it_would_refuse(small, tmp_path, monkeypatch):
    name = "hf-hub:you/tiny@" + 40 * "a"
    request, fetched = Request(name, 0.05), _hub_models._folder() / ("you@tiny@" + 40 * "a")
    snapshot = fetched / "models--you--tiny" / "snapshots" / (40 * "a")
    shutil.copytree(tmp_path / "bundled" / small, snapshot)
    (fetched / COMPLETE).touch()
    try:
        told = find_bits(request).headline
    finally:
        shutil.rmtree(fetched)
    assert "How near they stay to the float network was not measured." in told
    assert "measure.py" not in told


@pytest.mark.parametrize("digest", ["supernet_sha256", "anchors_sha256"])
def test_figures_of_other_weights_are_not_shown(small, pictures, tmp_path, digest):
    measure.main(["--model", small, "--data", str(pictures), "--images", "3"])
    content = json.loads((tmp_path / "measured.json").read_text())
    assert measured_of(small) is not None
    content["models"][small][digest] = "0" * 64
    (tmp_path / "measured.json").write_text(json.dumps(content))
    measured_of.cache_clear()
    assert measured_of(small) is None
