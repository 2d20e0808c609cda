"""Tests of publishing: one commit with a card and a tag, read back; or refused before anything is sent."""

import json
import math
import re
import shutil

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save

from limpq_hub.errors import (
    ArtifactIntegrityError,
    HubError,
    HubMovedError,
    HubNotFoundError,
    HubRefusedError,
    HubUnauthorizedError,
    HubUnavailableError,
    LimpqError,
)
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.hub import publishing
from limpq_hub.zoo.hub.publishing import push_entry, write_repository

# The client uploads with an argument that its HTTP library calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
REPO = "you/net-limpq"


def content(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sent(online) -> list[str]:
    """What was asked of the Hub that could change something."""
    return [
        f"{asked.method} {asked.path}" for asked in online.hub.requests if asked.method in ("POST", "PUT", "DELETE")
    ]


@pytest.fixture(autouse=True)
def _quick_figures(request, monkeypatch):
    """Pictures that take no time, but for the tests that look at them."""
    if "figures" not in request.node.name:
        monkeypatch.setattr(publishing, "plot_policy", lambda plan, path: path.write_bytes(b"\x89PNG"))


@pytest.fixture
def retrained(entry_copy, reseal):
    """The copy of the entry with other bytes for its joint weights, which go to the storage."""
    path = entry_copy / "supernet.safetensors"
    path.write_bytes(save(load_file(path), {"trained": "again"}))
    reseal(entry_copy)
    return find_entry(f"local-dir:{entry_copy}")


@pytest.fixture
def changed(entry_copy, reseal):
    """The copy of the entry with one figure changed."""
    metrics = json.loads((entry_copy / "metrics.json").read_text())
    metrics["float"]["top1"] = 81.0
    (entry_copy / "metrics.json").write_text(json.dumps(metrics))
    reseal(entry_copy)
    return find_entry(f"local-dir:{entry_copy}")


def test_a_push_makes_one_commit_of_the_entry_its_card_and_its_figures_and_tags_it(online, tiny):
    pushed = push_entry(find_entry(tiny.name), REPO)
    references = online.hub.references(REPO)
    assert references == {"refs/heads/main": pushed.commit, "refs/tags/v1": pushed.commit}
    assert (pushed.repo, pushed.tag) == (REPO, "v1")
    assert len(online.hub.history(REPO)) == 2
    files = online.hub.files(REPO)
    card = files.pop("README.md").decode()
    figures = [files.pop(f"figures/bits-{name}.png") for name in ("small", "large")]
    assert all(figure.startswith(b"\x89PNG") for figure in figures)
    files.pop(".gitattributes")
    assert files == content(tiny.folder)
    assert [result.metric_value for result in ModelCard(card).data.eval_results] == [61.5, 72.25]
    # Read back from the Hub, every file of it, card and figures too.
    assert online.hub.fetched() == sorted(online.hub.files(REPO).keys() - {".gitattributes"})
    assert ModelCard.load(REPO).data.to_dict() == ModelCard(card).data.to_dict()


def test_an_unchanged_second_push_makes_no_commit_and_no_tag(online, tiny):
    first = push_entry(find_entry(tiny.name), REPO)
    online.hub.requests.clear()
    second = push_entry(find_entry(tiny.name), REPO)
    assert (second.commit, second.tag) == (first.commit, None)
    assert len(online.hub.history(REPO)) == 2
    assert not [line for line in sent(online) if "/commit/" in line or "/tag/" in line or line.startswith("PUT")]
    assert set(online.hub.references(REPO)) == {"refs/heads/main", "refs/tags/v1"}


def test_an_unchanged_push_with_a_new_tag_gives_the_commit_that_name(online, tiny):
    first = push_entry(find_entry(tiny.name), REPO)
    second = push_entry(find_entry(tiny.name), REPO, tag="paper")
    assert (second.commit, second.tag) == (first.commit, "paper")
    assert online.hub.references(REPO)["refs/tags/paper"] == first.commit


def test_after_a_second_push_both_revisions_are_found_each_with_its_own_files(online, tiny, changed, tmp_path):
    first = push_entry(find_entry(tiny.name), REPO)
    second = push_entry(changed, REPO)
    assert (first.tag, second.tag) == ("v1", "v2")
    assert online.hub.history(REPO)[:2] == [second.commit, first.commit]
    for revision, top1 in (("v1", 80.0), ("v2", 81.0), (first.commit, 80.0), (second.commit, 81.0), ("main", 81.0)):
        entry = find_entry(f"hf-hub:{REPO}@{revision}", cache_dir=str(tmp_path / "cache"))
        assert entry.summary()["float_top1"] == top1
    assert online.hub.files(REPO)["supernet.safetensors"] == online.hub.files(REPO, "v1")["supernet.safetensors"]


def test_the_next_version_follows_the_greatest_and_other_tags_do_not_count(online, tiny):
    online.hub.commit(REPO, {"README.md": b"#"})
    for tag in ("v2", "v10", "v9", "paper", "v11-rc", "V12"):
        online.hub.tag(REPO, tag)
    assert push_entry(find_entry(tiny.name), REPO).tag == "v11"


def test_what_is_no_longer_part_of_the_entry_is_deleted_from_the_repository(online, tiny, entry_copy, reseal):
    push_entry(find_entry(tiny.name), REPO)
    shutil.rmtree(entry_copy / "policies" / "small")
    reseal(entry_copy)
    push_entry(find_entry(f"local-dir:{entry_copy}"), REPO)
    assert not [file for file in online.hub.files(REPO) if "small" in file]
    assert "policies/small/policy.json" in online.hub.files(REPO, "v1")
    assert ".gitattributes" in online.hub.files(REPO)


FOREIGN = {
    "bert": {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"weights", "README.md": b"# my bert"},
    "a float network of timm": {"config.json": b'{"architecture": "resnet18", "num_classes": 10}'},
    "no config": {"README.md": b"#", "notebook.ipynb": b"{}"},
    "a pickle": {"pytorch_model.bin": b"weights"},
}


@pytest.mark.parametrize("branch", [None, "next"])
@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_repository_of_another_model_is_left_as_it_is(online, tiny, foreign, branch):
    online.hub.commit(REPO, FOREIGN[foreign])
    before, files = online.hub.references(REPO), online.hub.files(REPO)
    with pytest.raises(HubRefusedError, match=rf"^{REPO} holds .*no entry of limpq-hub.*; publish in another rep"):
        push_entry(find_entry(tiny.name), REPO, branch=branch)
    assert (online.hub.references(REPO), online.hub.files(REPO)) == (before, files)


@pytest.mark.parametrize("field", [{"input_size": 64}, {"num_classes": 9}, {"model_args": {"act_layer": "silu"}}])
def test_an_entry_of_another_network_is_left_as_it_is(online, tiny, entry_copy, reseal, field):
    reseal(entry_copy, **field)
    online.hub.commit(REPO, content(entry_copy))
    before = online.hub.references(REPO)
    with pytest.raises(HubRefusedError) as caught:
        push_entry(find_entry(tiny.name), REPO)
    (value,) = field.values()
    assert str(value["act_layer"] if isinstance(value, dict) else value) in str(caught.value)
    assert str(caught.value).startswith(f"{REPO} holds an entry of test_resnet ")
    assert str(caught.value).endswith(
        ", and this one is of test_resnet at 32 pixels with 10 classes; publish in another repository"
    )
    assert online.hub.references(REPO) == before


def test_an_entry_that_is_damaged_is_not_replaced(online, tiny):
    config = (tiny.folder / "config.json").read_bytes().replace(b"test_resnet", b"test_resnot")
    online.hub.commit(REPO, content(tiny.folder) | {"config.json": config})
    with pytest.raises(
        HubRefusedError, match=rf"^{REPO} holds a config\.json, and no entry of limpq-hub, or one that was cha"
    ):
        push_entry(find_entry(tiny.name), REPO)


def test_files_of_the_owner_stay_where_an_entry_is_replaced(online, tiny, entry_copy, reseal):
    own = {"LICENSE": b"mine", "notebook.ipynb": b"{}", "figures/cat.png": b"cat", "policies/notes.md": b"why"}
    online.hub.commit(REPO, {"README.md": b"# to come", "LICENSE": b"mine"})
    push_entry(find_entry(tiny.name), REPO)
    online.hub.commit(REPO, own)
    shutil.rmtree(entry_copy / "policies" / "small")
    reseal(entry_copy)
    push_entry(find_entry(f"local-dir:{entry_copy}"), REPO)
    files = online.hub.files(REPO)
    assert {name: files.pop(name) for name in own} == own
    assert files.keys() - content(entry_copy).keys() == {".gitattributes", "README.md", "figures/bits-large.png"}


@pytest.mark.parametrize("branch", [None, "next"])
def test_a_private_push_to_a_repository_that_everyone_can_read_is_refused(online, tiny, branch):
    before = online.hub.commit(REPO, {"README.md": b"#"})
    online.hub.requests.clear()
    with pytest.raises(HubRefusedError) as caught:
        push_entry(find_entry(tiny.name), REPO, private=True, branch=branch)
    assert str(caught.value) == (
        f"{REPO} is there already, and everyone can read it: nothing was sent; make it private in its settings on the "
        "Hub, publish without --private, or publish in another repository"
    )
    assert not [line for line in sent(online) if line.startswith("PUT") or "/commit/" in line]
    assert online.hub.references(REPO) == {"refs/heads/main": before}
    online.hub.restrict(REPO, private=True)
    assert push_entry(find_entry(tiny.name), REPO, private=True).tag == "v1"


@pytest.mark.parametrize(
    "file", ["classes.json", "supernet.safetensors", "policies/small/config.json", "policies/large/model.safetensors"]
)
def test_a_push_is_refused_and_nothing_sent_while_the_manifest_does_not_verify(online, entry_copy, file):
    entry = find_entry(f"local-dir:{entry_copy}")
    data = bytearray((entry_copy / file).read_bytes())
    data[-3] ^= 1
    (entry_copy / file).write_bytes(data)
    with pytest.raises(ArtifactIntegrityError, match=f"{re.escape(file)} is damaged"):
        push_entry(entry, REPO)
    assert sent(online) == []


def test_a_checkpoint_whose_policy_is_another_one_is_refused_and_nothing_sent(online, entry_copy, reseal, tiny):
    text = (entry_copy / "policies/large/policy.json").read_text()
    (entry_copy / "policies/small/policy.json").write_text(text)
    reseal(entry_copy / "policies" / "small")
    message = (
        rf"^local-dir:{entry_copy}: policy small is not the one its checkpoint describes; fetch the artifact again$"
    )
    with pytest.raises(ArtifactIntegrityError, match=message):
        push_entry(find_entry(f"local-dir:{entry_copy}"), REPO)
    assert sent(online) == []


def test_a_tag_that_is_there_is_refused_before_anything_is_sent(online, tiny, changed):
    first = push_entry(find_entry(tiny.name), REPO, tag="paper")
    online.hub.requests.clear()
    with pytest.raises(HubRefusedError, match=f"^{REPO} has a tag 'paper' already; choose another one$"):
        push_entry(changed, REPO, tag="paper")
    assert sent(online) == []
    assert online.hub.references(REPO) == {"refs/heads/main": first.commit, "refs/tags/paper": first.commit}


@pytest.mark.parametrize("named", [{"tag": "../x"}, {"tag": ""}, {"branch": "a b"}, {"branch": "-x"}], ids=str)
def test_a_tag_or_branch_that_cannot_be_is_refused_and_nothing_sent(online, tiny, named):
    with pytest.raises(HubNotFoundError, match="is not a branch, tag or commit"):
        push_entry(find_entry(tiny.name), REPO, **named)
    assert sent(online) == []


def test_a_private_push_creates_a_repository_that_others_do_not_see(online, tiny):
    push_entry(find_entry(tiny.name), REPO, private=True)
    with pytest.raises(HubNotFoundError):
        find_entry(f"hf-hub:{REPO}", token=online.hub.other_token)
    assert find_entry(f"hf-hub:{REPO}").source == "hub"


def test_a_push_to_a_branch_leaves_main_as_it_is(online, tiny, changed):
    first = push_entry(find_entry(tiny.name), REPO)
    second = push_entry(changed, REPO, branch="next")
    assert online.hub.references(REPO) == {
        "refs/heads/main": first.commit,
        "refs/heads/next": second.commit,
        "refs/tags/v1": first.commit,
        "refs/tags/v2": second.commit,
    }
    assert find_entry(f"hf-hub:{REPO}@next").summary()["float_top1"] == 81.0


def test_a_proposal_moves_no_branch_and_has_no_tag(online, tiny, changed):
    first = push_entry(find_entry(tiny.name), REPO)
    proposed = push_entry(changed, REPO, create_pr=True)
    assert proposed.tag is None
    references = online.hub.references(REPO)
    assert references == {
        "refs/heads/main": first.commit,
        "refs/tags/v1": first.commit,
        "refs/pr/1": proposed.commit,
    }
    assert find_entry(f"hf-hub:{REPO}@refs/pr/1").summary()["float_top1"] == 81.0


def test_who_may_not_write_can_propose(online, tiny):
    online.hub.commit("nobody/net", {"README.md": b"#"})
    assert push_entry(find_entry(tiny.name), "nobody/net", create_pr=True).tag is None
    assert "refs/pr/1" in online.hub.references("nobody/net")


def test_who_may_not_write_is_told_so_and_nothing_changes(online, tiny, monkeypatch):
    before = online.hub.commit("nobody/net", {"README.md": b"#"})
    with pytest.raises(
        HubUnauthorizedError, match=r"nobody/net@main: the Hub answered 403: 'Forbidden: .*'; give a token"
    ):
        push_entry(find_entry(tiny.name), "nobody/net")
    assert online.hub.references("nobody/net") == {"refs/heads/main": before}
    with pytest.raises(HubUnauthorizedError, match="the Hub answered 401"):
        push_entry(find_entry(tiny.name), REPO, token="hf_wrong")
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises((HubUnauthorizedError, HubNotFoundError), match="token"):
        push_entry(find_entry(tiny.name), REPO)


def test_no_token_is_sent_to_the_storage_or_written_into_the_repository(online, tiny):
    push_entry(find_entry(tiny.name), REPO, token=online.hub.token)
    assert {asked.authorized for asked in online.hub.requests if asked.server == "storage"} == {False}
    assert not any(online.hub.token.encode() in data for data in online.hub.files(REPO).values())


# What goes wrong on the way.

UPLOAD, COMMIT, TAG = "/upload/*", f"/api/models/{REPO}/commit/*", f"/api/models/{REPO}/tag/*"
PREUPLOAD, BATCH = f"/api/models/{REPO}/preupload/*", "*/info/lfs/objects/batch"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        *((path, "drop") for path in ("/api/repos/create", PREUPLOAD, BATCH, UPLOAD, COMMIT)),
        *((COMMIT, kind) for kind in ("server error", "forbidden", "rate limited")),
        *(
            pytest.param(path, kind, marks=pytest.mark.slow)
            for path, kinds in (
                ("/api/repos/create", ("unavailable", "rate limited")),
                (PREUPLOAD, ("server error", "invalid token")),
                (BATCH, ("server error", "forbidden")),
                (UPLOAD, ("unavailable", "forbidden")),
            )
            for kind in kinds
        ),
    ],
)
def test_a_push_that_fails_before_the_commit_leaves_main_as_it_was(online, retrained, tiny, path, kind):
    first = push_entry(find_entry(tiny.name), REPO)
    online.hub.fault(path, kind, math.inf, seconds=1)
    with pytest.raises(HubError) as caught:
        push_entry(retrained, REPO)
    assert "\n" not in str(caught.value)
    assert online.hub.token not in str(caught.value)
    assert online.hub.references(REPO) == {"refs/heads/main": first.commit, "refs/tags/v1": first.commit}
    online.hub.mend()
    assert push_entry(retrained, REPO).tag == "v2"


