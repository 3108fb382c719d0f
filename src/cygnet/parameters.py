"""The parameters of every pipeline: one frozen pydantic model each, read from `conf/*/parameters*.yml`.

Unknown keys are forbidden and ranges are checked, before any work starts, so that a typing mistake costs a second and
not an evening. The YAML files say type, unit and range of each; the bounds here enforce what they say.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cygnet.errors import UserError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Quality = Annotated[int, Field(ge=50, le=100)]


class Parameters(BaseModel):
    """Base of all parameter models: frozen, no unknown keys, and every pair is a range [low, high]."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _bools_are_no_numbers(cls, data: Any) -> Any:
        for name, field in cls.model_fields.items():
            if isinstance(data, dict) and isinstance(data.get(name), bool) and field.annotation is not bool:
                msg = f"{name} is {data[name]}, a number or a name is needed"
                raise ValueError(msg)
        return data

    @model_validator(mode="after")
    def _pairs_are_ranges(self) -> Self:
        for name, value in self:
            if isinstance(value, tuple) and value[0] > value[1]:
                msg = f"{name} [{value[0]}, {value[1]}] is no range: the first number must not be above the second"
                raise ValueError(msg)
        return self


class Split(Parameters):
    """Shares of each source's decoded span, in time order; the rest of the span is `test`."""

    train_frac: float = Field(gt=0, lt=1)
    validation_frac: float = Field(gt=0, lt=1)
    gap_s: float = Field(ge=0)

    @model_validator(mode="after")
    def _test_is_left(self) -> Self:
        if self.train_frac + self.validation_frac >= 1:
            msg = f"train_frac + validation_frac = {self.train_frac + self.validation_frac:g} leaves nothing to test"
            raise ValueError(msg)
        return self


class Ingestion(Parameters):
    """`params:ingestion`: sampling, labels, crop, split."""

    interval_s: float = Field(gt=0, le=3600)
    default_label: Literal["normal", "abnormal"]
    crop_horizontal_bias: Fraction
    frame_jpeg_quality: Quality
    image_jpeg_quality: Quality
    split: Split


class PolygonShape(Parameters):
    """An irregular polygon around a circle of the patch's area."""

    vertices: tuple[Annotated[int, Field(ge=3)], Annotated[int, Field(le=64)]]
    radius_factor: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=10)]]
    min_radius_px: float = Field(gt=0, le=128)


class FramePolygons(Parameters):
    """The reference's frame rule: a share of the pixels, split at random over salt and pepper patches."""

    amount_frac: tuple[Fraction, Annotated[float, Field(gt=0, le=1)]]
    salt_vs_pepper: Fraction
    salt_patches: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(le=100)]]
    pepper_patches: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(le=100)]]


class ImagePolygons(Parameters):
    """The reference's 256-pixel rule: one patch near the centre, some more in the edge bands."""

    patch_area_px: float = Field(gt=0, le=65536)
    salt_vs_pepper: Fraction
    centre_band_frac: tuple[Fraction, Fraction]
    edge_patches: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(le=100)]]
    edge_band_frac: float = Field(gt=0, le=0.5)


class Polygon(Parameters):
    """Settings of kind `polygon`: the chosen preset and both presets' numbers."""

    preset: Literal["image", "frame"]
    shape: PolygonShape
    image: ImagePolygons
    frame: FramePolygons


class Spots(Parameters):
    """Settings of the kinds beside `polygon`: how many spots, how large, and what severity 0 and 1 mean for each."""

    spots: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(le=100)]]
    radius_frac: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=0.5)]]
    soft_shift_levels: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=255)]]
    paste_jitter_levels: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(le=255)]]
    perlin_opacity: tuple[Fraction, Fraction]
    blend_opacity: tuple[Fraction, Fraction]
    blur_sigma_frac: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=0.1)]]
    shift_frac: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=0.5)]]


Kind = Literal["polygon", "polygon_soft", "cutpaste", "scar", "perlin", "blend", "blur", "shift", "null"]
PerFrame = Annotated[int, Field(ge=0, le=100)]


