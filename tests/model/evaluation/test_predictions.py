"""What held-out rows promise with an area: maps are blank outside, and scores are those of the image alone."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad

from cygnet.model.evaluation.predictions import measure_rows
from cygnet.model.serving.scorer import Scorer
from cygnet.tables import NORMAL, TRAINING_SET
from cygnet.vision.codec import encode_png
from support.toys import toy_row


def test_maps_are_blank_outside_the_area_and_the_parts_do_not_know_of_it(scorer: Scorer) -> None:
    left = np.zeros((64, 64), np.uint8)
    left[:, :20] = 255
    measured = []
    for area in (encode_png(left), None):
        rows = pa.Table.from_pylist([toy_row("test/0", NORMAL, "test", area=area)], schema=TRAINING_SET)
        measured.append(measure_rows(scorer, pad.dataset(rows), ["test"]))
    bounded, whole = measured
    maps = ["classifier_map", "distance_map"]
    pd.testing.assert_frame_equal(bounded.drop(columns=maps), whole.drop(columns=maps))
    for name in maps:
        assert (whole[name][0] > 0).all()
        assert np.array_equal(bounded[name][0][:, 0], whole[name][0][:, 0])
        assert (bounded[name][0][:, 1] == 0).all()
