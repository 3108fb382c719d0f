"""Rows of `training_set`, read by Arrow alone: serving and the baselines need no torch to read a table."""

from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad

from cygnet.errors import UserError
from cygnet.tables import KIND_NULL, LABELS

KEYS = ["image_id", "frame_id", "split", "label", "kind", "severity"]


def check_classes(keys: pd.DataFrame, split: str) -> None:
    """Make sure that a split has both classes, `null` not counted.

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
    """Read everything but the pixels of some splits (of all, if none is named), in the order of the `image_id`s."""
    chosen = pad.field("split").isin(splits) if splits else None
    keys = training_set.to_table(columns=KEYS, filter=chosen).to_pandas()
    return keys.sort_values("image_id", ignore_index=True)


def iterate_rows(
    training_set: pad.Dataset, splits: list[str], batch_rows: int = 64, *, with_masks: bool = False
) -> Iterator[pd.DataFrame]:
    """Read rows of some splits in full batches (but the last): never more images in memory than a few batches."""
    columns = [*KEYS, "image", "mask"] if with_masks else [*KEYS, "image"]
    pending = pa.Table.from_batches([], schema=pa.schema([training_set.schema.field(name) for name in columns]))
    for batch in training_set.to_batches(
        columns=columns,
        filter=pad.field("split").isin(splits),
        batch_size=batch_rows,
        batch_readahead=2,
        fragment_readahead=1,
    ):
        pending = pa.concat_tables([pending, pa.Table.from_batches([batch])])
        while pending.num_rows >= batch_rows:
            yield pending.slice(0, batch_rows).to_pandas()
            pending = pending.slice(batch_rows)
    if pending.num_rows:
        yield pending.to_pandas()
