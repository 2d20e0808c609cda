"""Tests of the commands that talk to the Hub: what they print, write and ask, and how they end where it fails."""

import json
import math
import subprocess
import sys

import pytest
from huggingface_hub import close_session, constants
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from PIL import Image

from limpq_hub.train import publish
from limpq_hub.zoo.hub import publishing

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
CARD = b"---\nlibrary_name: limpq-hub\ntags:\n- limpq-hub\n---\n"


@pytest.fixture(autouse=True)
def _quick_figures(monkeypatch):
    monkeypatch.setattr(publishing, "plot_policy", lambda plan, path: path.write_bytes(b"\x89PNG"))


def content(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def commit_of(online, repo: str = "you/tiny") -> str:
    return online.hub.references(repo)["refs/heads/main"]


def test_pull_fetches_every_file_of_the_manifest_once_and_says_how_much(on_hub, limpq, tiny):
    code, out, err = limpq("pull", "hf-hub:you/tiny")
    assert (code, err) == (0, "")
    files = len(content(tiny.folder)) - 1
    assert out.startswith(f"hf-hub:you/tiny: {files} files, ")
    assert out.endswith(f", verified; commit {commit_of(on_hub)}\n")
    assert on_hub.hub.fetched() == sorted(content(tiny.folder))
    on_hub.hub.requests.clear()
    code, out, _ = limpq("pull", "hf-hub:you/tiny", "--json")
    size = sum(len(data) for file, data in content(tiny.folder).items() if file != "config.json")
    said = {"model": "hf-hub:you/tiny", "revision": commit_of(on_hub), "files": files, "bytes": size}
    assert (code, json.loads(out)) == (0, said)
    assert on_hub.hub.fetched() == []


def test_pull_copies_to_a_folder_and_replaces_only_an_entry(on_hub, limpq, tiny, tmp_path):
    target = tmp_path / "out" / "tiny"
    for _ in range(2):
        code, _, err = limpq("pull", "hf-hub:you/tiny", "--output", str(target))
        assert (code, err) == (0, f"wrote {target}; next: limpq search local-dir:{target} --bitops w3a3\n")
        assert content(target) == content(tiny.folder)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    asked = len(on_hub.hub.requests)
    for command, words in (
        ("pull", ["hf-hub:you/tiny", "--output"]),
        ("push", ["hf-hub:you/tiny", "you/net", "--dry-run"]),
    ):
        code, out, err = limpq(command, *words, str(tmp_path / "photos"))
        assert (code, out) == (5, "")
        told = f"{tmp_path}/photos holds 'cat.jpg': it is no entry, and would be lost; choose another folder"
        assert err == f"limpq {command}: {told}\n"
    assert content(tmp_path / "photos") == {"cat.jpg": b"cat"}
    assert len(on_hub.hub.requests) == asked


def test_a_pulled_entry_keeps_the_card_that_states_its_licence(on_hub, limpq, tmp_path):
    on_hub.hub.commit("you/tiny", {"README.md": LICENSED})
    target, again = tmp_path / "copy", tmp_path / "again"
    assert limpq("pull", "hf-hub:you/tiny", "--output", str(target))[0] == 0
    assert (target / "README.md").read_bytes() == LICENSED
    assert limpq("pull", f"local-dir:{target}", "--output", str(again))[0] == 0
    publish.main(["--joint", str(again), "--output", str(tmp_path / "published")])
    assert limpq("push", f"local-dir:{tmp_path}/published", "you/copy")[0] == 0
    card = on_hub.hub.files("you/copy")["README.md"]
    assert b"license: other\nlicense_name: ours\n" in card
    assert b"base_model: you/float\n" in card


def test_a_pull_from_the_cache_is_none_the_worse_for_a_card_that_is_not_in_it(
    on_hub, limpq, tiny, tmp_path, monkeypatch
):
    on_hub.hub.commit("you/tiny", {"README.md": LICENSED})
    assert limpq("pull", "hf-hub:you/tiny")[0] == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.warns(UserWarning, match=r"^the card of hf-hub:you/tiny@.*, which may state a licence, was not "):
        assert limpq("pull", "hf-hub:you/tiny", "--output", str(tmp_path / "copy"))[0] == 0
    assert content(tmp_path / "copy") == content(tiny.folder)


@pytest.mark.parametrize("command", ["pull", "push"])
def test_the_entry_of_another_network_is_not_replaced(on_hub, limpq, tiny, entry_copy, reseal, command):
    reseal(entry_copy, num_classes=11)
    before = content(entry_copy)
    words = ["--output"] if command == "pull" else ["you/net", "--dry-run"]
    code, out, err = limpq(command, "hf-hub:you/tiny", *words, str(entry_copy))
    assert (code, out) == (5, "")
    assert err == (
        f"limpq {command}: {entry_copy} holds an entry of test_resnet at 32 pixels with 11 classes, this one is of "
        "test_resnet at 32 pixels with 10 classes; choose another\n"
    )
    assert content(entry_copy) == before
    assert on_hub.hub.fetched() == ["config.json"]


def test_pull_takes_a_revision(on_hub, limpq):
    old = commit_of(on_hub)
    on_hub.hub.tag("you/tiny", "v1")
    on_hub.hub.commit("you/tiny", {"README.md": CARD})
    assert limpq("pull", "hf-hub:you/tiny@v1")[1].endswith(f"commit {old}\n")
    assert limpq("pull", f"hf-hub:you/tiny@{old}")[1].endswith(f"commit {old}\n")


def test_pull_of_something_local_names_no_commit(limpq, tiny):
    code, out, _ = limpq("pull", tiny.name)
    assert code == 0
    assert "None" not in out


def test_a_dry_run_writes_what_a_push_sends_and_sends_nothing(online, limpq, tiny, tmp_path):
    folder = tmp_path / "dry"
    arguments = ("push", tiny.name, "you/net", "--license", "apache-2.0", "--base-model", "you/float")
    for _ in range(2):
        code, out, err = limpq(*arguments, "--dry-run", str(folder))
        assert (code, out, err) == (0, "", f"wrote {folder}; without --dry-run it becomes you/net\n")
    assert online.hub.requests == []
    assert limpq(*arguments)[0] == 0
    sent = online.hub.files("you/net")
    sent.pop(".gitattributes")
    assert sent == content(folder)
    assert b"license: apache-2.0" in sent["README.md"]
    assert b"base_model: you/float" in sent["README.md"]


def test_a_dry_run_prints_a_record_of_what_it_wrote(online, limpq, tiny, tmp_path):
    folder = tmp_path / "dry"
    code, out, _ = limpq("push", tiny.name, "you/net", "--dry-run", str(folder), "--json")
    written = content(folder)
    size = sum(map(len, written.values()))
    assert (code, json.loads(out)) == (
        0,
        {"repo": "you/net", "folder": str(folder), "files": len(written), "bytes": size},
    )
    assert online.hub.requests == []


@pytest.mark.parametrize("dry", [[], ["--dry-run", "dry"]])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["not a name"], "'not a name' is not the name of a Hub repository: write owner/name"),
        (["you/net", "--tag", "x y"], "you/net: 'x y' is not a branch, tag or commit; write for example main or v1"),
        (["you/net", "--revision", "x y"], "you/net: 'x y' is not a branch, tag or commit; write for example main or"),
        (["you/net", "--tag", "a", "--revision", "a"], "tag 'a' is the name of a branch; choose another one"),
    ],
)
def test_names_that_cannot_be_are_refused_in_a_dry_run_too(
    online, limpq, tiny, tmp_path, monkeypatch, dry, arguments, message
):
    monkeypatch.chdir(tmp_path)
    code, out, err = limpq("push", tiny.name, *arguments, *dry)
    assert (code, out) == (6, "")
    assert err.startswith(f"limpq push: {message}")
    assert not (tmp_path / "dry").exists()
    assert online.hub.requests == []


