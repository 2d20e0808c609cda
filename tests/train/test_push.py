"""Publishing as the scripts do it: what is known before a training, and a policy beside those of others after it."""

import re

import pytest
from huggingface_hub import HfApi, ModelCard
from safetensors.torch import load_file, save_file

from limpq_hub.errors import (
    HubMovedError,
    HubNotFoundError,
    HubOfflineError,
    HubRefusedError,
    HubUnauthorizedError,
    HubUnavailableError,
    TrainingError,
)
from limpq_hub.train import finetune
from limpq_hub.train import push as _push
from limpq_hub.train.push import check_push, publishing_command, push_with_policy
from limpq_hub.train.settings import PushSettings
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_tensors import supernet_tensors
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.hub import publishing


def check(repo: str | None, policy_name: str | None = None) -> None:
    check_push(PushSettings(repo, private=False, license=None), policy_name)


@pytest.mark.parametrize(
    ("model", "command"),
    [
        ("local-dir:out/joint", "python -m limpq_hub.train.publish --joint out/joint"),
        ("local-dir:my nets/joint", "python -m limpq_hub.train.publish --joint 'my nets/joint'"),
        (
            "hf-hub:you/net",
            "limpq pull hf-hub:you/net --output out/joint && python -m limpq_hub.train.publish --joint out/joint",
        ),
    ],
)
def test_what_comes_after_a_measurement_names_the_joint_training(model, command):
    output = f"{command.partition(' --joint ')[2]}-entry".replace("'-entry", "-entry'")
    assert publishing_command(model, "--front", "a b.json") == f"{command} --front 'a b.json' --output {output}"


def test_without_a_repository_nothing_is_asked(online):
    check(None, "any name at all")
    assert online.hub.requests == []


@pytest.mark.parametrize("policy_name", [None, "w4a4", "2.5G"])
def test_a_token_that_may_write_there_passes_and_only_says_whose_it_is_and_what_is_there(online, policy_name):
    check("you/net", policy_name)
    # Once in each process, the client also asks how it should name itself.
    asked = [f"{asked.method} {asked.path}" for asked in online.hub.requests if "harness" not in asked.path]
    assert asked == ["GET /api/whoami-v2", "GET /api/models/you/net"]


def test_a_repository_that_takes_no_entry_is_refused_before_a_training(on_hub):
    on_hub.hub.commit("you/bert", {"config.json": b'{"model_type": "bert"}'})
    on_hub.hub.commit("you/data", {"train.csv": b"1"})
    on_hub.hub.commit("you/new", {"README.md": b"#", "LICENSE": b"mine"})
    for repo in ("you/tiny", "you/new", "you/none"):
        check(repo)
    with pytest.raises(
        HubRefusedError, match=r"^you/bert holds a config\.json, and no entry of limpq-hub, or one that was changed; "
    ):
        check("you/bert")
    with pytest.raises(HubRefusedError, match=r"^you/data holds 'train\.csv', and no entry of limpq-hub; publish in"):
        check("you/data")


def test_a_private_repository_that_is_public_already_is_refused_before_a_training(on_hub):
    private = PushSettings("you/tiny", private=True, license=None)
    with pytest.raises(HubRefusedError, match=r"^you/tiny is there already, and everyone can read it: nothing was se"):
        check_push(private)
    on_hub.hub.restrict("you/tiny", private=True)
    check_push(private)


@pytest.mark.parametrize("repo", ["net", "you/", "you/a/b", "you/ne t"])
def test_a_name_that_cannot_be_a_repository_is_refused(online, repo):
    with pytest.raises(HubNotFoundError, match=f"^{re.escape(repr(repo))} is not the name of a Hub repository: write"):
        check(repo)
    assert online.hub.requests == []


@pytest.mark.parametrize("policy_name", ["", "my policy", "../x", "-x", "a..b"])
def test_a_name_that_cannot_be_a_policy_is_refused(online, policy_name):
    message = f"^--output {re.escape(repr(policy_name))} would name the policy on the Hub: use letters, digits, dots"
    with pytest.raises(TrainingError, match=message):
        check("you/net", policy_name)