class Kinds(Parameters):
    """How many anomalies of each kind are drawn on each normal frame, by split."""

    train: dict[Kind, PerFrame]
    validation: dict[Kind, PerFrame]
    test: dict[Kind, PerFrame]

    @model_validator(mode="after")
    def _null_is_a_control(self) -> Self:
        if self.train.get("null"):
            msg = "`null` is a control without an anomaly and can't be trained on: use it in validation and test"
            raise ValueError(msg)
        return self


class SplitSeeds(Parameters):
    """One seed per split: the anomalies of `test` do not change with those of `train`."""

    train: Seed
    validation: Seed
    test: Seed

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if len({self.train, self.validation, self.test}) < 3:
            msg = f"the three seeds must differ, they are {self.train}, {self.validation} and {self.test}"
            raise ValueError(msg)
        return self


class Synthesis(Parameters):
    """`params:synthesis`: which anomalies are drawn, how many, how."""

    seeds: SplitSeeds
    kinds: Kinds
    severity: tuple[Fraction, Fraction]
    polygon: Polygon
    spots: Spots


SEEN_KINDS: tuple[Kind, ...] = ("polygon", "polygon_soft", "cutpaste", "scar", "perlin")
"""Kinds that the carried weights may see; `blend`, `blur` and `shift` stay unseen, to measure on."""


class Twins(Parameters):
    """The anomalies of the procedural scenes: weights of the kinds, sizes."""

    kinds: dict[Kind, Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)
    spots: Spots

    @model_validator(mode="after")
    def _kinds_may_be_seen(self) -> Self:
        unseen = [kind for kind in self.kinds if kind not in SEEN_KINDS]
        if unseen:
            msg = f"{', '.join(unseen)} in kinds stay unseen, to measure on; allowed are {', '.join(SEEN_KINDS)}"
            raise ValueError(msg)
        return self


class Counts(Parameters):
    """Rows of `train` per class after balancing."""

    normal: int = Field(ge=1, le=10_000_000)
    abnormal: int = Field(ge=1, le=10_000_000)


class ReferenceAugmentation(Parameters):
    """Flips, quarter turns and an affine squash-and-skew: for scenes without an up and a left."""

    horizontal_flip: bool
    vertical_flip: bool
    quarter_turns: bool
    affine_probability: Annotated[float, Field(gt=0, le=1)]
    affine_shear: Annotated[float, Field(gt=0, le=1)]


class FixedCameraAugmentation(Parameters):
    """What a fixed camera really varies in: small shifts, gain, gamma, sensor noise."""

    shift_px: Annotated[float, Field(gt=0, le=64)]
    gain: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=4)]]
    gamma: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=4)]]
    noise_std: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(le=64)]]


class Augmentation(Parameters):
    """`params:augmentation`: how `train` is varied and balanced."""

    seed: Seed
    counts: Counts
    jpeg_quality: Quality
    preset: Literal["reference", "fixed_camera"]
    reference: ReferenceAugmentation
    fixed_camera: FixedCameraAugmentation


class SmallViT(Parameters):
    """The ViT that is initialised from its configuration where no checkpoint is given."""

    image_size_px: int = Field(ge=32, le=1024)
    patch_size_px: int = Field(ge=4, le=64)
    hidden_size: int = Field(ge=16, le=2048)
    layers: int = Field(ge=1, le=48)
    heads: int = Field(ge=1, le=64)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.image_size_px % self.patch_size_px:
            msg = f"image_size_px {self.image_size_px} is not a multiple of patch_size_px {self.patch_size_px}"
            raise ValueError(msg)
        if self.hidden_size % self.heads:
            msg = f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}"
            raise ValueError(msg)
        return self


class Threshold(Parameters):
    """How the threshold is chosen on the second half of the validation frames."""

    rule: Literal["max_f1", "target_fpr"]
    target_fpr: Annotated[float, Field(gt=0, lt=1)]


Texture = Literal["noise", "stretched_noise", "cells", "leaves", "grating", "bricks", "waves", "gradient"]


