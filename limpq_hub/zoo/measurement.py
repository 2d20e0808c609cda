"""How a figure was measured: data set, number of images, seed, and the command that gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, Literal, cast

from limpq_hub.plan.quantities import format_size
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.float_file import float_file_of

# What tells the validation images of a data record from others.
_NAMES = "validation_names_sha256"


@dataclass(frozen=True)
class Measurement:
    """How a figure was measured; None is what the artifact does not say.

    Attributes:
        data: name of the data set.
        images: how many images.
        split: which of the data set; "validation" where nothing else is said.
        seed: of the training or of the choice of calibration images.
        command: what gives the figure.
    """

    data: str | None
    images: int | None
    split: str
    seed: int | None
    command: str | None

    @property
    def images_text(self) -> str:
        """Data set, number and split of the images; empty where the number is not known."""
        if self.images is None:
            return ""
        return ", ".join(filter(None, (self.data, f"{self.images:,} {self.split} images")))

    def standard_error(self, top1: float) -> float | None:
        """Return the standard error of a share in percent, in percent; None where the number of images is not known.

        Source: sqrt(p (1 - p) / n) of a share p of n images.
        """
        known = self.images is not None and 0 < self.images < 2**63  # what a file says can be any number
        return sqrt(top1 * (100 - top1) / cast(int, self.images)) if known else None

    def __str__(self) -> str:
        """Return all but the command, as a table shows it."""
        seed = None if self.seed is None else f"seed {self.seed}"
        return ", ".join(filter(None, (self.images_text or self.data, seed))) or "not said"


def accuracy_cell(figures: Mapping[str, Any], measured: Measurement | None = None) -> str:
    """Return how right a network is, for a table: top-1; where it is missing, agreement and KL to the float network.

    Args:
        measured: how; top-1 then comes with its standard error.
    """
    if figures.get("top1") is not None:
        return top1_text(figures["top1"], measured)
    if figures.get("agreement") is None:
        return ""
    kl = "" if figures.get("kl") is None else f", KL {figures['kl']:.4f}"
    return f"agrees with float on {figures['agreement']:.2f} %{kl}"


def top1_text(top1: float, measured: Measurement | None) -> str:
    """Return a top-1 in percent with its standard error; without, where the number of images is not known."""
    error = measured and measured.standard_error(top1)
    return f"{top1:.2f} %" if error is None else f"{top1:.2f} % +/- {error:.2f}"


def top1_on_images(top1: float, measured: Measurement | None) -> str:
    """Return a top-1 for a sentence: with its standard error, and the images that it was measured on, if known."""
    where = measured.images_text if measured else ""
    return f"{top1_text(top1, measured)} top-1" + (f" on {where}" if where else "")


def top1_measurement(entry: Entry, policy_sha256: str, weights: Literal["fine-tuned", "joint"]) -> Measurement | None:
    """Return how the top-1 of a policy was measured that `Entry.measured_top1` gives; None if it was not."""
    if weights == "fine-tuned":
        published = entry.published_at(policy_sha256)
        return None if published is None or published.top1 is None else policy_measurement(entry, published.name)
    records = entry.joint_records(calibrated=False)
    measured = (joint for joint in records if joint["policy_sha256"] == policy_sha256 and "top1" in joint)
    return next((joint_measurement(entry, joint) for joint in measured), None)


def top1_record(top1: float | None, measured: Measurement | None) -> dict[str, float | int | None]:
    """Return a top-1 in percent as JSON holds it, with its standard error and the number of images that it is of."""
    error, images = None, None
    if top1 is not None and measured is not None:
        error, images = measured.standard_error(top1), measured.images
    return {"top1": top1, "top1_standard_error": error, "top1_images": images}


def measurement_of(entry: Entry, figures: Mapping[str, Any], provenance: object) -> Measurement:
    """Return how figures were measured.

    Args:
        entry: whose data set it is if `provenance` names none.
        figures: with "images", if they say.
        provenance: with "command", "seed" and "data", if it says.
    """
    record = provenance if isinstance(provenance, Mapping) else {}
    data = record.get("data") if _name(record.get("data")) else entry.indicators.provenance.get("data")
    return Measurement(
        data=_name(data),
        split=_split(data),
        images=_of_type(figures.get("images"), int),
        seed=_of_type(record.get("seed"), int),
        command=_of_type(record.get("command"), str),
    )


def float_label(entry: Entry) -> str:
    """Return what the float network of an entry is called beside its figures: with the precision of its weights."""
    return "float, stored in half precision" if float_file_of(entry.folder) else "float32"


def float_size(entry: Entry) -> str:
    """Return how large the weights of the float network are in float32, for a table."""
    size = format_size(entry.summary()["float_bytes"])
    return f"{size} in float32" if float_file_of(entry.folder) else size


def float_measurement(entry: Entry) -> Measurement:
    """Return how the float network was measured; its training may have been on other data, and measured there."""
    figures = entry.metrics.get("float", {})
    of_training = measurement_of(entry, figures, figures.get("provenance"))
    data = figures.get("data")
    if _name(data) is None:  # earlier versions did not record it
        return of_training
    of_training_record = figures.get("provenance")
    trained_on = of_training_record.get("data") if isinstance(of_training_record, Mapping) else None
    names = [_of_type(record.get(_NAMES), str) for record in (data, trained_on) if isinstance(record, Mapping)]
    same = len({*names}) == 1 and len(names) == 2
    return replace(of_training, data=_name(data), split=_split(data), command=of_training.command if same else None)


def policy_measurement(entry: Entry, policy_name: str) -> Measurement:
    """Return how a fine-tuned policy was measured: by the command that trained it."""
    checkpoint = entry.checkpoint(policy_name)
    figures = checkpoint.read_json("metrics.json") if "metrics.json" in checkpoint.files else {}
    return measurement_of(entry, figures, checkpoint.config["provenance"])


def joint_measurement(entry: Entry, figures: Mapping[str, Any]) -> Measurement:
    """Return how one figure of the jointly trained weights was measured."""
    return measurement_of(entry, figures, entry.metrics.get("joint_provenance"))


def _name(data: object) -> str | None:
    return _of_type(data.get("name"), str) if isinstance(data, Mapping) else None


def _split(data: object) -> str:
    """Return the split that a data record names, "val" by its full name."""
    split = _of_type(data.get("split"), str) if isinstance(data, Mapping) else None
    return "validation" if split in (None, "val") else split


def _of_type(value: object, kind: type) -> Any:
    return value if type(value) is kind else None