def test_a_commit_whose_answer_is_lost_is_found_by_the_next_push(online, tiny):
    online.hub.fault(COMMIT, "reset")
    with pytest.raises(
        HubUnavailableError, match=r"the connection to the Hub broke off; check the connection, or try again later$"
    ):
        push_entry(find_entry(tiny.name), REPO)
    commits = len(online.hub.history(REPO))
    pushed = push_entry(find_entry(tiny.name), REPO)
    assert (pushed.tag, len(online.hub.history(REPO))) == ("v1", commits)


def test_a_tag_that_fails_can_be_made_by_pushing_again(online, tiny):
    online.hub.fault(TAG, "unavailable")
    with pytest.raises(HubUnavailableError):
        push_entry(find_entry(tiny.name), REPO)
    pushed = push_entry(find_entry(tiny.name), REPO)
    assert online.hub.references(REPO)["refs/tags/v1"] == pushed.commit


def test_a_tag_that_another_push_took_meanwhile_is_told_without_a_wrong_word(online, tiny, monkeypatch):
    online.hub.commit(REPO, {"README.md": b"#"})
    online.hub.tag(REPO, "v1")
    monkeypatch.setattr(publishing.hub, "tags_of", lambda *given: {})
    before = online.hub.references(REPO)["refs/heads/main"]
    with pytest.raises(HubError) as caught:
        push_entry(find_entry(tiny.name), REPO)
    assert online.hub.references(REPO)["refs/heads/main"] != before
    assert "nothing was changed" not in str(caught.value)