class Pretraining(Parameters):
    """`params:pretraining`: how the carried checkpoint is made from procedural scenes."""

    seed: Seed
    vit: SmallViT
    images: int = Field(ge=1, le=1_000_000_000)
    batch_size: int = Field(ge=2, le=4096, multiple_of=2)
    workers: int = Field(ge=0, le=256)
    learning_rate: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0, le=1)
    warmup_steps: int = Field(ge=0)
    decay_frac: Fraction
    average: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    patch_loss_weight: float = Field(ge=0, le=100)
    small_size_px: int = Field(ge=32, le=1024)
    small_size_frac: Fraction
    input_size_px: int = Field(ge=32, le=1024)
    oversampling: int = Field(ge=1, le=4)
    curriculum_images: int = Field(ge=0)
    easy_frac: Fraction
    textures: list[Texture] = Field(min_length=1)
    held_out_textures: list[Texture] = Field(min_length=1)
    held_out_images: int = Field(ge=16, le=100_000)
    swan_frames: int = Field(ge=1, le=1000)
    save_every_steps: int = Field(ge=1)
    twins: Twins

    @model_validator(mode="after")
    def _patches_fill_images(self) -> Self:
        for name, side_px in (("small_size_px", self.small_size_px), ("input_size_px", self.input_size_px)):
            if side_px % self.vit.patch_size_px:
                msg = f"{name} {side_px} is not a multiple of vit.patch_size_px {self.vit.patch_size_px}"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _held_out_textures_are_unseen(self) -> Self:
        seen = set(self.textures) & set(self.held_out_textures)
        if seen:
            msg = f"held_out_textures must not be among textures, but both have {', '.join(sorted(seen))}"
            raise ValueError(msg)
        return self


class Evaluation(Parameters):
    """How the detector is measured on `test`, and how much the baselines remember."""

    seed: Seed
    resamples: int = Field(ge=100, le=100_000)
    normal_frames: int = Field(ge=1, le=10_000)
    memory_patches: int = Field(ge=1, le=1_000_000)


class Training(Parameters):
    """`params:training`: the backbone and how it is fitted."""

    checkpoint: str | None
    image_size_px: Annotated[int, Field(ge=32, le=1024)] | None
    small_vit: SmallViT
    fitted: Literal["full", "last_blocks", "heads"]
    last_blocks: int = Field(ge=1, le=48)
    seed: Seed
    epochs: int = Field(ge=1, le=1000)
    patience: int = Field(ge=1, le=1000)
    batch_size: int = Field(ge=1, le=4096)
    optimizer: Literal["adamw", "muon"]
    learning_rate: float = Field(gt=0, le=1)
    layer_decay: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0, le=1)
    warmup_frac: Fraction
    average: float = Field(ge=0, lt=1)
    fitted_fracs: list[Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1, max_length=100)
    patch_loss_weight: float = Field(ge=0, le=100)
    twins: bool
    threshold: Threshold
    evaluation: Evaluation


