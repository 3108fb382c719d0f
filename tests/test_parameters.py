"""What the parameters promise: conf/base is valid and explained, and a mistake gets one sentence that names it."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs_pages import read_parameters
from omegaconf import OmegaConf
from pydantic import ValidationError

from cygnet.anomaly_kinds import SEEN_KINDS
from cygnet.errors import UserError
from cygnet.parameters.base import Parameters
from cygnet.parameters.check import PIPELINE_PARAMETERS, RUN_PARAMETERS, check_parameters
from support.toys import base_parameters

CONF = Path(__file__).parents[1] / "conf"


def check(parameters: dict[str, Any]) -> None:
    """Check parameters that were all given on the command line."""
    check_parameters(parameters, parameters)


def test_a_key_of_the_run_in_a_file_is_refused(base: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="'video' has no effect in a file: pass it as --params=video="):
        check_parameters({**base, "video": "x.mp4"}, {})


@pytest.fixture
def base() -> dict[str, Any]:
    """Give the raw parameters of conf/base."""
    return base_parameters()


def changed(parameters: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The parameters with another value for one dotted name."""
    parameters = copy.deepcopy(parameters)
    *sections, key = name.split(".")
    section = parameters
    for each in sections:
        section = section[each]
    section[key] = value
    return parameters


def refusal(parameters: dict[str, Any]) -> str:
    """The message by which the parameters are refused."""
    with pytest.raises(UserError) as refused:
        check(parameters)
    return refused.value.message


def test_base_is_valid(base: dict[str, Any]) -> None:
    check(base)
    assert sorted(base) == sorted(PIPELINE_PARAMETERS)


def test_base_trains_on_kinds_that_may_be_seen_and_tests_all(base: dict[str, Any]) -> None:
    kinds = base["synthesis"]["kinds"]
    assert set(kinds["train"]) == set(kinds["validation"]) <= set(SEEN_KINDS)
    assert set(SEEN_KINDS) == {"polygon", "polygon_soft", "cutpaste", "scar", "perlin"}
    assert set(kinds["test"]) == {*SEEN_KINDS, "blend", "blur", "shift", "null"}
    assert set(base["pretraining"]["twins"]["kinds"]) == set(SEEN_KINDS)


OVER_BASE = [file for env in ("databricks", "test") for file in sorted((CONF / env).glob("parameters*.yml"))]


