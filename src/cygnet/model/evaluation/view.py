"""What the detector does not look at, and how small an object it can see: for `evaluation.json`."""

import pyarrow.dataset as pad

from cygnet.reports import View
from cygnet.scene import Scene, shape_name
from cygnet.vision.seen import measure_seen


def describe_view(train_frames: pad.Dataset, scene: Scene, patches_per_side: int) -> View:
    """Measure what is seen of the frames of each size; an object can be seen from about one patch on.

    Args:
        train_frames: The table `images`; an earlier version's has no frame sizes, and gives none here.
        scene: What the detector's images have gone through.
        patches_per_side: Of the detector's map of an image.
    """
    known = pad.field("width").is_valid()
    sizes = train_frames.to_table(columns=["width", "height"], filter=known).group_by(["width", "height"]).aggregate([])
    seen = {
        (row["width"], row["height"]): measure_seen(scene, row["height"], row["width"]) for row in sizes.to_pylist()
    }
    return {
        "view": scene.view,
        "region": shape_name(scene.region),
        "ignore": shape_name(scene.ignore),
        "by_frame_size": {
            f"{width}x{height}": {
                "tiles": of_size.tiles,
                "seen_frac": of_size.seen_frac,
                "smallest_object_px": of_size.side_px / patches_per_side,
            }
            for (width, height), of_size in sorted(seen.items())
        },
    }
