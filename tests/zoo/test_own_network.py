"""A network that timm does not have: the example of the guide runs, and entries of it load with its factory alone."""

from __future__ import annotations

import re
import shutil
from typing import Any

import pytest
import torch
from timm.models import _registry
from torch import nn

import limpq_hub
from limpq_hub.errors import ArtifactFormatError, UnknownModelError, UnsupportedLayerError
from limpq_hub.quant.frozen_layers import thaw_
from limpq_hub.train import publish
from limpq_hub.zoo import own_network as guide
from limpq_hub.zoo.card import render_card
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import save_entry, save_float_network
from limpq_hub.zoo.factory_path import architecture_at, factory_of
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.own_network import own_network, registered, use_factory
from limpq_hub.zoo.size_check import parameter_count


def other_net(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(num_classes))


@pytest.fixture(scope="module", autouse=True)
def _registry_of_before():
    """What is registered here is none of timm's for the tests that go over all of its networks."""
    known = {name: dict(getattr(_registry, name)) for name in ("_model_entrypoints", "_model_to_module")}
    yield
    for name, entries in known.items():
        getattr(_registry, name).clear()
        getattr(_registry, name).update(entries)
    _registry._module_to_models.pop("own_network", None)


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> dict[str, Any]:
    """The names that the example of the guide leaves, run in a module of its own called my_networks.small."""
    (program,) = re.findall(r"^```python\n(.*?)^```", guide.__doc__, re.MULTILINE | re.DOTALL)
    assert len(program.splitlines()) <= 60
    names: dict[str, Any] = {"__name__": "my_networks.small", "folder": tmp_path_factory.mktemp("own") / "entry"}
    torch.manual_seed(0)
    exec(program, names)
    return names


def test_the_example_of_the_guide_ends_in_a_network_that_computes_what_was_fine_tuned(example):
    model, tuned, images = (example[name] for name in ("model", "tuned", "images"))
    assert type(model).__name__ == "Net"
    assert (model.limpq.weights, model.limpq.plan.policy) == ("finetuned", example["plan"].policy)
    with torch.no_grad():
        assert torch.equal(thaw_(model)(images), tuned(images))
    assert NetworkSpec.of(model).architecture == "my_networks__small__Net"


def test_any_other_budget_of_an_own_network_is_served_from_the_joint_weights(example):
    told = (
        "was not fine-tuned .*; fine-tune it in a training loop of your own: python -m pydoc limpq_hub.zoo.own_network"
    )
    with pytest.warns(UserWarning, match=told):
        model = limpq_hub.load(f"local-dir:{example['folder']}", bitops="w2a2", build=example["Net"])
    assert model.limpq.weights == "joint"
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


def test_an_own_network_is_searched_and_listed_without_its_factory(example):
    entry = find_entry(f"local-dir:{example['folder']}")
    assert entry.summary()["architecture"] == "my_networks__small__Net"
    assert limpq_hub.search(entry.name, bitops="w3a3").policy == example["plan"].policy


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_an_own_network_is_published_and_loaded_from_the_hub(example, online):
    from limpq_hub.zoo.hub.publishing import push_entry

    push_entry(find_entry(f"local-dir:{example['folder']}"), "you/net")
    model = limpq_hub.load("hf-hub:you/net", bitops="w3a3", build=example["Net"], cache_dir=online.cache)
    with torch.no_grad():
        assert torch.equal(thaw_(model)(example["images"]), example["tuned"](example["images"]))


def test_the_card_of_an_own_network_loads_it_with_its_factory_and_names_no_command_that_takes_none(example, tmp_path):
    folder = shutil.copytree(example["folder"], tmp_path / "entry")
    own = example["network"]
    save_float_network(folder, own)
    save_entry(folder, example["supernet"], example["indicators"], example["classes"])
    card = render_card(find_entry(f"local-dir:{folder}"), "you/net")
    (program,) = re.findall(r"^```python\n(.*?)^```", card, re.MULTILINE | re.DOTALL)
    assert program.splitlines()[:2] == ["import limpq_hub", "from my_networks.small import Net"]
    assert re.search(r'^model = limpq_hub\.load\("hf-hub:you/net", bitops=\d+, build=Net\)$', program, re.MULTILINE)
    assert "in the files of `limpq_hub.export`" in card
    assert not [word for word in ("limpq export", "limpq predict", "accelerate") if word in card]