@pytest.mark.parametrize("file", OVER_BASE, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_parameters_of_other_environments_are_valid_over_base(file: Path, base: dict[str, Any]) -> None:
    over_base = OmegaConf.merge(base, yaml.safe_load(file.read_text()))
    check(OmegaConf.to_container(over_base))


@pytest.mark.parametrize(("key", "value"), [("video", "any"), ("labels", "any"), ("spark_partitions", 3)])
def test_keys_of_the_run_are_known(key: str, value: object, base: dict[str, Any]) -> None:
    assert key in RUN_PARAMETERS
    check({**base, key: value})


@pytest.mark.parametrize("value", [0, -1, "many", 10_001])
def test_spark_partitions_out_of_range_are_refused(value: object, base: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="'spark_partitions' is"):
        check({**base, "spark_partitions": value})


def test_a_bool_is_no_number(base: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"'training\.epochs' is true: input should be a number"):
        check({**base, "training": {**base["training"], "epochs": True}})


@pytest.mark.parametrize("file", sorted((CONF / "base").glob("parameters*.yml")), ids=lambda file: file.name)
def test_every_value_carries_a_comment(file: Path) -> None:
    values = [line for line in file.read_text().splitlines() if re.match(r"\s*[\w\"]+:\s+[^\s#]", line)]
    assert values
    assert [line for line in values if not re.search(r"\s#\s\w", line)] == []


NUMBER = r"(\d[\d.]*)"


def explained(file: Path, model: type[Parameters]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Give comment and JSON schema of every value of a parameter file, by its dotted name."""
    schema, found = model.model_json_schema(), {}
    for parameter in read_parameters(file):
        described = {"properties": {file.stem.removeprefix("parameters_"): schema}}
        for key in parameter.name.split("."):
            described = described["properties"][key]
            if "$ref" in described:
                described = schema["$defs"][described["$ref"].split("/")[-1]]
        if "properties" not in described:
            found[parameter.name] = (parameter.comment, described)
    return found


def allowed(schema: dict[str, Any]) -> tuple[str, tuple[Any, ...], set[str]]:
    """Give type word, bounds (lowest, whether it is itself allowed, highest, likewise) and names of a schema."""
    is_many = schema.get("type") in {"array", "object"}
    choices = schema.get("prefixItems") or [schema.get("items") or schema.get("additionalProperties")]
    choices = choices if is_many else schema.get("anyOf", [schema])
    one = next(choice for choice in choices if choice.get("type") != "null")
    word = {"integer": "int", "number": "float", "boolean": "bool", "string": "string"}[one["type"]]
    word += "s" if is_many else " or null" if {"type": "null"} in choices else ""
    low, high = (one.get(end, one.get(f"exclusive{end.capitalize()}")) for end in ("minimum", "maximum"))
    if one["type"] == "integer" and "exclusiveMaximum" in one:
        one = {**one, "maximum": (high := high - 1)}
    names = set() if is_many else set(one.get("enum", ()))
    return word, (low, "minimum" in one, high, "maximum" in one), names


def said(comment: str) -> tuple[str, tuple[Any, ...], set[str]]:
    """Read the same from a comment: `type[, unit], range[: meaning]`."""
    facts = re.split(r"[:;]", comment)[0]
    word = re.match(r"(?:int|float|bool|string)s?(?: or null)?", facts)[0]
    names = {name.strip() for name in facts.split(",", 1)[1].split("|")} if "|" in facts else set()
    between, above, below = (
        re.search(form, facts) for form in (f"{NUMBER}-{NUMBER}", f">(=?) {NUMBER}", f"<(=?) {NUMBER}")
    )
    if between:
        return word, (float(between[1]), True, float(between[2]), True), names
    low, high = (float(match[2]) if match else None for match in (above, below))
    return word, (low, bool(above and above[1]), high, bool(below and below[1])), names


@pytest.mark.parametrize("pipeline", list(PIPELINE_PARAMETERS))
def test_every_comment_states_the_type_and_the_bounds_that_are_enforced(pipeline: str) -> None:
    comments = explained(CONF / "base" / f"parameters_{pipeline}.yml", PIPELINE_PARAMETERS[pipeline])
    assert comments
    assert {name: said(comment) for name, (comment, _) in comments.items()} == {
        name: allowed(schema) for name, (_, schema) in comments.items()
    }


@pytest.mark.parametrize("ends", [(0, 5), (5, 65), (65, 70), (2, 2)])
def test_both_ends_of_a_range_are_within_its_bounds(ends: tuple[int, int], base: dict[str, Any]) -> None:
    message = refusal(changed(base, "synthesis.polygon.shape.vertices", list(ends)))
    outside = [place for place, end in enumerate(ends) if not 3 <= end <= 64]
    assert re.findall(r"vertices\.(\d)' is", message) == [str(place) for place in outside]


def test_a_gate_that_is_off_is_off_also_where_yaml_reads_off_as_false(base: dict[str, Any]) -> None:
    assert yaml.safe_load("mode: off") == {"mode": False}
    for off in ("off", False):
        parameters = changed(base, "serving.gate.mode", off)
        check(parameters)
        assert PIPELINE_PARAMETERS["serving"].model_validate(parameters["serving"]).gate.mode == "off"
    assert "mode' is true: input should be 'enforce', 'report' or 'off'." in refusal(
        changed(base, "serving.gate.mode", True)
    )


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("trainin", "training"),
        ("vidio", "video"),
        ("training.epoch", "training.epochs"),
        ("ingestion.intervall_s", "ingestion.interval_s"),
        ("ingestion.split.gap", "ingestion.split.gap_s"),
        ("synthesis.polygon.image.salt_vs_peper", "synthesis.polygon.image.salt_vs_pepper"),
        ("augmentation.reference.horizontal_flips", "augmentation.reference.horizontal_flip"),
        ("serving.gate.min_aurok", "serving.gate.min_auroc"),
        ("serving.client.timeout", "serving.client.timeout_s"),
        ("synthesis.kinds.test.polygone", "synthesis.kinds.test.polygon"),
        ("synthesis.kinds.train.bler", "synthesis.kinds.train.blur"),
        ("pretraining.twins.kinds.scars", "pretraining.twins.kinds.scar"),
        ("pretraining.twins.spots.radius", "pretraining.twins.spots.radius_frac"),
        ("pretraining.image", "pretraining.images"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_known_one(name: str, nearest: str, base: dict[str, Any]) -> None:
    message = refusal(changed(base, name, 1))
    assert message == f"Parameter '{name}' is unknown: the nearest known one is '{nearest}'."


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ingestion.interval_s", 0, "'ingestion.interval_s' is 0: input should be greater than 0"),
        ("ingestion.crop_horizontal_bias", 1.5, "is 1.5: input should be less than or equal to 1"),
        ("ingestion.frame_jpeg_quality", 49, "is 49: input should be greater than or equal to 50"),
        ("ingestion.image_jpeg_quality", 101, "is 101: input should be less than or equal to 100"),
        ("ingestion.default_label", "odd", "is 'odd': input should be 'normal' or 'abnormal'"),
        ("ingestion.split.train_frac", 0.9, "train_frac + validation_frac = 1.1 leaves nothing to test"),
        ("scene.region", [[0, 0], [1, 1]], "a polygon needs at least 3 corners [x, y], and [[0, 0], [1, 1]] has 2."),
        ("scene.region", [[0.1, 0.2, 0.3]], "the corner [0.1, 0.2, 0.3] is no [x, y] within the frame: give shares"),
        (
            "scene.region",
            [[0, 0], [1, 0], [0.5, 1.2]],
            "the corner [0.5, 1.2] is no [x, y] within the frame: give shares of its",
        ),
        (
            "scene.ignore",
            [[[0, 0], [1, 0], [-0.1, 0.5]]],
            "'scene.ignore': the corner [-0.1, 0.5] is no [x, y] within the frame",
        ),
        ("scene.ignore", [[[0, 0], [1, 0], ["a", 0.5]]], "the corner ['a', 0.5] is no [x, y] within the frame"),
        ("scene.region", [[[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]]], "0.9]] has no area: its corners lie on one line"),
        ("scene.ignore", [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]], "0.5]] has no area: its corners lie on one line"),
        ("scene.region", [], "'scene.region': [] is neither null, nor the path of a mask image, nor polygons"),
        ("scene.region", 3, "'scene.region': 3 is neither null"),
        ("scene.region", [0.1, 0.2], "'scene.region': [0.1, 0.2] is neither null"),
        ("synthesis.polygon.shape.vertices", [2, 9], "'synthesis.polygon.shape.vertices.0' is 2: input should be"),
        ("synthesis.polygon.preset", "circle", "is 'circle': input should be 'image' or 'frame'"),
        ("synthesis.severity", [0.9, 0.1], "severity [0.9, 0.1] is not a valid range"),
        ("synthesis.polygon.image.edge_patches", [6, 2], "edge_patches [6, 2] is not a valid range"),
        ("synthesis.severity", 0.3, "'synthesis.severity' is 0.3: it needs two values"),
        ("synthesis.severity", [0.1, 0.2, 0.3], "is [0.1, 0.2, 0.3]: it needs two values, [first, second]."),
        ("synthesis.kinds.train", {"polygon": 4, "null": 1}, "`null` is a control"),
        ("synthesis.kinds.test", {"polygon": -1}, "'synthesis.kinds.test.polygon' is -1: input should be"),
        ("synthesis.seeds.test", 101, "101, 102 and 101"),
        ("synthesis.seeds.test", 2**32, "is 4294967296: input should be less than 4294967296"),
        ("augmentation.seed", -1, "'augmentation.seed' is -1: input should be greater than or equal to 0"),
        ("augmentation.fixed_camera.gain", [0, 1], "'augmentation.fixed_camera.gain.0' is 0: input should be"),
        ("training.epochs", "many", "'training.epochs' is 'many': input should be a valid integer"),
        ("training.epochs", 2.5, "'training.epochs' is 2.5: input should be a valid integer"),
        ("training.learning_rate", float("nan"), "is nan: input should be a finite number"),
        ("training.small_vit.image_size_px", 225, "image_size_px 225 is not a multiple of patch_size_px 16"),
        ("training.small_vit.heads", 5, "hidden_size 192 is not a multiple of heads 5"),
        ("pretraining.small_size_px", 100, "small_size_px 100 is not a multiple of vit.patch_size_px 8"),
        ("pretraining.input_size_px", 140, "input_size_px 140 is not a multiple of vit.patch_size_px 8"),
        ("pretraining.vit.image_size_px", 150, "image_size_px 150 is not a multiple of patch_size_px 8"),
        ("pretraining.batch_size", 63, "'pretraining.batch_size' is 63: input should be a multiple of 2"),
        ("pretraining.average", 1, "'pretraining.average' is 1: input should be less than 1"),
        ("pretraining.textures", [], "'pretraining.textures' is []: list should have at least 1 item"),
        ("pretraining.textures", ["wood"], "'pretraining.textures.0' is 'wood': input should be 'noise'"),
        ("pretraining.held_out_textures", ["cells", "bricks"], "held_out_textures must not be among textures"),
        ("pretraining.twins.kinds", {}, "'pretraining.twins.kinds' is {}: dictionary should have at least 1 item"),
        (
            "pretraining.twins.kinds",
            {"blend": 1},
            "kinds must not have blend, kept unseen for evaluation; allowed",
        ),
        ("pretraining.twins.kinds", {"scar": 1, "blur": 1}, "kinds must not have blur, kept unseen"),
        ("pretraining.twins.kinds", {"shift": 0.5}, "kinds must not have shift, kept unseen"),
        ("pretraining.twins.kinds", {"null": 0.5}, "kinds must not have null, kept unseen"),
        ("training", None, "'training' is null: it is a group of the parameters training.checkpoint, training.image"),
        ("training.threshold", 0.3, "is 0.3: it is a group of the parameters training.threshold.rule, training.thr"),
        ("synthesis.kinds.train", 3, "'synthesis.kinds.train' is 3: it is a group of a number for each kind of anom"),
        ("scene.camera", True, "'scene.camera' is true: input should be 'fixed' or 'moving'."),
        ("scene.region", True, "'scene.region': True is neither null"),
        ("training.normality.blocks_frac", [0.5], "blocks_frac' is [0.5]: it needs two values, [first, second]."),
        ("training.normality.blocks_frac", [], "blocks_frac' is []: it needs two values, [first, second]."),
        ("training.normality.blocks_frac", 0.5, "blocks_frac' is 0.5: it needs two values, [first, second]."),
        ("video", None, "'video' is null: give a text that is not empty, or leave it out."),
        ("video", {"x": 3}, "'video' is {'x': 3}: give a text"),
        ("labels", "", "'labels' is '': give a text"),
        ("serving.gate.mode", "maybe", "is 'maybe': input should be 'enforce', 'report' or 'off'"),
        ("serving.client.max_request_bytes", 17_000_000, "should be less than or equal to 16000000"),
        ("serving.client.in_flight", 0, "'serving.client.in_flight' is 0: input should be greater than or equal to 1"),
        ("scoring.interval_s", 0, "'scoring.interval_s' is 0: input should be greater than 0"),
        ("scoring.threshold", 1.5, "'scoring.threshold' is 1.5: input should be less than or equal to 1"),
        ("scoring.max_alarms_per_hour", 0, "'scoring.max_alarms_per_hour' is 0: input should be greater than 0"),
        ("scoring.crop", "circle", "'scoring.crop' is 'circle': input should be 'square', 'letterbox' or 'tiles'"),
        ("scoring.events.close_frac", 0, "'scoring.events.close_frac' is 0: input should be greater than 0"),
        ("scoring.annotated_video", 3, "'scoring.annotated_video' is 3: input should be a valid boolean"),
        ("serving.batch_size", [8], "'serving.batch_size' is [8]: input should be a valid integer"),
    ],
)
def test_wrong_value_is_told_in_one_sentence_with_the_value(
    name: str, value: Any, told: str, base: dict[str, Any]
) -> None:
    message = refusal(changed(base, name, value))
    assert told in message
    assert_is_sentence(message)


ADDRESS = "rtsp://user:w@rd@cam/1?pin=4711"  # pragma: allowlist secret


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("watch.source", ADDRESS),
        ("watch.source", {"timeout_s": ADDRESS}),
        ("training.fitted_fracs", [ADDRESS]),
        ("scene.region", [ADDRESS]),
        ("source", {"address": ADDRESS}),
        ("spark_partitions", ADDRESS),
    ],
)
def test_no_message_has_what_is_secret_in_an_address(name: str, value: Any, base: dict[str, Any]) -> None:
    message = refusal(changed(base, name, value))
    assert "rtsp://cam/1" in message
    assert not any(secret in message for secret in ("user", "w@", "rd@", "4711"))


def test_every_mistake_gets_a_sentence_of_its_own(base: dict[str, Any]) -> None:
    parameters = changed(base, "training.epochs", 0)
    parameters = changed(parameters, "training.patience", "long")
    parameters = changed(parameters, "serving.gate.min_auroc", 2)
    parameters["vidio"] = "swan.mp4"
    sentences = re.split(r"(?<=\.) (?=Parameter )", refusal(parameters))
    assert [sentence.split("'")[1] for sentence in sentences] == [
        "vidio",
        "training.epochs",
        "training.patience",
        "serving.gate.min_auroc",
    ]
    for sentence in sentences:
        assert_is_sentence(sentence)


@pytest.mark.parametrize("name", ["training", "training.epochs", "ingestion.split.gap_s"])
def test_missing_parameter_is_told_with_the_file_to_restore_it_in(name: str, base: dict[str, Any]) -> None:
    *sections, key = name.split(".")
    section = base
    for each in sections:
        section = section[each]
    del section[key]
    file = f"conf/base/parameters_{name.split('.')[0]}.yml"
    assert refusal(base) == f"Parameter '{name}' is missing: restore it in {file}."


@pytest.mark.parametrize("pipeline", list(PIPELINE_PARAMETERS))
def test_parameters_are_frozen_in_every_section(pipeline: str, parameters: dict[str, Parameters]) -> None:
    sections = [parameters[pipeline]]
    for section in sections:
        for key, value in section:
            with pytest.raises(ValidationError, match="frozen"):
                setattr(section, key, value)
            if isinstance(value, Parameters):
                sections.append(value)


def assert_is_sentence(message: str) -> None:
    """One line, one full stop, no traceback."""
    assert message.startswith("Parameter '")
    assert message.endswith(".")
    assert message.count(". ") == 0
    assert "\n" not in message
