"""Tests of the fields of a request, through gradio: of any model, for visitors whom gradio does not remember too."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from _policies import UPLOADED
from _zoo import entry_of, slider_range
from gradio.routes import App
from gradio.utils import get_upload_folder
from starlette.testclient import TestClient

from limpq_hub import list_models, search

MODEL = "resnet18.tiny_imagenet"
OTHER = "tf_efficientnet_lite0.in1k"


@pytest.fixture
def client(demo):
    async def served():
        return App.create_app(demo)

    return TestClient(asyncio.run(served()))


def asked(client: TestClient, demo, endpoint: str, data: list) -> dict:
    """What the server answers a client that it does not remember."""
    [index] = [index for index, fn in demo.fns.items() if fn.api_name == endpoint]
    body = json.dumps({"fn_index": index, "data": data, "session_hash": "new"})
    headers = {"Content-Type": "application/json"}
    return client.post("/gradio_api/run/predict", content=body, headers=headers).json()


def test_each_endpoint_takes_what_fits_the_model_that_is_asked_for_and_says_in_words_what_does_not(client, demo):
    bitops = 20.0
    assert slider_range(MODEL)[1] < bitops < slider_range(OTHER)[1]
    policy = asked(client, demo, "search", [OTHER, bitops, 0, None, ""])["data"][6]
    assert json.loads(policy) == search(OTHER, bitops="20G").policy.to_json()
    published = f"published: {entry_of(OTHER).published[0].name}"
    answer = asked(client, demo, "compare", [published, "uniform, at this budget", None, OTHER, bitops, 0, None, ""])
    assert f"A: {published}" in answer["data"][1]
    for data, told in (
        ([MODEL, 0.5, 0, None, ""], 'bitops="500M" cannot be met: resnet18 at 64x64 needs at least 1.18G'),
        ([MODEL, float("nan"), 0, None, ""], "bitops=nan cannot be: use a number above 0, for example 3.0 for 3G"),
        ([MODEL, "3", 0, None, ""], "bitops='3' cannot be: use a number above 0, for example 3.0 for 3G"),
        ([MODEL, 3.0, "x", None, ""], "size='x' cannot be: use a number of MB"),
        ([MODEL, 3.0, -4, None, ""], "size=-4 cannot be: use a number of MB"),
        ([MODEL, 3.0, 0.004, None, ""], 'size="4000B" cannot be met'),
        ([MODEL, 3.0, 0, [], ""], "alpha=[] cannot be: use a number of at least 0"),
        ([None, 3.0, 0, None, ""], "model=None cannot be: use the name of one, for example resnet18.tiny_imagenet"),
        (["no-model", 3.0, 0, None, ""], "There is no model 'no-model' here"),
    ):
        assert asked(client, demo, "search", data)["error"].startswith(told), data
        of_both = asked(client, demo, "compare", ["uniform, at this budget", UPLOADED, None, *data])
        assert of_both["error"].startswith(told), data
    refused = asked(client, demo, "compare", [None, UPLOADED, None, MODEL, 3.0, 0, None, ""])
    assert refused["error"].startswith("There is no policy of this name; choose one of: ")


@pytest.mark.parametrize("rival", [["random, at this budget"], [], {}, None, 3, "published: w3a3"], ids=str)
def test_a_rival_that_is_none_is_refused_in_words_whatever_was_sent(client, demo, lion, rival):
    upload = Path(get_upload_folder(), "0" * 64, "lion.jpg")
    upload.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(lion, upload)
    picture = {"path": str(upload), "meta": {"_type": "gradio.FileData"}}
    answer = asked(client, demo, "classify", [picture, rival, MODEL, 3.0, 0, None, ""])
    assert answer["error"].startswith("There is no policy of this name; choose one of: uniform, at this budget, ")


def test_clients_are_told_no_alpha_of_another_model_and_no_range_of_one(demo):
    assert len({entry_of(model).indicators.alpha for model in list_models()}) > 1
    endpoints = demo.get_api_info()["named_endpoints"]
    assert set(endpoints) == {"/search", "/classify", "/integers", "/compare"}
    for endpoint in endpoints.values():
        parameters = {parameter["parameter_name"]: parameter for parameter in endpoint["parameters"]}
        assert (parameters["alpha"]["parameter_has_default"], parameters["alpha"]["parameter_default"]) == (True, None)
        assert "between" not in parameters["bitops"]["type"]["description"]
        assert parameters["size"]["parameter_default"] == 0
