"""Names and tags -> artifacts: bundled with the package, in a local folder, or on the Hub. No torch."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from limpq_hub.errors import (
    ArtifactFormatError,
    ArtifactVersionError,
    HubError,
    NotQuantizedError,
    UnknownModelError,
    quoted,
)
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.folder import CONFIG, EXPORT_SEAL, is_unfinished, open_folder, open_local_folder
from limpq_hub.zoo.hub_address import check_address
from limpq_hub.zoo.prefixes import with_prefix

BUNDLED = Path(__file__).parent / "bundled"
# The environment variable with the owner on the Hub in whose repositories names are looked up that are not bundled.
OWNER_VARIABLE = "LIMPQ_HUB_OWNER"
# The entry that a name stands for: an architecture without its tag, or a name without timm's "tf_" before it.
DEFAULTS = {
    "resnet18": "resnet18.tiny_imagenet",
    "efficientnet_lite0": "tf_efficientnet_lite0.in1k",
    "efficientnet_lite0.in1k": "tf_efficientnet_lite0.in1k",
    "mobilenetv2_100": "mobilenetv2_100.in1k",
}


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the bundled entries that match a shell pattern, under any name that they have; sorted."""
    names = sorted(folder.name for folder in BUNDLED.iterdir() if (folder / "config.json").is_file())
    others = {name: [other for other, entry in DEFAULTS.items() if entry == name] for name in names}
    known = {name: [name, _architecture(name), *others[name]] for name in names}
    return [name for name in names if any(fnmatchcase(any_name, pattern) for any_name in known[name])]


def find_entry(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | None = None,
    token: str | bool | None = None,
) -> Entry:
    """Return the entry that `name` means: "resnet18", "resnet18.tiny_imagenet", "local-dir:path", "hf-hub:owner/name".

    A bare name is a bundled entry; one that is not bundled is <owner>/<name>-limpq on the Hub where LIMPQ_HUB_OWNER
    names an owner, also with @revision.

    Raises:
        UnknownModelError: no entry has this name; names the nearest ones.
        ArtifactError: the entry is damaged, or an exported network.
        HubError: the Hub does not give it.
    """
    if not isinstance(name, str):
        if isinstance(name, os.PathLike) and os.path.isdir(name):
            raise _unprefixed(os.fsdecode(name))
        raise UnknownModelError(f"a model is named by text, found {quoted(name)}; known: {', '.join(list_models())}")
    if name.startswith("hf-hub:"):
        return _from_hub(name, revision, cache_dir, token)
    if name.startswith("local-dir:"):
        if revision is not None:
            raise UnknownModelError(f"revision={quoted(revision)} is for models on the Hub: write hf-hub:owner/name")
        path = Path(name.removeprefix("local-dir:"))
        if not os.path.isdir(path):
            raise UnknownModelError(f"{quoted(name)}: there is no such folder; {_instead_of(path)}")
        _refuse_exported(path)
        if not os.path.isfile(path / CONFIG) and not is_unfinished(path):
            raise UnknownModelError(
                f"{quoted(name)}: no config.json there; give the output folder of limpq_hub.train.indicators or "
                ".publish"
            )
        return Entry(name, open_local_folder(path, "entry"), "local")
    prefixed = with_prefix(name)
    if prefixed is not None and not os.path.exists(name):
        raise UnknownModelError(f"{quoted(name)} is not how a model is named: write {quoted(prefixed)}")
    if "/" in name or "\\" in name:
        if os.path.isdir(name):
            raise _unprefixed(name)
        _refuse_file(name)
        if name.startswith("~"):
            raise UnknownModelError(f"{quoted(name)}: there is no such folder; {_instead_of(Path(name))}")
        raise UnknownModelError(
            f"{quoted(name)} could be a folder or a Hub repository: write {quoted('local-dir:' + name)} or "
            f"{quoted('hf-hub:' + name)}"
        )
    bundled = list_models()
    tags = [entry for entry in bundled if _architecture(entry) == name]
    match = name if name in bundled else DEFAULTS.get(name, tags[0] if tags else None)
    owner = os.environ.get(OWNER_VARIABLE)
    if match not in bundled and owner:
        bare, at, named_revision = name.partition("@")
        return _from_hub(f"hf-hub:{owner}/{bare}-limpq{at}{named_revision}", revision, cache_dir, token)
    if revision is not None:
        raise UnknownModelError(f"revision={quoted(revision)} is for models on the Hub: write hf-hub:owner/name")
    if match is None or match not in bundled:
        if name and os.path.isfile(os.path.join(name, CONFIG)):
            raise _unprefixed(name)
        _refuse_file(name)
        raise UnknownModelError(f"no model is named {quoted(name)}; {_nearest(name, bundled)}")
    return Entry(match, open_local_folder(BUNDLED / match, "entry", name=match), "bundled")


