"""The scene: the settings that turned videos into pixels, recorded once and carried along.

Ingestion writes them beside its tables, augmentation adds its own, training stores them in the model, and scoring and
serving read them from the model. Every image that a detector sees is therefore sampled, cropped and encoded like the
images it was trained on, whatever the parameters say today. A run whose parameters disagree with what it reads stops
(see `cygnet.preflight`).

The served model carries this module, so it imports nothing but the standard library.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

PARAMETERS = {
    "interval_s": "ingestion.interval_s",
    "view": "scene.view",
    "region": "scene.region",
    "ignore": "scene.ignore",
    "crop_horizontal_bias": "ingestion.crop_horizontal_bias",
    "frame_jpeg_quality": "ingestion.frame_jpeg_quality",
    "image_jpeg_quality": "ingestion.image_jpeg_quality",
    "camera": "scene.camera",
    "training_jpeg_quality": "augmentation.jpeg_quality",
}
"""Field of a scene to the parameter that sets it."""

AREA_FIELDS = ("region", "ignore")
"""Fields that hold a shape; it is compared and told by `shape_name`."""


@dataclass(frozen=True)
class Scene:
    """What every image of `images` has gone through."""

    interval_s: float  # seconds between sampled frames, > 0
    view: str  # square, whole or tiles: which part of a frame is seen, see `cygnet.vision.crop.place_views`
    crop_horizontal_bias: float  # 0-1: where the `square` sits across the frame; 0 left, 0.5 centre, 1 right
    frame_jpeg_quality: int  # 50-100, of the whole frames
    image_jpeg_quality: int  # 50-100, of the cropped images
    image_size_px: int  # side of the cropped images
    region: str | None = field(default=None, kw_only=True)  # look only inside; JSON or base64, see `cygnet.area`
    ignore: str | None = field(default=None, kw_only=True)  # do not look here

    @property
    def area(self) -> tuple[str | None, str | None]:
        """What is looked at, as `cygnet.vision.region` takes it."""
        return self.region, self.ignore

    def by_parameter(self) -> dict[str, Any]:
        """Give the recorded values by the dotted names of the parameters that set them; of a shape, its name."""
        return {
            PARAMETERS[name]: shape_name(value) if name in AREA_FIELDS else value
            for name, value in asdict(self).items()
            if name in PARAMETERS
        }


@dataclass(frozen=True)
class TrainingScene(Scene):
    """What every image of `training_set`, and so every image that a detector sees, has gone through."""

    training_jpeg_quality: int  # 50-100, of the rows of training_set
    camera: str  # fixed or moving: how train images vary, see `cygnet.vision.transforms`

    @property
    def image_jpeg_qualities(self) -> tuple[int, int]:
        """The encodings of a cropped image before the detector sees it, in their order."""
        return self.image_jpeg_quality, self.training_jpeg_quality


def shape_name(shape: str | None) -> str | None:
    """Name a recorded shape in a few words that differ from those of any other; None for no shape."""
    if shape is None:
        return None
    kind = f"{len(json.loads(shape))} polygon(s)" if shape.startswith("[") else "a mask"
    return f"{kind} [{hashlib.sha256(shape.encode()).hexdigest()[:8]}]"


def read_scene(values: Mapping[str, Any]) -> Scene:
    """Make a scene from its recorded fields. Raises TypeError if some are missing or unknown."""
    return (TrainingScene if "training_jpeg_quality" in values else Scene)(**values)


def recorded_by(parameter: str) -> str:
    """Name the pipeline that records a parameter of the scene, one of the values of `PARAMETERS`."""
    is_of_images = any(PARAMETERS.get(field.name) == parameter for field in fields(Scene))
    return "ingestion" if is_of_images else "augmentation"
