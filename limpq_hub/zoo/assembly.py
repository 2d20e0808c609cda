"""Put an entry folder together: joint training, fine-tuned policies and measured figures, verified and sealed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from limpq_hub.errors import ArtifactFormatError, quoted
from limpq_hub.plan.importance import OBJECTIVE_REASON, Importance
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.plan.search_record import search_record
from limpq_hub.zoo.anchors import recode_anchors
from limpq_hub.zoo.card_commands import without_paths
from limpq_hub.zoo.checkpoint import FILES, KIND
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import METRICS, seal_entry
from limpq_hub.zoo.folder import SealedFolder, open_local_folder, seal_folder
from limpq_hub.zoo.folder_copy import check_place, copy_verified, replaced_folder
from limpq_hub.zoo.front import check_front, with_recoded_front, without_front
from limpq_hub.zoo.hub.card_there import copy_card
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.recoding import recode_checkpoint, recode_networks

_POLICY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


def assemble_entry(
    joint: SealedFolder,
    checkpoints: Mapping[str, SealedFolder],
    target: Path,
    front: Mapping[str, Any] | None = None,
    *,
    indicators: Indicators | None = None,
    importance: Importance | None = None,
    apart: int | None = None,
    reason: str | None = None,
    recode: bool = False,
) -> None:
    """Write an entry that holds everything of `joint` and the checkpoints as its policies.

    Earlier versions recorded commands with the folders of who typed them: names are left of these.

    Args:
        joint: an entry, with or without policies; one of the same name as a checkpoint is replaced.
        checkpoints: fine-tuned policies by the name they are published under.
        target: the folder; an entry there is replaced, unless the folder holds anything else.
        front: what `limpq_hub.train.front` measured of `joint`.
        indicators: those of `joint` with the divergence of each pair of bits; its own if None.
        importance, apart: what a search adds up unless it is told otherwise, and how far apart the bits of a layer may
            be in it, as `Indicators.using` takes them.
        reason: why a search does so, for the card; kept in the provenance of the indicators.
        recode: whether networks and policies of an earlier version are written in fewer bytes, the same numbers.

    Raises:
        PolicyError: `importance` is "measured", and the pairs of bits were not, or `apart` is no number of bits.
        ArtifactError: a file is damaged, two names are of one policy, `front` is of another supernet, of other
            statistics or of another search, `indicators` are of another training, or `target` holds something else,
            the entry of another network among it.
    """
    network = NetworkSpec.from_config(joint.config, joint.name)
    for name, checkpoint in checkpoints.items():
        if not is_policy_name(name):
            raise ArtifactFormatError(f"{quoted(name)} cannot name a policy: use letters, digits, dots and dashes")
        tuned = NetworkSpec.from_config(checkpoint.config, checkpoint.name)
        for what, theirs, ours in (
            ("of", tuned.title, network.title),
            ("for pictures prepared with", tuned.preparation, network.preparation),
        ):
            if theirs != ours:
                raise ArtifactFormatError(
                    f"{checkpoint.name} is {what} {theirs}, the entry {what} {ours}: give checkpoints that were "
                    "fine-tuned from this entry"
                )
    _check_names(checkpoints)
    trained = Indicators.from_json(joint.read_json("indicators.json"), f"{joint.name}/indicators.json")
    if indicators is not None:
        _check_same_training(indicators, trained)
    published = (indicators or trained).using(importance, apart)
    why = {OBJECTIVE_REASON: " ".join(reason.split())} if reason else {}
    published = replace(published, provenance=without_paths(dict(published.provenance)) | why)
    # An entry of `save_entry` has none until something is measured.
    metrics = joint.read_json(METRICS) if METRICS in joint.files else {}
    if front is not None:
        check_front(front, joint, trained, published)
        metrics |= {"joint": front["joint"], "joint_provenance": {k: v for k, v in front.items() if k != "joint"}}
    elif metrics and search_record(trained) != search_record(published):
        metrics = without_front(metrics)
    with remade_entry(joint, target) as building:
        for name, checkpoint in checkpoints.items():
            shutil.rmtree(building / "policies" / name, ignore_errors=True)
            copy_verified(checkpoint, building / "policies" / name)
        if published != trained:
            published.save(building / "indicators.json")
        if recode:
            recode_networks(Entry(joint.name, joint, "local"), building)
            recode_anchors(joint, building)
            metrics = with_recoded_front(metrics, joint, building)
        for policy in sorted((building / "policies").glob("*")):
            if recode:
                recode_checkpoint(open_local_folder(policy, "checkpoint"), policy)
            _name_paths(policy)
        if metrics:
            write_json(building / METRICS, without_paths(metrics))


@contextmanager
def remade_entry(source: SealedFolder, target: Path) -> Iterator[Path]:
    """Give a copy of an entry to be changed; it is sealed, and takes the place of `target`, when all went well.

    Args:
        source: the entry.
        target: the folder; an entry there is replaced, unless the folder holds anything else.

    Raises:
        ArtifactError: a file of the entry is damaged, or `target` holds something else, the entry of another network
            among it.
        HubError: the entry is on the Hub, which does not give a file of it.
        OutputError, OSError: as `replaced_folder`.
    """
    network = NetworkSpec.from_config(source.config, source.name)
    check_place(source, target)
    with replaced_folder(target) as building:
        copy_verified(source, building)
        copy_card(source, building)
        yield building
        seal_entry(building, network)


def _check_names(checkpoints: Mapping[str, SealedFolder]) -> None:
    """Raise `ArtifactFormatError` if two checkpoints are given for one policy: which weights are meant is open.

    One that the entry has already is no reason: a training that ends is not told so late that its policy is there.
    """
    name_of: dict[str, str] = {}
    for name, checkpoint in checkpoints.items():
        digest = checkpoint.config.get("policy_sha256")
        other = name_of.setdefault(str(digest), name)
        if other != name:
            raise ArtifactFormatError(
                f"{quoted(other)} and {quoted(name)} are fine-tuned for the same policy, and an entry has one network "
                f"for a policy: give one of them, under the name {quoted(other)}"
            )


def _name_paths(policy: Path) -> None:
    """Leave of the paths in what a checkpoint says of its origin their names, and seal it again."""
    checkpoint = open_local_folder(policy, "checkpoint")
    provenance = checkpoint.config.get("provenance", {})
    if without_paths(provenance) != provenance:
        config = {key: value for key, value in checkpoint.config.items() if key not in ("format", "kind", "files")}
        seal_folder(policy, KIND, config | {"provenance": without_paths(provenance)}, FILES)


def _check_same_training(measured: Indicators, trained: Indicators) -> None:
    """Raise `ArtifactFormatError` if indicators differ from others in more than what a search adds up."""
    if _as_learned(measured) != _as_learned(trained):
        raise ArtifactFormatError(
            f"the measured indicators are of another training of {measured.title} than the entry; measure those of the "
            "entry with: limpq measure local-dir:JOINT --images FOLDER --output indicators.json"
        )


def _as_learned(indicators: Indicators) -> Indicators:
    of_objective = ("divergences", OBJECTIVE_REASON)
    provenance = {key: value for key, value in indicators.provenance.items() if key not in of_objective}
    return replace(indicators, divergences={}, objective="learned", apart=None, provenance=provenance)


def is_policy_name(name: str) -> bool:
    """Return whether a policy can be published under this name: letters, digits, single dots, dashes."""
    return bool(_POLICY_NAME.fullmatch(name)) and ".." not in name