def test_a_push_without_a_licence_states_none(online, limpq, tiny):
    assert limpq("push", tiny.name, "you/net")[0] == 0
    assert b"license" not in online.hub.files("you/net")["README.md"]


LICENSED = CARD.replace(b"tags:", b"license: other\nlicense_name: ours\nbase_model: you/float\ntags:")


def test_a_push_keeps_the_licence_and_the_base_model_that_the_card_there_states(online, limpq, tiny):
    online.hub.commit("you/net", {"README.md": LICENSED})
    for branch in (None, "next"):
        assert limpq("push", tiny.name, "you/net", *(["--revision", branch] if branch else []))[0] == 0
        card = online.hub.files("you/net", branch or "main")["README.md"]
        assert b"license: other\nlicense_name: ours\n" in card
        assert b"base_model: you/float\n" in card
        assert b"Mixed-precision" in card
    assert limpq("push", tiny.name, "you/net", "--license", "mit")[0] == 0
    card = online.hub.files("you/net")["README.md"]
    assert b"license: mit\n" in card
    assert b"ours" not in card
    assert b"base_model: you/float\n" in card


def test_a_push_keeps_what_the_card_beside_the_entry_states_and_a_dry_run_too(online, limpq, entry_copy, tmp_path):
    (entry_copy / "README.md").write_bytes(b"\xef\xbb\xbf" + LICENSED.replace(b"\n", b"\r\n"))
    entry = f"local-dir:{entry_copy}"
    assert limpq("push", entry, "you/net", "--dry-run", str(tmp_path / "dry"))[0] == 0
    assert limpq("push", entry, "you/net")[0] == 0
    card = online.hub.files("you/net")["README.md"]
    assert card == (tmp_path / "dry" / "README.md").read_bytes()
    assert b"license: other\nlicense_name: ours\n" in card
    assert limpq("push", "hf-hub:you/net", "you/copy")[0] == 0
    assert b"license: other\nlicense_name: ours\n" in online.hub.files("you/copy")["README.md"]


