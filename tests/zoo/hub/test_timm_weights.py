"""Tests of timm's own weights: as large as the network warrants, read by timm from the cache, told in our words."""

import io
import math
from pathlib import Path

import pytest
import torch
from huggingface_hub import get_session, hf_hub_download
from safetensors.torch import save
from timm.models import PretrainedCfg, load_state_dict_from_hf

from limpq_hub.errors import ArtifactIntegrityError, HubNotFoundError, HubOfflineError, HubUnavailableError
from limpq_hub.zoo.hub.limits import ANSWER_BYTES
from limpq_hub.zoo.hub.timm_weights import fetch_timm_weights

WEIGHTS = {"weight": torch.arange(ANSWER_BYTES // 4 + 1000, dtype=torch.float32)}
CONFIG = PretrainedCfg(hf_hub_id="timm/net")
NEEDS = "--weights needs model.safetensors of hf-hub:timm/net, and the cache does not have it. "


@pytest.fixture
def content() -> bytes:
    """A file of weights that is larger than any answer of the Hub that is no file."""
    data = save(WEIGHTS)
    assert len(data) > ANSWER_BYTES
    return data


@pytest.mark.parametrize(
    ("named", "there"),
    [
        (None, "model.safetensors"),
        ("net.safetensors", "net.safetensors"),
        ("open_clip_pytorch_model.bin", "open_clip_model.safetensors"),
        ("net.bin", "net.safetensors"),
    ],
)
def test_weights_larger_than_an_answer_are_fetched_once_under_the_name_that_timm_reads(online, content, named, there):
    online.hub.commit("timm/net", {there: content})
    fetch_timm_weights(PretrainedCfg(hf_hub_id="timm/net", hf_hub_filename=named), at_most=len(content))
    assert online.hub.fetched() == [there]
    read = load_state_dict_from_hf("timm/net", named or "pytorch_model.bin")
    assert torch.equal(read["weight"], WEIGHTS["weight"])
    assert online.hub.fetched() == [there]


@pytest.fixture
def pickled() -> bytes:
    """The same weights as the client of timm reads them where there is no safetensors file."""
    stream = io.BytesIO()
    torch.save(WEIGHTS, stream)
    return stream.getvalue()


def test_where_there_is_no_safetensors_file_the_one_of_the_configuration_comes(online, pickled):
    online.hub.commit("timm/net", {"pytorch_model.bin": pickled})
    fetch_timm_weights(CONFIG, at_most=len(pickled))
    assert online.hub.fetched() == ["pytorch_model.bin"]


def test_what_timm_reads_first_is_fetched_where_the_cache_has_another_file_alone(online, content, pickled):
    online.hub.commit("timm/net", {"pytorch_model.bin": pickled, "model.safetensors": content})
    hf_hub_download("timm/net", "pytorch_model.bin")
    assert online.hub.fetched() == ["pytorch_model.bin"]
    fetch_timm_weights(CONFIG, at_most=len(content))
    assert sorted(online.hub.fetched()) == ["model.safetensors", "pytorch_model.bin"]


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("silence", ["nothing listens", "unavailable", "rate limited"])
def test_weights_in_the_cache_are_read_from_there_whatever_the_hub_answers(
    online, content, pickled, monkeypatch, file, silence
):
    data = content if file.endswith("safetensors") else pickled
    online.hub.commit("timm/net", {file: data})
    fetch_timm_weights(CONFIG, at_most=len(data))
    if silence == "nothing listens":
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    else:
        online.hub.fault("*", silence, math.inf)
    with pytest.warns(UserWarning, match="; the commit that it named last is used: "):
        fetch_timm_weights(CONFIG, at_most=len(data))
    assert torch.equal(load_state_dict_from_hf("timm/net")["weight"], WEIGHTS["weight"])
    assert online.hub.fetched() == [file]


def with_another_byte(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("spoil", [lambda data: data[:-100], lambda data: b"", with_another_byte])
def test_a_damaged_file_that_is_no_safetensors_file_is_told_by_its_path_too(online, pickled, spoil):
    online.hub.commit("timm/net", {"pytorch_model.bin": spoil(pickled)})
    with pytest.raises(ArtifactIntegrityError, match=r"^'.*' is damaged \(.*\); delete it, and it is fetched again$"):
        fetch_timm_weights(CONFIG, at_most=len(pickled) + 10)


def test_a_file_larger_than_the_network_warrants_is_not_taken(online, content):
    online.hub.commit("timm/net", {"model.safetensors": content})
    with pytest.raises(HubUnavailableError) as caught:
        fetch_timm_weights(CONFIG, at_most=len(content) - 1)
    told = f"What the Hub sent is damaged (more than {len(content) - 1} bytes): try again. Or take"
    assert str(caught.value).startswith(NEEDS + told)


def test_a_repository_that_is_not_there_is_told_by_what_was_wanted_first(online):
    with pytest.raises(HubNotFoundError) as caught:
        fetch_timm_weights(CONFIG, at_most=1)
    assert str(caught.value).startswith(f"{NEEDS}timm/net@main: the Hub shows no such repository; check the name")


def test_a_damaged_file_of_the_cache_is_told_by_its_path_and_fetched_again_once_that_is_deleted(online, content):
    online.hub.commit("timm/net", {"model.safetensors": content})
    fetch_timm_weights(CONFIG, at_most=len(content))
    (cached,) = Path(online.cache).glob("models--timm--net/snapshots/*/model.safetensors")
    cached.resolve().write_bytes(content[:-1])
    with pytest.raises(
        ArtifactIntegrityError, match=r"^'.*' is damaged \('.*'\); delete it, and it is fetched"
    ) as caught:
        fetch_timm_weights(CONFIG, at_most=len(content))
    Path(str(caught.value).split("'")[1]).unlink()
    fetch_timm_weights(CONFIG, at_most=len(content))
    assert cached.read_bytes() == content


def test_offline_is_what_is_set_and_not_a_mirror_that_is_no_hub(online, content, monkeypatch):
    online.hub.commit("timm/net", {"model.safetensors": content})
    with monkeypatch.context() as changed:
        changed.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(HubOfflineError) as caught:
            fetch_timm_weights(CONFIG, at_most=len(content))
    assert str(caught.value).startswith(f"{NEEDS}HF_HUB_OFFLINE is set: unset it, and try again. Or take")
    session = get_session()
    session.event_hooks |= {"response": [lambda response: response.headers.pop("X-Repo-Commit", None)]}
    with pytest.raises(HubUnavailableError) as caught:
        fetch_timm_weights(CONFIG, at_most=len(content))
    assert str(caught.value).startswith(
        f"{NEEDS}What answers is no Hub: its answer lacks the commit or the ETag: check HF_ENDPOINT and the proxy. Or"
    )
