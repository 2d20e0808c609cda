"""Further inputs of a run, such as weights and validation pictures: they must be the same at every resume."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from accelerate import Accelerator

from limpq_hub.errors import TrainingError
from limpq_hub.plan.jsonfile import read_json, write_json
from limpq_hub.train.data.identity import difference, identity_of
from limpq_hub.train.data.splits import open_split
from limpq_hub.train.loop.folder import INPUTS, NETWORK, holds_run, is_trained, refuse_other_data
from limpq_hub.train.settings import DataSettings
from limpq_hub.train.training_settings import RunSettings
from limpq_hub.train.weights.fetched_weights import content_name
from limpq_hub.zoo.network import NetworkSpec

FORMAT = 1


def check_inputs(
    accelerator: Accelerator,
    run: RunSettings,
    data: DataSettings,
    spec: NetworkSpec,
    contents: Mapping[str, str] | None = None,
) -> None:
    """Note what the run reads, or compare it with what was noted at its start; the main process does.

    Args:
        data: where the validation pictures are; those that are held out of the training pictures go with these.
        spec: the network, with how pictures are prepared for it, which a file beside its weights may say.
        contents: a sha256 of each other thing that the run starts from, by what a message calls it.

    Raises:
        TrainingError: the run was begun with other contents, or with other validation pictures and is not trained yet.
    """
    if not accelerator.is_main_process:
        return
    path, trained = run.output / INPUTS, is_trained(run.output)
    validated = None if data.data is None else open_split(data, training=False)
    identity = {} if validated is None else identity_of(validated)
    network = hashlib.sha256(json.dumps(spec.to_config(), sort_keys=True).encode()).hexdigest()
    digests = {**(contents or {}), NETWORK: network}
    inputs: dict[str, Any] = {"format": FORMAT, "validation_data": identity, "contents": digests}
    # What was noted of a start that was refused is of no run; where an earlier version began the run, nothing was.
    first = read_json(path) if holds_run(run) and path.exists() else inputs
    other = difference(first["validation_data"], identity)
    if validated is not None and other:
        refuse_other_data(validated.where, other, trained=trained)
        inputs["validation_data"] = first["validation_data"]
    # By the file alone: its folder may have moved, to another machine for instance.
    noted = {PurePath(name).name: digest for name, digest in first["contents"].items()}
    # What an earlier version did not note.
    for name in (NETWORK, content_name("weights"), content_name("teacher")):
        if name in digests:
            noted.setdefault(name, digests[name])
    changed = [name for name, digest in digests.items() if noted.get(PurePath(name).name) != digest]
    if changed:
        raise TrainingError(
            f"--resume with another {changed[0]} than the run began with; bring that back, or choose another --output"
        )
    write_json(path, inputs)
