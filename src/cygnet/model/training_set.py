"""Reads tables batch by batch with Arrow alone: serving and the baselines need no torch to read a table.

Memory is bounded by a few batches of images, however large a table is.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad

from cygnet.errors import UserError
from cygnet.tables import KIND_NULL, LABELS, NORMAL, parse_image_id
from cygnet.vision.camera import changing_frac
from cygnet.vision.codec import decode_image

BATCH_ROWS = 64
MOST_VIEWS, MOST_FRAMES = 8, 50
"""Bounds what `measure_changing_frac` reads: images of 8 views, 50 of each."""
KEYS = ["image_id", "frame_id", "split", "label", "kind", "severity"]


def check_classes(keys: pd.DataFrame, split: str) -> None:
    """Check that a split has rows of both classes; the control kind `null` does not count.

    Raises:
        UserError: A class has no row.
    """
    present = set(keys.loc[keys["kind"] != KIND_NULL, "label"])
    for name, label in LABELS.items():
        if label not in present:
            rows = f"The split {split} of training_set has no {name} image"
            msg = f"{rows}: check the labels and synthesis.kinds.{split}."
            raise UserError(msg)


def read_keys(training_set: pad.Dataset, *splits: str) -> pd.DataFrame:
    """Read `KEYS` of some splits (of all splits if none is named), sorted by `image_id`."""
    chosen = pad.field("split").isin(splits) if splits else None
    keys = training_set.to_table(columns=KEYS, filter=chosen).to_pandas()
    return keys.sort_values("image_id", ignore_index=True)


def spread_evenly(length: int, most: int) -> np.ndarray:
    """Choose at most so many places of a sequence, evenly spread, both ends among them: ascending, int64."""
    return np.linspace(0, length - 1, min(most, length)).round().astype(int)


def sample_rows(training_set: pad.Dataset, split: str, images_per_kind: int) -> pad.Dataset:
    """Choose at most so many images of each kind, normal ones too, evenly spread over time; always the same ones."""
    chosen = choose_evenly(read_keys(training_set, split), "kind", images_per_kind)
    return training_set.filter(pad.field("image_id").isin(chosen))


def choose_evenly(keys: pd.DataFrame, by: str, most: int) -> list[str]:
    """Choose the `image_id` of at most so many rows for each value of a column, evenly spread; `keys` are sorted."""
    groups = [rows["image_id"] for _, rows in keys.groupby(by)]
    return [image_id for group in groups for image_id in group.iloc[spread_evenly(len(group), most)]]


def read_batches(
    table: pad.Dataset, columns: list[str], chosen: pad.Expression, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """Read some columns of the chosen rows, in the order in which they are stored.

    Arrow would read ahead 16 batches of 4 files each; here it is 2 batches of 1 file, because rows hold images.

    Args:
        table: Any table.
        columns: The columns to read.
        chosen: Which rows to read, as an Arrow filter.
        batch_rows: The largest number of rows in a batch.
    """
    yield from table.to_batches(
        columns=columns, filter=chosen, batch_size=batch_rows, batch_readahead=2, fragment_readahead=1
    )


def iterate_rows(
    training_set: pad.Dataset, splits: list[str], batch_rows: int = BATCH_ROWS, *, with_masks: bool = False
) -> Iterator[pd.DataFrame]:
    """Read `KEYS` and `image` (and `mask` and `area`) of some splits.

    Every batch but the last has exactly `batch_rows` rows.
    """
    columns = [*KEYS, "image", "mask", "area"] if with_masks else [*KEYS, "image"]
    pending = pa.Table.from_batches([], schema=pa.schema([training_set.schema.field(name) for name in columns]))
    for batch in read_batches(training_set, columns, pad.field("split").isin(splits), batch_rows):
        pending = pa.concat_tables([pending, pa.Table.from_batches([batch])])
        while pending.num_rows >= batch_rows:
            yield pending.slice(0, batch_rows).to_pandas()
            pending = pending.slice(batch_rows)
    if pending.num_rows:
        yield pending.to_pandas()


def count_rows(training_set: pad.Dataset, splits: list[str]) -> int:
    """Count the rows of some splits."""
    return int(training_set.count_rows(filter=pad.field("split").isin(splits)))


def normal_image_ids(images: pad.Dataset) -> list[str]:
    """List the normal train images of the table `images` by source, time and tile."""
    image_ids = images.to_table(columns=["image_id"], filter=is_normal_train())["image_id"].to_pylist()
    return sorted(image_ids, key=parse_image_id)


def iterate_normal_images(images: pad.Dataset) -> Iterator[tuple[str, np.ndarray]]:
    """Read the same images in the order of storage: `image_id`, and image, `(H, W, 3)` uint8 BGR."""
    for batch in read_batches(images, ["image_id", "image"], is_normal_train()):
        for row in batch.to_pylist():
            yield row["image_id"], decode_image(row["image"])


def measure_changing_frac(images: pad.Dataset) -> float:
    """Measure how much of the picture changes from one normal train frame to another, 0-1; see `cygnet.vision.camera`.

    Args:
        images: The table `images`. Of each view, that is source and tile, some frames are read; of many views, some.
    """
    rows = [(image_id, *parse_image_id(image_id)) for image_id in normal_image_ids(images)]
    keys = pd.DataFrame(rows, columns=["image_id", "source", "index", "tile"])
    views = [of_view["image_id"] for _, of_view in keys.groupby(["source", "tile"])]
    fracs = []
    for place in spread_evenly(len(views), MOST_VIEWS):
        chosen = views[place].iloc[spread_evenly(len(views[place]), MOST_FRAMES)]
        batches = read_batches(images, ["image"], pad.field("image_id").isin(chosen))
        fracs.append(
            changing_frac(decode_image(encoded) for batch in batches for encoded in batch["image"].to_pylist())
        )
    return float(np.mean(fracs))


def is_normal_train() -> pad.Expression:
    """Choose the normal train rows of the table `images`."""
    return (pad.field("split") == "train") & (pad.field("label") == NORMAL)
