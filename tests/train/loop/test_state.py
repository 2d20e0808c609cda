"""Saved states: whole or not at all, verified when read, and everything in them back to the last bit."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import nn

from limpq_hub.errors import TrainingError
from limpq_hub.train.loop import state as _state
from limpq_hub.train.loop.run_files import newest_step
from limpq_hub.train.loop.state import TrainingState
from limpq_hub.train.training_options import OPTIMIZERS
from limpq_hub.zoo.folder import open_local_folder, seal_folder


def tiny_network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 4 * 4, 3))


def tiny_state(seed: int, *optimizers: str) -> TrainingState:
    """Return a state as a run has it: each optimizer with half of the parameters, an average, nothing remembered."""
    network = tiny_network(seed)
    names = optimizers or ("momentum", "adam")
    parameters = list(network.parameters())
    parts = [parameters] if len(names) == 1 else [parameters[:2], parameters[2:]]
    made = [create_optimizer_v2(part, name, lr=0.01, momentum=0.9) for name, part in zip(names, parts, strict=True)]
    return TrainingState(network, made, ModelEmaV3(network, decay=0.9, use_warmup=True), {})


def train(state: TrainingState, steps: int) -> TrainingState:
    for _ in range(steps):
        images = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(state.step))
        state.model(images).square().mean().backward()
        for optimizer in state.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        state.step += 1
        state.average.update(state.model, step=state.step)
    return state


def everything_in(state: TrainingState) -> dict[str, object]:
    """Return all that a state holds, by name, found without the code under test."""
    found: dict[str, object] = {"step": state.step, "seconds": state.seconds, "memory": state.memory}
    for kind, network in (("model", state.model), ("average", state.average.module)):
        found |= {f"{kind} {name}": value for name, value in network.state_dict().items()}
    for number, optimizer in enumerate(state.optimizers):
        for index, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
            found |= {f"optimizer {number} {index} {key}": value for key, value in optimizer.state[parameter].items()}
    return found


def assert_bit_identical(one: TrainingState, other: TrainingState) -> None:
    expected, found = everything_in(one), everything_in(other)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
            assert torch.equal(found[name], value), name
        else:
            assert found[name] == value, name


def saved_at(folder: Path, step: int) -> TrainingState:
    """Return a state that was saved in `folder` at `step`."""
    state = train(tiny_state(0), step)
    state.save(folder)
    return state


def two_saved(folder: Path) -> tuple[TrainingState, TrainingState]:
    """Save two states, as a run that was killed before it deleted the older one leaves them."""
    older = saved_at(folder, 2)
    aside = folder.with_name("aside")
    shutil.copytree(folder / "step-00000002", aside)
    newer = saved_at(folder, 4)
    aside.rename(folder / "step-00000002")
    return older, newer


def flip_a_byte(folder: Path) -> None:
    data = bytearray((folder / "state.safetensors").read_bytes())
    data[-3] ^= 1
    (folder / "state.safetensors").write_bytes(data)


def truncate(folder: Path) -> None:
    path = folder / "state.safetensors"
    os.truncate(path, path.stat().st_size // 2)


def remove_the_tensors(folder: Path) -> None:
    (folder / "state.safetensors").unlink()


def remove_the_manifest(folder: Path) -> None:
    (folder / "config.json").unlink()


def change_the_step(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"step": 4', '"step": 5'))


def seal_as_another_kind(folder: Path) -> None:
    (folder / "config.json").unlink()
    seal_folder(folder, "checkpoint", {"step": 4, "seconds": 0.0, "memory": {}}, ["*.safetensors"])


def test_model_both_optimizers_average_memory_step_and_seconds_come_back_to_the_last_bit(tmp_path):
    saved = train(tiny_state(0), 3)
    saved.seconds, saved.memory["oscillating"] = 0.1 + 0.2, ["layer1.0", "layer2.1"]
    saved.save(tmp_path)
    found = tiny_state(1)
    found.restore(tmp_path)
    assert_bit_identical(saved, found)
    (adam_step,) = {float(value) for name, value in everything_in(found).items() if name.endswith(" step")}
    assert adam_step == 3
    assert_bit_identical(train(saved, 3), train(found, 3))


def test_what_a_method_remembers_is_updated_in_the_dictionary_it_holds(tmp_path):
    saved = tiny_state(0)
    saved.memory["chosen_in_epoch"] = 5
    saved.save(tmp_path)
    found, memory = tiny_state(0), {}
    found.memory = memory
    found.restore(tmp_path)
    assert memory == {"chosen_in_epoch": 5}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_with_any_of_the_optimizers_goes_on_as_if_it_had_not_stopped(tmp_path, name):
    whole = train(tiny_state(0, name), 3)
    whole.save(tmp_path)
    resumed = tiny_state(1, name)
    resumed.restore(tmp_path)
    train(whole, 3)
    train(resumed, 3)
    expected, found = whole.model.state_dict(), resumed.model.state_dict()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_nothing_saved_leaves_a_state_as_it_is(tmp_path, capsys):
    state = tiny_state(0)
    state.restore(tmp_path / "states")
    assert_bit_identical(state, tiny_state(0))
    assert capsys.readouterr().err == ""


def test_the_state_before_goes_only_after_the_new_one_verifies(tmp_path, monkeypatch):
    events = []

    def noting(name, function):
        def noted(*arguments, **options):
            path = Path(arguments[0])
            events.append((name, path.name, sorted(p.name for p in tmp_path.glob("step-*"))))
            return function(*arguments, **options)

        return noted

    saved_at(tmp_path, 2)
    state = train(tiny_state(0), 4)
    monkeypatch.setattr(_state.os, "replace", noting("rename", os.replace))
    monkeypatch.setattr(_state, "open_local_folder", noting("verify", open_local_folder))
    monkeypatch.setattr(_state.shutil, "rmtree", noting("delete", shutil.rmtree))
    state.save(tmp_path)
    order = [(name, path, seen) for name, path, seen in events if not path.startswith(("state.", ".state", ".config"))]
    order = [event for event in order if event[:2] != ("delete", ".step-00000004.partial")]
    assert order[-3:] == [
        ("rename", ".step-00000004.partial", ["step-00000002"]),
        ("verify", "step-00000004", ["step-00000002", "step-00000004"]),
        ("delete", "step-00000002", ["step-00000002", "step-00000004"]),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]


def test_folder_and_files_are_on_the_disk_before_the_rename_and_the_name_after_it(tmp_path, monkeypatch):
    events, fsync, replace = [], os.fsync, os.replace

    def note_fsync(handle):
        events.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def note_rename(source, target):
        events.append(f"{Path(source).name} -> {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_rename)
    saved_at(tmp_path, 2)
    renamed = events.index(".step-00000002.partial -> step-00000002")
    flushed = [event.rsplit(".", 1)[0] for event in events[:renamed] if "->" not in event]
    assert flushed == [".state.safetensors", ".config.json", ".step-00000002"]
    assert events[renamed - 1] == ".step-00000002.partial"
    assert events[renamed + 1 :] == [tmp_path.name]


def test_of_two_states_the_newest_wins_and_the_older_goes_at_the_next_save(tmp_path, capsys):
    folder = tmp_path / "states"
    _, newer = two_saved(folder)
    found = tiny_state(1)
    found.restore(folder)
    assert_bit_identical(newer, found)
    assert capsys.readouterr().err == ""
    train(found, 2).save(folder)
    assert [path.name for path in folder.iterdir()] == ["step-00000006"]


def test_a_copy_under_another_name_is_no_state_and_stays(tmp_path):
    folder = tmp_path / "states"
    _, newer = two_saved(folder)
    shutil.copytree(folder / "step-00000004", folder / "step-00000004.bak")
    shutil.copytree(folder / "step-00000004", folder / "step-copy")
    assert newest_step(folder) == 4
    found = tiny_state(1)
    found.restore(folder)
    assert_bit_identical(newer, found)
    train(found, 2).save(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000004.bak", "step-00000006", "step-copy"]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (flip_a_byte, "state.safetensors is damaged: its [0-9]+ bytes are not the [0-9]+ with sha256"),
        (truncate, "state.safetensors is damaged: its [0-9]+ bytes are not the [0-9]+ with sha256"),
        (remove_the_tensors, "state.safetensors is missing"),
        (remove_the_manifest, "config.json is missing"),
        (change_the_step, "config.json was changed after it was written"),
        (seal_as_another_kind, "config.json: this is the folder of a 'checkpoint', where one of kind 'state' belongs"),
    ],
)
def test_a_state_that_does_not_verify_is_named_and_the_one_before_taken(tmp_path, capsys, damage, named):
    folder = tmp_path / "states"
    older, _ = two_saved(folder)
    damage(folder / "step-00000004")
    found = tiny_state(1)
    found.restore(folder)
    assert_bit_identical(older, found)
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert re.match(rf"{folder}/step-00000004 is ignored: {folder}/step-00000004/{named}", line)
    train(found, 3).save(folder)
    assert [path.name for path in folder.iterdir()] == ["step-00000005"]


def test_a_half_written_state_is_not_taken_and_is_written_anew(tmp_path, capsys):
    older = saved_at(tmp_path, 2)
    shutil.copytree(tmp_path / "step-00000002", tmp_path / ".step-00000004.partial")
    truncate(tmp_path / ".step-00000004.partial")
    found = tiny_state(1)
    found.restore(tmp_path)
    assert_bit_identical(older, found)
    assert capsys.readouterr().err == ""
    train(found, 2).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]


def test_a_half_written_state_of_another_step_goes_at_the_next_save(tmp_path):
    found = saved_at(tmp_path, 2)
    (tmp_path / ".step-00000003.partial").mkdir()
    train(found, 2).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]


def test_a_damaged_state_of_the_same_step_is_replaced(tmp_path):
    older, newer = two_saved(tmp_path)
    flip_a_byte(tmp_path / "step-00000004")
    train(older, 2).save(tmp_path)
    found = tiny_state(1)
    found.restore(tmp_path)
    assert_bit_identical(newer, found)


@pytest.mark.parametrize("file", ["state.safetensors", "config.json"])
def test_a_full_disk_keeps_the_last_state_and_says_so(tmp_path, monkeypatch, file):
    older = saved_at(tmp_path, 2)
    replace = os.replace

    def no_room(source, target):
        if Path(target).name == file:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(source, target)

    monkeypatch.setattr(os, "replace", no_room)
    with pytest.raises(TrainingError) as caught:
        train(tiny_state(0), 4).save(tmp_path)
    assert str(caught.value) == (
        f"step 4 cannot be saved in {tmp_path} (No space left on device); kept: step-00000002; make room, then --resume"
    )
    assert caught.value.exit_code == 3
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]
    monkeypatch.undo()
    found = tiny_state(1)
    found.restore(tmp_path)
    assert_bit_identical(older, found)


def test_a_full_disk_at_the_first_save_says_that_nothing_is_kept(tmp_path, monkeypatch):
    def no_room(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_state, "write_bytes", no_room)
    with pytest.raises(TrainingError, match=r"step 0 cannot be saved in .* \(No space left on device\); kept: none"):
        tiny_state(0).save(tmp_path)


def test_a_state_that_the_disk_changed_is_refused_and_the_one_before_kept(tmp_path, monkeypatch):
    saved_at(tmp_path, 2)
    replace = os.replace

    def bad_disk(source, target):
        replace(source, target)
        if Path(target).name == "step-00000004":
            flip_a_byte(Path(target))

    monkeypatch.setattr(os, "replace", bad_disk)
    with pytest.raises(TrainingError, match="step 4 cannot be saved in .*state.safetensors is damaged") as caught:
        train(tiny_state(0), 4).save(tmp_path)
    assert "; kept: step-00000002; make room, then --resume" in str(caught.value)
    found = tiny_state(1)
    found.restore(tmp_path)
    assert found.step == 2


def test_a_state_is_two_files_and_no_pickle(tmp_path):
    saved_at(tmp_path, 2)
    folder = tmp_path / "step-00000002"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "state.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert (config["format"], config["kind"], config["step"]) == (2, "state", 2)