class Gate(Parameters):
    """What a challenger must reach on `test` to become the champion, and whether missing it stops the promotion."""

    mode: Literal["enforce", "report", "off"]
    min_auroc: Fraction
    max_normal_p99: Fraction
    max_false_alarm_frac: Fraction
    max_auroc_loss: Fraction
    max_abs_score_difference: float = Field(gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _off_is_a_word(cls, data: Any) -> Any:
        """YAML reads a bare `off` as false."""
        return {**data, "mode": "off"} if isinstance(data, dict) and data.get("mode") is False else data


class Client(Parameters):
    """How the endpoint is asked: patience, sizes, requests at a time."""

    timeout_s: float = Field(gt=0, le=3600)
    retries: int = Field(ge=0, le=20)
    backoff_s: float = Field(ge=0, le=60)
    max_request_bytes: int = Field(ge=1000, le=16_000_000)
    in_flight: int = Field(ge=1, le=64)


RuntimeName = Literal["torch", "torch_bf16", "onnx", "onnx_int8"]


class RequestLimits(Parameters):
    """What the served model takes at most."""

    request_rows: int = Field(ge=1, le=10_000)
    request_bytes: int = Field(ge=1000, le=1_000_000_000)
    request_px: int = Field(ge=1000, le=10_000_000_000)
    image_bytes: int = Field(ge=1000, le=1_000_000_000)
    image_px: int = Field(ge=1000, le=80_000_000)


class Parity(Parameters):
    """How far the scores of `runtime` may be from those of torch in float32, on `test`."""

    max_abs_score_difference: float = Field(gt=0, le=1)
    max_mean_abs_score_difference: float = Field(gt=0, le=1)
    min_decisions_agree_frac: Fraction
    max_auroc_loss: Fraction


class Serving(Parameters):
    """`params:serving`: what runs the served model and what it takes, how the endpoint is asked, and the gate."""

    runtime: RuntimeName
    limits: RequestLimits
    parity: Parity
    batch_size: int = Field(ge=1, le=100)
    client: Client
    gate: Gate


class Events(Parameters):
    """When an event begins, ends, and is worth telling: see `cygnet.model.events`."""

    close_frac: Annotated[float, Field(gt=0, le=1)]
    max_gap_s: float = Field(ge=0)
    min_duration_s: float = Field(ge=0)


Crop = Literal["square", "letterbox", "tiles"]


class Scoring(Parameters):
    """`params:scoring`: which frames are scored, where they are looked at, and what is made of the scores."""

    interval_s: Annotated[float, Field(gt=0, le=3600)] | None
    crop: Crop
    threshold: Annotated[float, Field(gt=0, le=1)] | None
    events: Events
    annotated_video: bool


PIPELINE_PARAMETERS: dict[str, type[Parameters]] = {
    "ingestion": Ingestion,
    "synthesis": Synthesis,
    "augmentation": Augmentation,
    "pretraining": Pretraining,
    "training": Training,
    "serving": Serving,
    "scoring": Scoring,
}

MOST_PARTITIONS = 10_000

RUN_PARAMETERS = ("video", "labels", "spark_partitions", "job_run_id")
"""Keys of `--params` that the catalog, spark.yml and hooks read, beside those of the pipelines."""


def check_parameters(parameters: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Check all parameters of a run, whatever pipeline it runs.

    Args:
        parameters: The merged content of `conf/*/parameters*.yml` and `--params`.
        given: The content of `--params` alone.

    Raises:
        UserError: One sentence for each value that is unknown, of the wrong type, or out of range.
    """
    known = [*PIPELINE_PARAMETERS, *RUN_PARAMETERS]
    problems = [_unknown(key, known) for key in map(str, parameters) if key not in known]
    for name, model in PIPELINE_PARAMETERS.items():
        if name not in parameters:
            problems.append(f"Parameter '{name}' is missing: restore it in conf/base/parameters_{name}.yml.")
            continue
        try:
            model.model_validate(parameters[name])
        except ValidationError as error:
            problems += [_sentence(name, model, detail) for detail in error.errors()]
    problems += [
        f"Parameter '{key}' does nothing in a file: pass it as --params={key}=..."
        for key in RUN_PARAMETERS
        if key in parameters and key not in given
    ]
    partitions = parameters.get("spark_partitions", 1)
    if not isinstance(partitions, int) or not 1 <= partitions <= MOST_PARTITIONS:
        problems.append(
            f"Parameter 'spark_partitions' is {partitions!r}: it must be an int from 1 to {MOST_PARTITIONS}."
        )
    if problems:
        raise UserError(" ".join(problems))


def _sentence(pipeline: str, model: type[Parameters], detail: Mapping[str, Any]) -> str:
    location = [str(part) for part in detail["loc"]]
    name = ".".join([pipeline, *location])
    if detail["type"] == "extra_forbidden":
        return _unknown(name, [f"{pipeline}.{key}" for key in _known_names(model)])
    if detail["type"] == "missing":
        return f"Parameter '{name}' is missing: restore it in conf/base/parameters_{pipeline}.yml."
    if location[-1:] == ["[key]"]:  # pydantic's place of a dictionary's key: a kind that does not exist
        section = ".".join([pipeline, *location[:-2]])
        known = re.findall("'(.*?)'", detail["ctx"]["expected"])
        return _unknown(f"{section}.{location[-2]}", [f"{section}.{key}" for key in known])
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"Parameter '{name}': {message}."
    return f"Parameter '{name}' is {detail['input']!r}: {message[0].lower()}{message[1:]}."


def _unknown(name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"Parameter '{name}' is unknown: the nearest known one is '{nearest[0]}'."


def _known_names(model: type[BaseModel]) -> list[str]:
    """Dotted names of all parameters of a model, those of its sections included."""
    names = []
    for key, field in model.model_fields.items():
        names.append(key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += [f"{key}.{inner}" for inner in _known_names(field.annotation)]
    return names
