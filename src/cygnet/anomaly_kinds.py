"""The kinds of synthetic anomaly: each is declared here, once.

To add a kind, add an entry to `KINDS` and write the function that it names; parameters, synthesis, pretraining and
evaluation pick it up from here. Entries name their functions instead of importing them, because every `kedro` command
checks the names of kinds in the parameters, and OpenCV is needed for drawing alone.
"""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from cygnet.tables import KIND_NULL

if TYPE_CHECKING:
    import numpy as np

KindFunction = Callable[["np.ndarray", "np.ndarray", "np.random.Generator", float, Any], "np.ndarray"]
"""`(image, donor, rng, severity, settings)` to the image with an anomaly. Images are `(H, W, 3)` uint8 BGR and are left
unchanged; the donor is another frame of the same split; severity is 0-1, from barely visible to plain."""


@dataclass(frozen=True)
class Kind:
    """One kind of anomaly.

    Attributes:
        function: Its `KindFunction`, as `module:name`.
        settings: The section of `params:synthesis` that the function takes. Pretraining passes `Spots` to every kind.
        is_seen: Whether fitting and pretraining may use it. The others show how the detector does on kinds that it
            has never seen.
        looks: What it draws, in words for `report.html`.
    """

    function: str
    settings: Literal["polygon", "spots"] = "spots"
    is_seen: bool = False
    looks: str = ""

    def load(self) -> KindFunction:
        """Import the function."""
        function: KindFunction = pkgutil.resolve_name(self.function)
        return function


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "polygon": Kind(
            "cygnet.vision.polygons:draw_polygons", settings="polygon", is_seen=True, looks="white and black patches"
        ),
        "polygon_soft": Kind(
            "cygnet.vision.spot_anomalies:polygon_soft", is_seen=True, looks="a patch slightly brighter or darker"
        ),
        "cutpaste": Kind(
            "cygnet.vision.spot_anomalies:cutpaste", is_seen=True, looks="a piece of the image, pasted elsewhere"
        ),
        "scar": Kind(
            "cygnet.vision.spot_anomalies:scar", is_seen=True, looks="a thin piece of the image, pasted elsewhere"
        ),
        "perlin": Kind(
            "cygnet.vision.spot_anomalies:perlin", is_seen=True, looks="a noise-shaped region of another texture"
        ),
        "blend": Kind("cygnet.vision.spot_anomalies:blend", looks="a piece of another frame, blended in"),
        "blur": Kind("cygnet.vision.spot_anomalies:blur", looks="an out-of-focus region"),
        "shift": Kind("cygnet.vision.spot_anomalies:shift", looks="a region displaced sideways"),
        KIND_NULL: Kind("cygnet.vision.anomalies:draw_nothing", looks="nothing is drawn"),
    }
)

SEEN_KINDS = tuple(name for name, kind in KINDS.items() if kind.is_seen)