def test_two_licences_are_for_the_one_who_pushes_to_settle(online, limpq, entry_copy):
    (entry_copy / "README.md").write_bytes(CARD.replace(b"tags:", b"license: apache-2.0\ntags:"))
    before = online.hub.commit("you/net", {"README.md": LICENSED})
    code, out, err = limpq("push", f"local-dir:{entry_copy}", "you/net")
    assert (code, out) == (6, "")
    assert err == (
        "limpq push: you/net states the licence 'other' 'ours', the card of the entry 'apache-2.0': name the one to "
        "state with --license\n"
    )
    assert commit_of(online, "you/net") == before
    assert limpq("push", f"local-dir:{entry_copy}", "you/net", "--license", "apache-2.0")[0] == 0
    assert b"license: apache-2.0\n" in online.hub.files("you/net")["README.md"]


def test_a_licence_that_was_stated_while_the_files_were_made_is_not_dropped(online, limpq, tiny, monkeypatch):
    online.hub.commit("you/net", {"README.md": CARD})
    monkeypatch.setattr(
        publishing,
        "plot_policy",
        lambda plan, path: (path.write_bytes(b"\x89PNG"), online.hub.commit("you/net", {"README.md": LICENSED})),
    )
    code, _, err = limpq("push", tiny.name, "you/net")
    assert (code, err) == (
        6,
        "limpq push: you/net@main was changed by somebody else meanwhile; nothing was changed; push again\n",
    )
    assert online.hub.files("you/net")["README.md"] == LICENSED


def test_push_prints_the_commit_and_the_tag(online, limpq, tiny):
    code, out, err = limpq("push", tiny.name, "you/net")
    commit = commit_of(online, "you/net")
    assert (code, out) == (0, f"you/net@{commit}, tag v1\n")
    assert err.endswith("next: limpq search hf-hub:you/net --bitops w3a3\n")
    assert "nothing changed" not in err
    code, out, err = limpq("push", tiny.name, "you/net")
    assert out == f"you/net@{commit}\n"
    assert "nothing changed: you/net holds exactly this already\n" in err
    said = json.loads(limpq("push", tiny.name, "you/net", "--tag", "paper", "--json")[1])
    assert said == {"repo": "you/net", "commit": commit, "tag": "paper", "unchanged": True}


