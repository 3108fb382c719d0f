"""What the key of a fit promises: all that fitting reads, and nothing else."""

import pytest

from cygnet.model.training.settings import FitSettings
from support.fits import NOT_READ, change


@pytest.mark.parametrize(("path", "value"), NOT_READ.items())
def test_the_key_of_a_fit_leaves_out_what_fitting_does_not_read(
    path: str, value: object, settings: FitSettings
) -> None:
    settings = change(settings, "training.twins", True)
    assert change(settings, path, value) != settings
    assert change(settings, path, value).key() == settings.key()


@pytest.mark.parametrize(
    ("path", "value", "is_read_without_pairs"),
    [
        ("training.learning_rate", 0.5, True),
        ("training.epochs", 7, True),
        ("training.fitted", "heads", True),
        ("training.small_vit.layers", 2, True),
        ("training.image_size_px", 64, True),
        ("synthesis.kinds.train", {"scar": 1}, False),
        ("synthesis.severity", (0.5, 1.0), False),
        ("synthesis.spots.spots", (1, 9), False),
        ("policy.affine_shear", 0.1, False),
    ],
)
def test_the_key_of_a_fit_has_what_fitting_reads(
    path: str, value: object, is_read_without_pairs: bool, settings: FitSettings
) -> None:
    for twins, is_read in ((True, True), (False, is_read_without_pairs)):
        before = change(settings, "training.twins", twins)
        assert (change(before, path, value).key() != before.key()) is is_read
