"""What a page promises of its numbers and names: exact beside rounded, by their path, and never markup."""

import pytest

from cygnet.report.page import ABSENT, STYLES, between, say
from support.pages import Page, is_rounded

FACTS = {"a": {"b": [0.123456, None]}, "<b>": {"n": 1234567}, "intervals": {"auroc": {"low": 0.8, "high": 0.95}}}


@pytest.mark.parametrize("style", STYLES)
def test_a_number_keeps_its_value_and_its_path_beside_what_is_shown(style: str) -> None:
    (shown,) = Page(say(FACTS, style, "<b>", "n")).numbers
    assert (float(shown["value"]), shown["data-key"]) == (1234567, '["<b>", "n"]')
    assert style == "small" or is_rounded(shown["text"], 1234567)


def test_a_name_is_no_markup() -> None:
    assert "<b>" not in say(FACTS, "count", "<b>", "n")


@pytest.mark.parametrize("path", [("a", "b", 1), ("a", "missing"), ("a", "b", 1, "deeper"), ("none",)])
def test_what_is_null_or_missing_is_a_dash(path: tuple[str | int, ...]) -> None:
    assert say(FACTS, "score", *path) == ABSENT


def test_an_interval_stands_behind_its_metric() -> None:
    page = Page(between({**FACTS, "auroc": 0.9}, "score", "auroc"))
    assert page.text == "0.900 0.800\N{EN DASH}0.950"