@pytest.mark.parametrize(("token", "message"), [("hf_wrong", "the Hub answered 401"), ("", "no token; run `hf auth")])
def test_a_token_that_is_missing_or_not_valid_is_told(online, monkeypatch, token, message):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubUnauthorizedError, match=f"^you/net@main: {message}"):
        check("you/net")


def test_a_repository_of_somebody_else_is_refused_with_a_name_that_works(online):
    message = r"^stranger/net: the token in use is that of you, who may not write for stranger; publish as you/net, or"
    with pytest.raises(HubUnauthorizedError, match=message):
        check("stranger/net")


@pytest.mark.parametrize(
    ("repo", "role", "in_org", "message"),
    [
        ("you/net", "read", None, r"^you/net: the token in use may only read; give one that may write, in HF_TOKEN$"),
        ("you/net", "fineGrained", None, None),
        *(("lab/net", "write", in_org, None) for in_org in ("contributor", "write", "admin")),
        (
            "lab/net",
            "write",
            "read",
            r"^lab/net: the token in use is that of you, who may not write for lab; publish",
        ),
        ("other/net", "write", "admin", r"^other/net: .* who may not write for other; "),
    ],
)
def test_what_the_hub_says_of_the_token_decides(online, monkeypatch, repo, role, in_org, message):
    said = {"name": "you", "orgs": [{"name": "lab", "roleInOrg": in_org}], "auth": {"accessToken": {"role": role}}}
    monkeypatch.setattr(HfApi, "whoami", lambda self: said)
    if message is None:
        check(repo)
        return
    with pytest.raises(HubUnauthorizedError, match=message):
        check(repo)


@pytest.mark.parametrize("said", [{"orgs": None}, {"auth": None}, {"auth": {"accessToken": None}}, {}])
def test_what_the_hub_leaves_open_about_the_token_does_not_stop_a_push(online, monkeypatch, said):
    monkeypatch.setattr(HfApi, "whoami", lambda self: {"name": "you", **said})
    check("you/net")
    with pytest.raises(HubUnauthorizedError, match="who may not write for lab"):
        check("lab/net")


@pytest.mark.parametrize("said", [None, [], "you", {}, {"name": None}, {"name": 3}])
def test_an_answer_that_names_nobody_is_damaged(online, monkeypatch, said):
    monkeypatch.setattr(HfApi, "whoami", lambda self: said)
    message = "^you/net: what the Hub sent is damaged: no name of whose token it is; try again$"
    with pytest.raises(HubUnavailableError, match=message):
        check("you/net")


def test_a_hub_that_cannot_be_reached_is_told(online, monkeypatch):
    online.hub.fault("/api/whoami-v2", "unavailable")
    with pytest.raises(HubUnavailableError, match=r"^you/net@main: the Hub did not answer \(503\); try again later"):
        check("you/net")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubOfflineError, match=r"^you/net@main .* HF_HUB_OFFLINE is set"):
        check("you/net")