def test_a_push_of_files_that_the_hub_has_already_draws_no_bar_of_nothing(online, limpq, tiny):
    enable_progress_bars()
    after = "next: limpq search hf-hub:you/net --bitops w3a3\n"
    assert limpq("push", tiny.name, "you/net")[2] == after
    code, _, err = limpq("push", tiny.name, "you/net", "--license", "mit")  # of which the card alone changes
    assert (code, err) == (0, after)
    assert not are_progress_bars_disabled()  # they are not ours to switch off for others


def test_push_proposes_creates_privately_and_takes_a_branch(online, limpq, tiny, entry_copy, reseal):
    assert limpq("push", tiny.name, "you/net", "--private", "--revision", "next", "--tag", "a")[0] == 0
    references = online.hub.references("you/net")
    assert references["refs/tags/a"] == references["refs/heads/next"] != references["refs/heads/main"]
    assert limpq("push", tiny.name, "you/net", "--create-pr")[0] == 0
    err = limpq("push", tiny.name, "you/net", "--create-pr", "--license", "mit")[2]
    proposed = online.hub.references("you/net")["refs/pr/2"]
    assert err.endswith(f"next: limpq search hf-hub:you/net@{proposed} --bitops w3a3\n")
    assert set(online.hub.files("you/net")) == {".gitattributes"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("pull hf-hub:you/none", 6, "you/none@main: the Hub shows no such repository; check the name"),
        ("pull hf-hub:you/tiny@v9", 6, "you/tiny@v9: the Hub has the repository, and no such revision; check"),
        (
            "pull hf-hub:you/tiny@../x",
            6,
            "you/tiny: '../x' is not a branch, tag or commit; write for example main or v1",
        ),
        ("search hf-hub:you/pickles --bitops 3G", 5, "holds 'pytorch_model.bin', a pickle, which can execute code"),
        ("push hf-hub:you/none you/net", 6, "you/none@main: the Hub shows no such repository"),
        ("push hf-hub:you/tiny you/tiny --tag v1", 6, "you/tiny has a tag 'v1' already; choose another one"),
        ("push hf-hub:you/tiny you/tiny --tag ../x", 6, "you/tiny: '../x' is not a branch, tag or commit"),
        ("push hf-hub:you/tiny nobody/net", 6, "nobody/net@main: the Hub answered 403: 'You don\\'t have"),
        ("push out/entry you/net", 2, "'out/entry' could be a folder or a Hub repository"),
    ],
)
def test_a_refusal_is_one_line_with_its_exit_code(on_hub, limpq, arguments, code, message):
    on_hub.hub.tag("you/tiny", "v1")
    on_hub.hub.commit("you/pickles", {"pytorch_model.bin": b"any"})
    found, out, err = limpq(*arguments.split())
    assert (found, out) == (code, "")
    assert err.startswith(f"limpq {arguments.split()[0]}: ")
    assert message in err
    assert err.count("\n") == 1


def test_the_models_of_an_owner_are_listed_with_their_policies(on_hub, limpq):
    on_hub.hub.commit("you/tiny", {"README.md": CARD})
    on_hub.hub.commit("you/other", {"README.md": b"#"})
    code, out, err = limpq("list", "--hub", "you", "--json")
    assert code == 0
    (said,) = json.loads(out)
    assert (said["name"], said["source"]) == ("hf-hub:you/tiny", "hub")
    assert [policy["name"] for policy in said["policies"]] == ["small", "large"]
    weights = [file for file in on_hub.hub.fetched() if file.endswith((".safetensors", ".gz"))]
    assert weights == []
    code, out, err = limpq("list", "t*", "--hub", "you")
    assert "hf-hub:you/tiny" in out
    assert err == "next: limpq search hf-hub:you/tiny --bitops w3a3\n"
    assert (
        limpq("list", "z*", "--hub", "you")[1:] == ("[]\n", "")
        or "no model of you on the Hub matches 'z*'" in (limpq("list", "z*", "--hub", "you")[2])
    )