@pytest.mark.parametrize(
    "file",
    ["config.json", "indicators.json", "policies/large/model.safetensors", "README.md", "figures/bits-small.png"],
)
def test_what_the_hub_gives_back_changed_is_told_and_not_tagged(online, tiny, file):
    online.hub.fault(f"*/{file}", "flipped byte", math.inf)
    message = rf"^{REPO}@\w{{12}}: the Hub gave back another {re.escape(file)} than was sent; push again$"
    with pytest.raises(ArtifactIntegrityError, match=message):
        push_entry(find_entry(tiny.name), REPO)
    assert not [name for name in online.hub.references(REPO) if name.startswith("refs/tags/")]


@pytest.mark.parametrize("create_pr", [False, True])
def test_a_branch_that_moves_before_the_commit_is_not_overwritten(online, tiny, changed, create_pr):
    push_entry(find_entry(tiny.name), REPO)
    other = online.hub.commit(REPO, {"notes.md": b"of somebody else"}, branch=None)
    online.hub.move_branch(REPO, "main", other, after=1, path=f"/api/models/{REPO}/tree/*")
    with pytest.raises(HubRefusedError) as caught:
        push_entry(changed, REPO, create_pr=create_pr)
    assert str(caught.value) == f"{REPO}@main was changed by somebody else meanwhile; nothing was changed; push again"
    assert online.hub.references(REPO)["refs/heads/main"] == other
    assert push_entry(changed, REPO).tag == "v2"