def test_a_training_that_could_not_publish_does_not_start(online, tmp_path):
    arguments = ["--model", "resnet18", "--bitops", "3G", "--data", str(tmp_path / "none"), "--push-to-hub"]
    with pytest.raises(HubUnauthorizedError, match="who may not write for stranger"):
        finetune.main([*arguments, "stranger/net", "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


# A policy beside those that are published.


@pytest.fixture
def beside(on_hub, tiny, monkeypatch):
    """A function that publishes the small policy under another name; `meanwhile` runs after the repository was read."""
    monkeypatch.setattr(publishing, "plot_policy", lambda plan, path: path.write_bytes(b"\x89PNG"))
    assemble = _push.assemble_entry

    def push(name: str, *meanwhile, entry=None, license=None) -> None:
        waiting = list(meanwhile)

        def assemble_after(*given) -> None:
            assemble(*given)
            if waiting:
                waiting.pop(0)()

        checkpoint = open_local_folder(tiny.folder / "policies/small", "checkpoint")
        with monkeypatch.context() as patched:
            patched.setattr(_push, "assemble_entry", assemble_after)
            push_with_policy(entry or find_entry(tiny.name), name, checkpoint, "you/tiny", license=license)

    return push


def policies_of(online) -> set[str]:
    files = [file.split("/") for file in online.hub.files("you/tiny")]
    return {parts[1] for parts in files if parts[0] == "policies"}


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_two_policies_published_from_one_commit_are_both_there(on_hub, beside, capsys):
    before = on_hub.hub.references("you/tiny")["refs/heads/main"]
    beside("first", lambda: beside("second"))
    assert policies_of(on_hub) == {"small", "large", "first", "second"}
    history = on_hub.hub.history("you/tiny")
    assert history.index(before) == 2
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("published ")]
    assert [line.split(", tag ")[1][:2] for line in said] == ["v1", "v2"]
    assert history[0] == on_hub.hub.references("you/tiny")["refs/tags/v2"]


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_repository_that_keeps_changing_is_tried_twice_and_left_to_the_others(on_hub, beside):
    with pytest.raises(HubMovedError, match=r"^you/tiny@main was changed by somebody else meanwhile; nothing was ch"):
        beside("first", lambda: beside("second"), lambda: beside("third"))
    assert policies_of(on_hub) == {"small", "large", "second", "third"}


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_policy_is_published_beside_the_same_joint_weights_in_the_file_of_another_version(
    on_hub, beside, entry_copy, reseal
):
    path = entry_copy / "supernet.safetensors"
    save_file(supernet_tensors(open_local_folder(entry_copy, "entry")), path)
    reseal(entry_copy, format=2, half_coding=None)
    published = on_hub.hub.files("you/tiny")["supernet.safetensors"]
    assert published != path.read_bytes()
    beside("first", entry=find_entry(f"local-dir:{entry_copy}"))
    assert policies_of(on_hub) == {"small", "large", "first"}
    assert on_hub.hub.files("you/tiny")["supernet.safetensors"] == published


STATED = """---
library_name: limpq-hub
license: other
license_name: ours
license_link: https://example.org
base_model: you/float
base_model_relation: finetune
tags:
- mine
---
"""


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.parametrize("license", [None, "mit"])
def test_a_policy_published_beside_leaves_licence_and_base_model_of_the_card(on_hub, beside, license):
    on_hub.hub.commit("you/tiny", {"README.md": STATED.encode()})
    beside("first", license=license)
    card = ModelCard(on_hub.hub.files("you/tiny")["README.md"].decode()).data.to_dict()
    of_license = ("license", "license_name", "license_link")
    expected = ("mit", None, None) if license else ("other", "ours", "https://example.org")
    assert tuple(map(card.get, of_license)) == expected
    assert (card["base_model"], card["base_model_relation"]) == ("you/float", "finetune")


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_the_card_beside_the_entry_tells_the_licence_where_no_repository_does(online, tiny, entry_copy, monkeypatch):
    monkeypatch.setattr(publishing, "plot_policy", lambda plan, path: path.write_bytes(b"\x89PNG"))
    (entry_copy / "README.md").write_text(STATED)
    checkpoint = open_local_folder(tiny.folder / "policies/small", "checkpoint")
    for name, license, stated in (("first", None, "other"), ("second", "mit", "mit"), ("third", None, "mit")):
        entry = find_entry(f"local-dir:{entry_copy}")
        push_with_policy(entry, name, checkpoint, "you/net", license=license)
        assert ModelCard(online.hub.files("you/net")["README.md"].decode()).data.license == stated


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.parametrize(
    "text", ["# no front matter", "---\n- a list\n---\n", "---\na: [\n---\n", "---\nlicense: 3\n---\n"]
)
def test_a_card_that_states_nothing_that_can_be_read_stops_no_policy(on_hub, beside, text):
    on_hub.hub.commit("you/tiny", {"README.md": text.encode()})
    beside("first")
    assert b"license" not in on_hub.hub.files("you/tiny")["README.md"]


def test_a_policy_of_another_network_is_not_published_beside(on_hub, beside, entry_copy, reseal):
    path = entry_copy / "supernet.safetensors"
    tensors = load_file(path)
    tensors["fc.bias"][0] += 1
    save_file(tensors, path)
    reseal(entry_copy)
    before = on_hub.hub.references("you/tiny")
    with pytest.raises(HubRefusedError, match=r"^you/tiny holds another network than .*; publish in another repos"):
        beside("first", entry=find_entry(f"local-dir:{entry_copy}"))
    assert on_hub.hub.references("you/tiny") == before