def test_publishing_an_own_network_says_how_it_is_loaded(example, tmp_path, capsys):
    publish.main(["--joint", str(example["folder"]), "--output", str(tmp_path / "entry")])
    told = capsys.readouterr().out
    assert re.search(rf'^next: limpq_hub\.load\("local-dir:{tmp_path}/entry", bitops="\S+", build=Net\)$', told, re.M)
    assert "limpq predict" not in told


@pytest.mark.parametrize(
    ("architecture", "factory"),
    [
        ("resnet18", None),
        ("my_networks__small__Net", ("my_networks.small", "Net")),
        ("__main____Net", ("__main__", "Net")),
        ("pkg___private__Net", ("pkg._private", "Net")),
        ("pkg___Net", ("pkg", "_Net")),
    ],
)
def test_the_factory_of_a_network_is_found_by_what_it_is_called(architecture, factory):
    assert factory_of(architecture) == factory
    assert factory is None or architecture_at(".".join(factory)) == architecture


def test_without_its_factory_an_own_network_is_refused_with_what_to_give_and_nothing_is_imported(example, run_python):
    code = f"""
import limpq_hub
try:
    limpq_hub.load("local-dir:{example["folder"]}", bitops="w3a3")
except limpq_hub.LimpqError as error:
    print(type(error).__name__, error)
"""
    said = run_python(code).stdout
    assert said.startswith(ArtifactFormatError.__name__)
    assert said.endswith(
        "'my_networks__small__Net' is not an architecture of timm; where it is a factory of your own, give it: "
        "limpq_hub.load(..., build=factory)\n"
    )


def test_another_factory_than_that_of_the_entry_is_refused(example):
    with pytest.raises(UnknownModelError) as caught:
        limpq_hub.load(f"local-dir:{example['folder']}", bitops="w3a3", build=other_net)
    assert "is of 'my_networks__small__Net', build=" in str(caught.value)
    assert str(caught.value).endswith("other_net': give the factory that the entry was made with")


def test_the_import_path_in_an_error_keeps_its_underscores(example, monkeypatch):
    monkeypatch.setattr(other_net, "__module__", "__main__")
    with pytest.raises(UnknownModelError, match=r"build=__main__\.other_net makes '__main____other_net'"):
        limpq_hub.load(f"local-dir:{example['folder']}", bitops="w3a3", build=other_net)


@pytest.mark.parametrize("factory", [lambda num_classes: nn.Identity(), 3], ids=["lambda", "number"])
def test_a_factory_without_an_import_path_is_refused(factory):
    with pytest.raises(UnknownModelError, match="cannot be found by an import path: give a function or class at the"):
        registered(factory)


def test_of_a_factory_that_is_a_method_no_entry_is_made_for_a_card_could_not_import_it_and_earlier_ones_load():
    class Nets:
        @staticmethod
        def make(num_classes: int) -> nn.Module:
            return nn.Identity()

    Nets.make.__module__, Nets.make.__qualname__ = "nets", "Nets.make"
    with pytest.raises(UnknownModelError, match=r"^build='nets\.Nets\.make' cannot be found by an import path: give a"):
        own_network(Nets.make, num_classes=2)
    use_factory(Nets.make, "nets__Nets__make", "hf-hub:you/net")


def test_a_factory_that_is_defined_anew_takes_the_place_of_the_one_before():
    def define(width: int) -> type[nn.Module]:
        class Anew(nn.Module):
            def __init__(self, num_classes: int) -> None:
                super().__init__()
                self.head = nn.Linear(width, num_classes)

        Anew.__module__, Anew.__qualname__ = "notebook", "Anew"
        return Anew

    first, second = (own_network(define(width), num_classes=2, input_size=8) for width in (3, 5))
    assert (first.head.in_features, second.head.in_features) == (3, 5)
    # What was counted of the one before is not taken for the new one: weights and biases of two classes.
    for width in (3, 5):
        own = own_network(define(width), num_classes=2, input_size=8)
        assert parameter_count(NetworkSpec.of(own), "own") == 2 * width + 2
    assert registered(define(7)) == "notebook__Anew"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"interpolation": "area"}, "mean, std, interpolation or crop_mode is not how pictures can be prepared; they"),
        ({"crop_mode": "fit"}, "mean, std, interpolation or crop_mode is not how pictures can be prepared; they"),
        ({"num_classes": 100_000}, "num_classes of 100000 cannot be, only 1 to 99999; they hold pictures"),
    ],
)
def test_an_own_network_that_no_entry_can_hold_is_refused_before_it_is_trained(changes, told):
    with pytest.raises(UnsupportedLayerError, match=f"^no entry or checkpoint can hold .* classes: {told}"):
        own_network(other_net, **{"num_classes": 2, "input_size": 8} | changes)