def test_one_repository_that_cannot_be_read_does_not_hide_the_others(on_hub, limpq):
    on_hub.hub.commit("you/tiny", {"README.md": CARD})
    on_hub.hub.commit("you/broken", {"README.md": CARD, "config.json": b"{}"})
    code, out, err = limpq("list", "--hub", "you", "--json")
    assert code == 0
    assert [entry["name"] for entry in json.loads(out)] == ["hf-hub:you/tiny"]
    assert "you/broken" in err


def test_an_upload_that_breaks_off_is_told_in_one_line(online, limpq, tiny):
    online.hub.fault("/upload/*", "drop", math.inf)
    code, out, err = limpq("push", tiny.name, "you/net")
    assert (code, out, err.count("\n")) == (6, "", 1)


@pytest.mark.parametrize("limit", [["--bitops", "w3a3"], ["--size", "1GB"]])  # one chooses nothing: another is advised
@pytest.mark.parametrize("command", ["predict", "search", "explain", "compare", "export"])
def test_a_command_asks_the_hub_once_what_a_name_means(on_hub, limpq, tmp_path, command, limit):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    words = [command, *(["--model"] if command == "predict" else []), "hf-hub:you/tiny", *limit]
    words += {"predict": [str(tmp_path / "red.png")], "export": ["--output", str(tmp_path / "out")]}.get(command, [])
    code, _, err = limpq(*words)
    assert code == 0, err
    asked = [request for request in on_hub.hub.requests if request.path.startswith("/api/models/you/tiny")]
    assert len(asked) == 1, [request.path for request in asked]


def test_a_table_and_a_search_say_the_same_of_a_hub_name_and_of_its_folder(on_hub, limpq, tiny):
    from_hub = json.loads(limpq("search", "hf-hub:you/tiny", "--bitops", "w3a3", "--json")[1])
    local = json.loads(limpq("search", tiny.name, "--bitops", "w3a3", "--json")[1])
    del from_hub["seconds"], local["seconds"]
    assert from_hub == local
    assert on_hub.hub.fetched() == ["config.json", "indicators.json"]
    assert limpq("info", "hf-hub:you/tiny")[0] == 0


def test_a_list_without_a_network_is_one_line_at_once(limpq, online, monkeypatch):
    close_session()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    code, out, err = limpq("list", "--hub", "you")
    assert (code, out) == (6, "")
    message = (
        "limpq list: the models of you: the connection to the Hub was refused; check the internet connection, and "
        "HF_ENDPOINT or HTTPS_PROXY if one is set\n"
    )
    assert err == message
    assert online.pauses == []
    code, out, err = limpq("list", "--hub", "you", "--debug")
    assert (code, out) == (6, "")
    assert err.startswith(f"{message}limpq list: the client of the Hub raised ConnectError: ")
    assert err.count("\n") == 2


def test_a_list_offline_is_one_line_at_once(limpq, online, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, out, err = limpq("list", "--hub", "you")
    assert (code, out) == (6, "")
    assert err == "limpq list: which models you has is for the Hub to say, and HF_HUB_OFFLINE is set; unset it\n"


COMMANDS = """
import json, sys
from limpq_hub.cli import main
for arguments in json.loads(sys.argv[1]):
    assert main(arguments) == 0, arguments
print(sorted({"torch", "timm", "torchvision"} & set(sys.modules)))
"""


def test_neither_pull_nor_push_nor_list_imports_torch(on_hub, tiny, tmp_path):
    commands = [
        ["pull", "hf-hub:you/tiny", "--output", str(tmp_path / "pulled")],
        ["push", f"local-dir:{tmp_path}/pulled", "you/net", "--dry-run", str(tmp_path / "dry")],
        ["push", f"local-dir:{tmp_path}/pulled", "you/net"],
        ["list", "--hub", "you"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)],
        env=on_hub.hub.environment(tmp_path / "cache"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert on_hub.hub.references("you/net").keys() == {"refs/heads/main", "refs/tags/v1"}