def test_a_push_of_what_was_built_from_an_older_commit_is_refused_and_nothing_sent(online, tiny, changed):
    first = push_entry(find_entry(tiny.name), REPO)
    second = push_entry(changed, REPO, expected=first.commit)
    assert second.tag == "v2"
    before = online.hub.references(REPO)
    for branch in (None, "main"):
        online.hub.requests.clear()
        with pytest.raises(HubMovedError) as caught:
            push_entry(find_entry(tiny.name), REPO, branch=branch, expected=first.commit)
        message = f"{REPO}@main was changed by somebody else meanwhile; nothing was changed; push again"
        assert str(caught.value) == message
        assert isinstance(caught.value, HubRefusedError)
        assert not [line for line in sent(online) if line.startswith("PUT") or "/commit/" in line]
        assert online.hub.references(REPO) == before


def test_what_would_be_sent_can_be_written_without_a_hub(tiny, tmp_path):
    write_repository(find_entry(tiny.name), tmp_path / "out", REPO, license=None, base_model=None)
    written = content(tmp_path / "out")
    assert {file: written[file] for file in content(tiny.folder)} == content(tiny.folder)
    extra = written.keys() - content(tiny.folder).keys()
    assert extra == {"README.md", "figures/bits-small.png", "figures/bits-large.png"}
    assert find_entry(f"local-dir:{tmp_path}/out").published[0].top1 == 61.5