def _instead_of(path: Path) -> str:
    """Return what to give in the place of a path that is no folder; whole, so that it can be typed."""
    if os.path.isfile(path):
        if path.suffix == ".json" and path.name != CONFIG:
            return f"it is a file: {str(path)!r} alone is for what takes an indicators.json"
        return f"it is a file: give its folder, {f'local-dir:{path.parent}'!r}"
    if path.parts[:1] and path.parts[0].startswith("~"):
        return f"~ is not your home folder here: write {f'local-dir:{os.path.expanduser(path)}'!r}"
    return "give the output folder of a training"


def _unprefixed(folder: str) -> UnknownModelError:
    """Return what to raise for a folder that was given without what tells it from a Hub repository."""
    _refuse_exported(Path(folder))
    return UnknownModelError(f"{quoted(folder)} is a folder: write {shell_command('local-dir:' + folder)}")


def _refuse_file(name: str) -> None:
    if os.path.isfile(name):
        raise UnknownModelError(
            f"{quoted(name)} is a file, and a model is expected: resnet18, local-dir:FOLDER or hf-hub:owner/name"
        )


def _refuse_exported(folder: Path) -> None:
    """Raise `ArtifactFormatError` where a folder is what `limpq export` wrote: its config.json is timm's."""
    if os.path.isfile(folder / EXPORT_SEAL):
        advice = shell_command("limpq", "predict", "PICTURE", "--exported", folder)
        raise ArtifactFormatError(
            f"{quoted(str(folder))}: this is an exported network, and no entry: {advice} runs it, as does "
            "limpq_hub.deploy.exported_network.open_exported; for other bits give the entry that it was made of"
        )


def _from_hub(name: str, revision: str | None, cache_dir: str | None, token: str | bool | None) -> Entry:
    check_address()
    from limpq_hub.zoo.hub import repository as hub

    repo, _, named_revision = name.removeprefix("hf-hub:").partition("@")
    if named_revision and revision and named_revision != revision:
        raise UnknownModelError(f"{quoted(name)} and revision={quoted(revision)} name two revisions; give one")
    asked = (named_revision or None) if revision is None else revision
    prefixed = with_prefix(name.removeprefix("hf-hub:"))
    if prefixed is not None:
        raise UnknownModelError(f"{quoted(name)} is not how a model is named: write {quoted(prefixed)}")
    commit = hub.resolve_commit(repo, asked, cache_dir, token)

    def fetch(file: str, size_bytes: int | None, *, anew: bool = False) -> Path:
        return hub.fetch_file(repo, file, commit, cache_dir, token, size_bytes=size_bytes, anew=anew)

    advice = f"tell the owner of {repo}, or load another revision" + (f": hf-hub:{repo}@v1" if asked != "v1" else "")
    where = f"hf-hub:{repo}@{commit[:12]}"
    try:
        folder = open_folder(where, fetch, "entry", refetch=partial(fetch, anew=True), advice=advice)
    except ArtifactFormatError as error:
        if not isinstance(error, ArtifactVersionError | NotQuantizedError):
            with suppress(HubError):  # if the files cannot be listed, the error at hand is raised
                hub.refuse_pickles(repo, commit, token)
        raise
    # Without its revision, what is advised for the entry would be done with another one's weights.
    return Entry(f"hf-hub:{repo}@{asked}" if asked else f"hf-hub:{repo}", folder, "hub", commit)


def _architecture(name: str) -> str:
    return name.split(".")[0]


def _networks_of_timm() -> set[str]:
    """Return the names of timm's networks, without tags, which name weights that are trained otherwise."""
    # Importing timm brings torch, and an error need not take seconds: its sources say what it registers.
    spec = find_spec("timm")
    folders = (spec and spec.submodule_search_locations) or ()
    sources = [file.read_text(encoding="utf-8") for folder in folders for file in Path(folder, "models").glob("*.py")]
    return {name for source in sources for name in re.findall(r"^@register_model\ndef (\w+)\(", source, re.MULTILINE)}


def _nearest(name: str, bundled: Sequence[str]) -> str:
    """Return which of the bundled names may have been meant, or all of them."""
    architectures = dict.fromkeys(map(_architecture, bundled))
    near = difflib.get_close_matches(name.strip().lower(), [*bundled, *architectures], n=3, cutoff=0.5)
    train = "accelerate launch -m limpq_hub.train.indicators"
    if name in _networks_of_timm():
        return (
            f"it is a network of timm that is not bundled ({', '.join(bundled)} is): train it with {train} --model "
            f"{name} --data FOLDER --output out/{name} and give local-dir:out/{name}; or turn indicators of the LIMPQ "
            f"authors into a file with limpq import PICKLE --model {name} --output {name}.json"
        )
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(bundled)}; any timm network can be trained with {train}"
