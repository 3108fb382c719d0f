"""What localisation promises: 1 for perfect maps, chance for uninformative ones, and equal weight for every region."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pad
import pytest
from sklearn.metrics import average_precision_score

from cygnet.model.evaluation.localisation import PixelCounts, localise
from cygnet.model.evaluation.results import LocalisationByKind
from cygnet.reports import Localisation
from cygnet.tables import ABNORMAL, KIND_NULL, NORMAL, TRAINING_SET
from cygnet.vision.codec import encode_map
from support.reports import assert_conforms
from support.toys import toy_row

SIZE_PX = 256


def mask_of(*squares: tuple[int, int, int]) -> np.ndarray:
    """A mask with squares: top, left, side."""
    mask = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    for top, left, side in squares:
        mask[top : top + side, left : left + side] = 255
    return mask


def counted(anomaly_map: np.ndarray, mask: np.ndarray) -> Localisation:
    counts = PixelCounts()
    counts.add(anomaly_map, mask)
    metrics = counts.metrics()
    assert metrics is not None
    assert_conforms(metrics, Localisation)
    return metrics


def random_map(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((SIZE_PX, SIZE_PX)).astype(np.float32)


def test_a_map_that_equals_its_mask_is_perfect() -> None:
    mask = mask_of((10, 10, 40), (100, 150, 9))
    assert counted(mask.astype(np.float32) / 255, mask) == {"pixel_average_precision": 1.0, "pro_at_fpr_30pct": 1.0}


def test_a_random_map_is_chance() -> None:
    mask = mask_of((10, 10, 60), (100, 150, 70))
    metrics = counted(random_map(), mask)
    assert metrics["pixel_average_precision"] == pytest.approx((mask > 0).mean(), rel=0.05)
    assert metrics["pro_at_fpr_30pct"] == pytest.approx(0.15, abs=0.01)


def test_a_constant_map_is_chance_too() -> None:
    mask = mask_of((10, 10, 60))
    metrics = counted(np.full((8, 8), 0.5, np.float32), mask)
    assert metrics["pixel_average_precision"] == pytest.approx((mask > 0).mean())
    assert metrics["pro_at_fpr_30pct"] == pytest.approx(0.15)


def test_average_precision_is_that_of_scikit_learn() -> None:
    mask, anomaly_map = mask_of((40, 40, 50)), random_map(1)
    anomaly_map[mask > 0] += 0.3
    anomaly_map = np.rint(anomaly_map / 1.3 * 65535) / 65535
    expected = average_precision_score(mask.ravel() > 0, anomaly_map.ravel())
    assert counted(anomaly_map.astype(np.float32), mask)["pixel_average_precision"] == pytest.approx(expected, abs=1e-6)


def test_a_small_region_weighs_as_much_as_a_large_one() -> None:
    large, small = (10, 10, 90), (200, 200, 8)
    finds_large, finds_small = (mask_of(found).astype(np.float32) / 255 for found in (large, small))
    expected = (0.5 + 0.65) / 2  # half without a false alarm, then straight on to everything at a rate of 1
    for anomaly_map in (finds_large, finds_small):
        assert counted(anomaly_map, mask_of(large, small))["pro_at_fpr_30pct"] == pytest.approx(expected, abs=1e-3)


def test_specks_do_not_count_as_regions() -> None:
    square = (10, 10, 60)
    anomaly_map = mask_of(square).astype(np.float32) / 255
    assert counted(anomaly_map, mask_of(square, (200, 200, 2)))["pro_at_fpr_30pct"] == 1.0


def test_a_coarse_map_is_scaled_up_to_its_mask() -> None:
    coarse = np.zeros((16, 16), np.float32)
    coarse[4:8, 4:8] = 1
    metrics = counted(coarse, mask_of((64, 64, 64)))
    assert 0.9 < metrics["pixel_average_precision"] < 1
    assert metrics["pro_at_fpr_30pct"] > 0.99


def table(*rows: tuple[str, int, str, np.ndarray | None, np.ndarray]) -> tuple[pad.Dataset, pd.DataFrame]:
    """The table, and predictions, of rows: key, label, kind, mask, map."""
    training_set = [
        toy_row(image_id, label, "test", kind=kind, mask=mask) for image_id, label, kind, mask, _ in reversed(rows)
    ]
    predictions = [
        {"image_id": key, "split": "test", "label": label, "kind": kind, "anomaly_map": encode_map(anomaly_map)}
        for key, label, kind, _, anomaly_map in rows
    ]
    return pad.dataset(pa.Table.from_pylist(training_set, schema=TRAINING_SET)), pd.DataFrame(predictions)


def test_each_kind_is_compared_with_the_normal_images_and_so_are_all_kinds_together() -> None:
    mask, dark = mask_of((64, 64, 64)), np.zeros((SIZE_PX, SIZE_PX), np.float32)
    right = mask.astype(np.float32) / 255
    normal = ("n", NORMAL, "none", None, dark)
    found, blind = ("a", ABNORMAL, "polygon", mask, right), ("b", ABNORMAL, "scar", mask, dark)
    found_and_blind = localise(*table(normal, found, blind))
    overall, by_kind = found_and_blind.overall, found_and_blind.by_kind
    assert set(by_kind) == {"polygon", "scar"}
    assert by_kind["polygon"] == {"pixel_average_precision": 1.0, "pro_at_fpr_30pct": 1.0}
    assert by_kind["scar"] is not None
    assert by_kind["scar"]["pro_at_fpr_30pct"] == pytest.approx(0.15)
    assert overall is not None
    assert by_kind["scar"]["pixel_average_precision"] < overall["pixel_average_precision"] < 1
    alarm = localise(*table(("n", NORMAL, "none", None, np.ones_like(dark)), found)).overall
    assert alarm is not None
    assert alarm["pixel_average_precision"] < 1


def test_controls_and_real_anomalies_have_no_region_to_find() -> None:
    bright = np.ones((4, 4), np.float32)
    rows = [
        ("n", NORMAL, "none", None, np.zeros((4, 4), np.float32)),
        ("c", ABNORMAL, KIND_NULL, mask_of((1, 1, 9)), bright),
        ("r", ABNORMAL, "real", None, bright),
    ]
    assert localise(*table(*rows)) == LocalisationByKind(None, {})
