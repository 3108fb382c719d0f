"""What the cache of answers promises: by image and question, complete or not at all, and no error because of a file."""

from pathlib import Path

import pytest

from cygnet.endpoints.answer_cache import Answer, AnswerCache

ANSWER = Answer("abnormal", 0.75, "a duck, 'é'", 321)


def test_an_answer_is_found_by_image_and_question_alone(tmp_path: Path) -> None:
    AnswerCache(str(tmp_path / "new")).put(b"image", "question", ANSWER)
    cache = AnswerCache(str(tmp_path / "new"))
    assert cache.get(b"image", "question") == ANSWER
    assert cache.get(b"other", "question") is None
    assert cache.get(b"image", "another") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"label": "normal"}', '{"more": 1}'])
def test_a_file_that_is_no_answer_is_no_answer(content: str, tmp_path: Path) -> None:
    AnswerCache(str(tmp_path)).put(b"image", "question", ANSWER)
    [file] = tmp_path.iterdir()
    file.write_text(content)
    assert AnswerCache(str(tmp_path)).get(b"image", "question") is None