@pytest.mark.parametrize(
    "value",
    [
        "[" * 600,
        "!!timestamp abc",
        "!!bool maybe",
        "!!int ''",
        "!!timestamp 0001-01-01 00:00:00 +23:00",
        "&a [*a]",
        "3",
    ],
    ids=lambda value: value[:20],
)
def test_a_card_that_cannot_be_read_states_nothing(online, entry_copy, tmp_path, value):
    card = f"---\nlicense: {value}\n---\n"
    (entry_copy / "README.md").write_text(card)
    online.hub.commit(REPO, {"README.md": card.encode()})
    push_entry(find_entry(f"local-dir:{entry_copy}"), REPO)
    assert b"license" not in online.hub.files(REPO)["README.md"]


def test_the_repository_of_a_repository_is_the_same(online, tiny, tmp_path):
    push_entry(find_entry(tiny.name), REPO)
    pushed = push_entry(find_entry(f"hf-hub:{REPO}", cache_dir=str(tmp_path / "cache")), REPO)
    assert pushed.tag is None


@pytest.mark.parametrize("repo", ["net", "a/b/c", "", "you/ne t"])
def test_a_malformed_repository_is_refused_and_nothing_sent(online, tiny, repo):
    with pytest.raises(LimpqError):
        push_entry(find_entry(tiny.name), repo)
    assert sent(online) == []
