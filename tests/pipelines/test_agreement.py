"""What the agreement report promises: scikit-learn's kappa, and an interval that claims no more than it can."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from cygnet.pipelines.labelling.agreement import cohen_kappa, measure_agreement
from cygnet.reports import Agreement
from support.reports import assert_conforms


def labels(counts: list[list[int]]) -> tuple[list[str], list[str]]:
    """Give a person's labels and a model's with these counts: abnormal and normal, by person, then by model."""
    names = ["abnormal", "normal"]
    pairs = [(names[i], names[j]) for i in (0, 1) for j in (0, 1) for _ in range(counts[i][j])]
    human, model = zip(*pairs, strict=True)
    return list(human), list(model)


@pytest.mark.parametrize("counts", [[[20, 5], [10, 65]], [[3, 7], [9, 1]], [[10, 0], [0, 90]]])
def test_kappa_is_that_of_scikit_learn_and_lies_in_its_interval(counts: list[list[int]]) -> None:
    human, model = labels(counts)
    agreement = measure_agreement(human, model)
    assert_conforms(agreement, Agreement)
    assert agreement["kappa"] == pytest.approx(cohen_kappa_score(human, model))
    assert agreement["agree_frac"] == pytest.approx(np.mean(np.array(human) == model))
    assert agreement["confusion"] == {
        "abnormal": {"abnormal": counts[0][0], "normal": counts[0][1]},
        "normal": {"abnormal": counts[1][0], "normal": counts[1][1]},
    }
    assert agreement["kappa_interval"]["low"] <= agreement["kappa"] <= agreement["kappa_interval"]["high"]


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    truth = np.array([[0.2, 0.05], [0.1, 0.65]])
    kappa = float(cohen_kappa((truth * 1000)[None])[0])
    rng = np.random.default_rng(5)
    intervals = [
        measure_agreement(*labels(rng.multinomial(150, truth.ravel()).reshape(2, 2).tolist()))["kappa_interval"]
        for _ in range(200)
    ]
    held = np.mean([interval["low"] <= kappa <= interval["high"] for interval in intervals])
    assert 0.9 <= held <= 0.99


def test_perfect_agreement_proves_no_more_than_its_number_of_frames() -> None:
    lows = [measure_agreement(*labels([[n, 0], [0, n]]))["kappa_interval"] for n in (5, 50)]
    assert [low["method"] for low in lows] == ["clopper_pearson"] * 2
    assert lows[0]["low"] == pytest.approx(2 * 0.025 ** (1 / 10) - 1)  # the share of 10 frames, at even classes
    assert lows[0]["low"] < lows[1]["low"] < 1
    assert lows[0]["high"] == 1


def test_a_model_that_always_says_the_same_has_a_kappa_of_0_and_no_interval() -> None:
    agreement = measure_agreement(*labels([[0, 5], [0, 5]]))
    assert (agreement["kappa"], agreement["kappa_interval"]) == (0, None)


def test_without_frames_or_with_one_label_alone_nothing_is_made_up() -> None:
    assert measure_agreement([], []) is None
    agreement = measure_agreement(["normal"] * 5, ["normal"] * 5)
    assert agreement["agree_frac"] == 1
    assert (agreement["kappa"], agreement["kappa_interval"]) == (None, None)
