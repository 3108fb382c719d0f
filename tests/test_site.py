"""What the docs site promises: nothing is lost of what it generates, its examples run, and a broken link is noticed."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import docs_check
import docs_pages
import numpy as np
import pytest
import torch
import yaml
from transformers import Dinov2Config, Dinov2Model, PreTrainedModel, ViTConfig, ViTImageProcessor, ViTModel

import cygnet.anomaly_kinds
from cygnet.anomaly_kinds import Kind
from cygnet.model.network.backbone import load_detector
from cygnet.parameters.check import PIPELINE_PARAMETERS
from cygnet.parameters.synthesis import Synthesis
from cygnet.parameters.training import Training
from cygnet.vision import spot_anomalies
from cygnet.vision.anomalies import make_kinds
from support.toys import base_parameters

PROJECT = Path(__file__).parents[1]
LONGEST_KIND_LINES = 10


def examples(page: str, language: str) -> list[str]:
    """Give the blocks of a page in a language."""
    text = (PROJECT / "docs" / f"{page}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("pipeline", list(PIPELINE_PARAMETERS))
def test_every_parameter_has_a_row_with_its_default_type_and_meaning(pipeline: str) -> None:
    file = PROJECT / f"conf/base/parameters_{pipeline}.yml"
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*)$", docs_pages.of_file(file), re.MULTILINE))
    listed = {parameter.name: parameter for parameter in docs_pages.read_parameters(file)}
    values = {name: parameter for name, parameter in listed.items() if parameter.facts[0]}
    schema_names = set(yaml.safe_load(file.read_text()))
    assert schema_names == {pipeline}
    assert set(rows) == set(values)
    for name, parameter in values.items():
        assert parameter.default == docs_pages.value_of(base_parameters(), name)
        assert re.match(r".* \| (int|float|bool|string)s?( or null)? \| .* \| .*", rows[name])


@pytest.mark.parametrize("pipeline", list(PIPELINE_PARAMETERS))
def test_no_word_of_the_comments_is_lost(pipeline: str) -> None:
    file = PROJECT / f"conf/base/parameters_{pipeline}.yml"
    written = " ".join(re.findall(r"(?:^\s*|\s)# (?!---)(.*)$", file.read_text(), re.MULTILINE))
    page = docs_pages.of_file(file)
    assert set(re.findall(r"[A-Za-z]\w+", written)) <= set(re.findall(r"[A-Za-z]\w+", page.replace("\\", "")))


def test_facts_are_read_from_a_comment() -> None:
    def facts(comment: str) -> tuple[str, str, str, str]:
        return docs_pages.Parameter("name", None, comment, is_expert=False).facts

    assert facts("float, seconds, > 0 and <= 3600: time: a step") == (
        "float",
        "seconds",
        "> 0 and <= 3600",
        "time: a step",
    )
    assert facts("string or null, a | b; null: neither") == ("string or null", "", "a | b", "null: neither")
    assert facts("bool") == ("bool", "", "", "")
    assert facts("of each split") == ("", "", "", "of each split")


def test_a_column_has_the_comment_beside_it() -> None:
    page = docs_pages.tables_page()
    assert "| `area_frac` | float | share of the pixels in the mask, 0-1 |" in page
    assert "| `reason` | string or null | why it failed; null if it did not |" in page


def test_a_key_has_the_comment_beside_it() -> None:
    assert "| `threshold` | `float` | score from which an image is anomalous |" in docs_pages.reports_page()


def test_every_package_and_module_has_a_place_in_the_reference() -> None:
    named = set(re.findall(r"automodule:: ([\w.]+)", "".join(docs_pages.api_pages().values())))
    source = PROJECT / "src"
    files = {file.relative_to(source).with_suffix("") for file in source.rglob("cygnet/**/*.py")}
    modules = {".".join(file.parts).removesuffix(".__init__") for file in files if file.name != "__main__"}
    assert named == modules


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ('<a href="other.html#there">', []),
        ('<a href="https://example.org/">', []),
        ('<a href="gone.html">', ["index.html links to gone.html, which is not there"]),
        ('<a href="other.html#gone">', ["index.html links to other.html#gone, which is not there"]),
        ('<a href="#gone">', ["index.html links to #gone, which is not there"]),
        ('<script src="https://cdn.test/x.js">', ["index.html loads https://cdn.test/x.js"]),
        ("<style>@import url(//cdn.test/x.css)</style>", ["index.html loads //cdn.test/x.css"]),
    ],
)
def test_a_broken_link_and_what_comes_from_elsewhere_are_noticed(
    page: str, expected: list[str], tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text(page)
    (tmp_path / "other.html").write_text('<h1 id="there">There</h1>')
    assert docs_check.problems(tmp_path) == expected


def test_the_kind_of_the_page_is_drawn_and_takes_ten_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    function, entry = examples("adding_a_kind", "python")
    assert len(f"{function}{entry}".splitlines()) <= LONGEST_KIND_LINES
    namespace = dict(vars(spot_anomalies))
    exec(function, namespace)
    kinds = {**cygnet.anomaly_kinds.KINDS, **eval(f"{{{entry}}}", {"Kind": Kind})}
    (name,) = set(kinds) - set(cygnet.anomaly_kinds.KINDS)
    monkeypatch.setattr(spot_anomalies, name, namespace[name], raising=False)
    for module in ("cygnet.vision.anomalies", "cygnet.parameters.synthesis"):
        monkeypatch.setattr(f"{module}.KINDS", kinds)
    settings = base_parameters()["synthesis"]
    settings["kinds"]["test"][name] = 1
    draw = make_kinds(Synthesis.model_validate(settings))[name]
    image = np.random.default_rng(0).integers(40, 90, (96, 96, 3), np.uint8)
    before = image.copy()
    changes = []
    for severity in (0.0, 1.0):
        drawn, mask = draw(image, image, np.random.default_rng(1), severity)
        again, _ = draw(image, image, np.random.default_rng(1), severity)
        assert np.array_equal(drawn, again)
        assert (drawn >= image).all()
        assert 0 < np.count_nonzero(mask) < mask.size
        changes.append(int(drawn.astype(int).sum()))
    assert changes[0] < changes[1]
    assert np.array_equal(image, before)


SIZES = {"image_size": 28, "patch_size": 14, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize("make", [lambda: Dinov2Model(Dinov2Config(**SIZES)), lambda: ViTModel(ViTConfig(**SIZES))])
def test_the_checkpoint_that_the_page_saves_is_a_backbone(
    make: Callable[[], PreTrainedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, folder = tmp_path / "hub", tmp_path / "dinov2-base"
    make().save_pretrained(hub)
    ViTImageProcessor(size={"height": 42, "width": 42}, image_mean=[0.1, 0.2, 0.3]).save_pretrained(hub)
    (saving,) = examples("adding_a_backbone", "python")
    monkeypatch.chdir(tmp_path)
    exec(saving.replace('"facebook/dinov2-base"', repr(str(hub))), {})
    command = examples("adding_a_backbone", "sh")[0]
    assert "training.checkpoint=./dinov2-base" in command
    detector = load_detector(Training.model_validate({**base_parameters()["training"], "checkpoint": "./dinov2-base"}))
    assert folder.is_dir()
    assert detector.preprocessing.size_px == 42
    assert detector.preprocessing.mean == (0.1, 0.2, 0.3)
    logits, patch_logits, distances = detector(torch.zeros(2, 42, 42, 3, dtype=torch.uint8))
    assert (logits.shape, patch_logits.shape, distances.shape) == ((2, 2), (2, 3, 3), (2, 3, 3))


def messages_of(source: str) -> set[str]:
    """Give the texts of a module, with `…` for what is filled in."""
    texts = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            texts.add("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(re.sub(r"%[\d.]*[sdgf]", "…", node.value))
    return texts


def test_every_message_of_the_page_on_troubles_is_one_of_the_code() -> None:
    page = (PROJECT / "docs/troubleshooting.md").read_text()
    own = re.sub(r"^## Other programs\n.*?^## ", "## ", page, flags=re.MULTILINE | re.DOTALL)
    quoted = re.findall(r"^\| `([^`]+)` \|", own, re.MULTILINE)
    texts = {text for file in (PROJECT / "src").rglob("*.py") for text in messages_of(file.read_text())}
    texts |= {re.sub(r"\$\(\w+\)", "…", line) for line in (PROJECT / "Makefile").read_text().splitlines()}
    assert len(quoted) > 40
    missing = []
    for message in quoted:
        pattern = ".+".join(re.escape(piece) for piece in re.split("…", message))
        missing += [] if any(re.search(pattern, text, re.DOTALL) for text in texts) else [message]
    assert missing == []
