"""What the figures of a comparison depend on: where any of it is another, those of before are not taken."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from limpq_hub.plan.input_file import read_regular
from limpq_hub.train.data.identity import digest_of
from limpq_hub.train.data.splits import open_split, training_split
from limpq_hub.train.loop.provenance import weights_record
from limpq_hub.train.measure.same_finetuning import Finetuning
from limpq_hub.train.recipe import path_of
from limpq_hub.train.settings import ComparisonSettings, DataSettings
from limpq_hub.train.weights.fetched_weights import network_content
from limpq_hub.train.weights.networks import float_network_of
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_tensors import SUPERNET
from limpq_hub.zoo.float_file import float_file_of

# Options that no figure depends on, but for the order in which threads add up, or that its key names.
MAY_CHANGE = {"bitops", "random", "correlated", "correlate_every", "steps", "output"}
MAY_CHANGE |= {"workers", "threads", "cache_images"}
MAY_CHANGE |= {"criteria", "criterion_images", "contenders", "policies", "calibrated", "correlate_over", "importance"}


def what_figures_depend_on(settings: ComparisonSettings, entry: Entry) -> Mapping[str, object]:
    """Return the options and the digests of all files and pictures that a figure depends on."""
    record = {name: value for name, value in settings.invocation.options.items() if name not in MAY_CHANGE}
    record |= weights_record(settings.invocation)
    files = entry.folder.config["files"]
    record |= {
        name: files[name]["sha256"] for name in (SUPERNET, float_file_of(entry.folder)) if name and name in files
    }
    record |= digests_of_pictures(settings.data)
    if settings.recipe:
        record["recipe_sha256"] = hashlib.sha256(read_regular(path_of(settings.recipe))).hexdigest()
    return record


def what_the_recipe_reads(finetuning: Finetuning | None, entry: Entry) -> Mapping[str, str]:
    """Return a sha256 of each float network that the recipe of the fine-tuning names, whatever a file is called.

    Raises:
        TrainingError: there are no such weights, or they are of another network or for other classes.
    """
    named = finetuning.float_networks if finetuning else {}
    return {
        f"{option} of the fine-tuning": network_content(float_network_of(entry, name, f"--{option} of the recipe"))
        for option, name in named.items()
    }


def digests_of_pictures(data: DataSettings) -> dict[str, str]:
    """Return a sha256 of the validation pictures, and of the training pictures if there are any."""
    digests = {"validation pictures": digest_of(open_split(data, training=False))}
    trained = open_split(data, training=True) if data.unlabelled else training_split(data)
    if trained is not None:
        digests["training pictures"] = digest_of(trained)
    return digests
