"""What a run is asked for, in typed parts: each function takes the parts that it needs.

A field has the name of its option, with underscores; `settings_of` fills the parts from the parsed command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from limpq_hub.plan.importance import Importance
from limpq_hub.zoo.model_args import ModelArgument

# Images that are measured together where nothing else is said.
VALIDATION_BATCH = 250


@dataclass(frozen=True)
class Invocation:
    """How a command was called, for the record.

    Attributes:
        command: what gives the same result again, as a shell takes it.
        options: every option by name, as JSON holds it.
        typed: the words after the command.
    """

    command: str
    options: Mapping[str, object]
    typed: Sequence[str] = ()


@dataclass(frozen=True)
class DataSettings:
    """Which pictures are read, and how.

    Attributes:
        data: folder with a folder per split, or the name of a data set: torch/..., hfds/..., wds/...; None where
            `unlabelled` is all there is.
        batch_size: pictures per process and batch.
        workers: processes that decode pictures; 0 decodes in the main one.
        seed: of the order, the augmentation and the draws.
        data_root: folder of a torch/ or wds/ data set, cache folder of a hfds/ one.
        train_split, val_split: folder or split of the training and of the validation pictures.
        cache_images: whether the training pictures are decoded once, into memory.
        unlabelled: folders of training pictures without labels, in place of the training split of `data`.
    """

    data: str | None
    batch_size: int
    workers: int
    seed: int
    data_root: str | None = None
    train_split: str = "train"
    val_split: str = "val"
    cache_images: bool = False
    unlabelled: Sequence[str] = ()


@dataclass(frozen=True)
class AugmentationSettings:
    """Which training pictures are used, and how they are varied.

    Attributes:
        crop_scale: least and largest area of the random crop, 0..1.
        color_jitter: strength, 0 for none.
        auto_augment: timm's policy string.
        data_fraction: share of the training pictures that is used, 0..1.
    """

    crop_scale: Sequence[float]
    color_jitter: float
    auto_augment: str | None
    data_fraction: float


@dataclass(frozen=True)
class DeviceSettings:
    """How a network is computed.

    Attributes:
        threads: CPU threads; None for the cores that this process may use, divided among those of one launcher.
        mixed_precision: "no" or "bf16".
        float64: whether everything is computed in float64.
        channels_last: memory format of images and weights.
    """

    threads: int | None = None
    mixed_precision: str = "no"
    float64: bool = False
    channels_last: bool = False


@dataclass(frozen=True)
class NetworkSettings:
    """Which float network a training starts from, and how it takes pictures.

    Attributes:
        model: timm architecture, perhaps with a tag.
        input_size: height and width in pixels; as belongs to the weights if None.
        weights: "pretrained" for timm's own, safetensors file, "local-dir:FOLDER", "hf-hub:OWNER/NAME", or None for
            random ones.
        model_args: arguments of `timm.create_model`, in place of those that the weights came with.
        mean, std: per channel, for pixels in 0..1; as belongs to the weights if None, like all below.
        crop_pct: share of the shorter side that the crop keeps.
        crop_mode: "center", "squash" or "border".
        interpolation: of the scaling: "bilinear", "bicubic", ...
    """

    model: str
    input_size: int | None
    weights: str | None
    model_args: Mapping[str, ModelArgument] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    crop_pct: float | None = None
    crop_mode: str | None = None
    interpolation: str | None = None


@dataclass(frozen=True)
class PushSettings:
    """Where a result is published.

    Attributes:
        push_to_hub: owner/name of a Hub repository; None to publish nothing.
        private: whether the repository is created as a private one.
        license: identifier of the licence of the weights.
    """

    push_to_hub: str | None
    private: bool
    license: str | None


CorrelateOver: TypeAlias = Literal["budget", "range"]


@dataclass(frozen=True)
class ComparisonSettings:
    """Which policies of an entry are compared, and how.

    Attributes:
        model: entry as `limpq_hub.load` takes it.
        output: folder for the results.
        bitops: budgets at which policies are compared.
        steps: fine-tuning steps of each policy; 0 leaves fine-tuning out.
        random: random policies per budget.
        correlated: random policies of each kind in `correlate_over`; 0 leaves the correlations out.
        correlate_over: "budget" for those within the first budget, "range" for budgets spread over the whole range.
        correlate_every: of so many validation images one is taken for the correlations.
        calibrate_images: training images that set the BatchNorm statistics of the joint weights; None for 1000 that
            recalibrate, or 256 that correct those of the float network where joint training kept them.
        recipe: of the fine-tuning.
        weights: safetensors file of the float network; None for that of the entry.
        importance: what the policy is searched by that the others are set beside; None for the entry's own.
        criteria: other ways to choose bits, as `criteria.criterion` takes them.
        criterion_images: training images that they are measured on.
        contenders: of these policies alone; all if empty.
        policies: NAME=FILE of policies that were chosen elsewhere, compared as well.
        calibrated: whether the float network is also measured at each policy, converted without training.
    """

    model: str
    output: Path
    bitops: Sequence[str]
    steps: int
    random: int
    correlated: int
    correlate_over: Sequence[CorrelateOver]
    correlate_every: int
    calibrate_images: int | None
    data: DataSettings
    device: DeviceSettings
    invocation: Invocation
    recipe: str | None = None
    weights: str | None = None
    importance: Importance | None = None
    criteria: Sequence[str] = ()
    criterion_images: int = 100
    contenders: Sequence[str] = ()
    policies: Sequence[str] = ()
    calibrated: bool = False
