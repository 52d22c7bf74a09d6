"""A spec: every key known, and a refusal says the line and what is allowed."""

import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuralrank.errors import InvalidInput, NotFound
from opensearch_config.tuning.located import read_yaml
from opensearch_config.tuning.spec import Variant, read_spec

HEAD = """\
index: shop
judgments: {file: mine.json}
variants:
  - name: as it is
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "tune.yml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_short_spec_has_defaults(tmp_path: Path) -> None:
    spec, found = read_spec(write(tmp_path, HEAD))
    assert (spec.index, spec.pipeline, spec.recall_at, spec.repeats) == (
        "shop",
        "neural_rank",
        100,
        1,
    )
    assert spec.variants[0] == Variant(name="as it is")
    assert found.lines["variants", 0, "name"] == 4


@pytest.mark.parametrize(
    ("more", "line", "words"),
    [
        ("    boots: {title: 2}", 5, "'boosts'"),
        ("    boots: {title: 2}", 5, "ef_construction, ef_search, exclusions, folder, fusion"),
        ("    window: wide", 5, "variants[0].window: got 'wide'"),
        ("    window: 0", 5, "greater than or equal to 1"),
        ("    m: 1", 5, "greater than or equal to 2"),
        ("    fusion: sum", 5, "'weights' or 'rrf'"),
        ("    weights: {relevance: -1}", 5, "variants[0].weights.relevance: got -1"),
        ("    weights:\n      affinity: .nan", 6, "finite"),
        (
            "    weights: {relevance: 0, affinity: 0, retrieval: 0}",
            5,
            "weights: are all zero; at least one must be above 0",
        ),
        (
            "    weights:\n      relevence: 1",
            6,
            "'relevance'? Allowed are affinity, cross_encoder, diversity, relev",
        ),
        ("    weights: {cross_encoder: 2}", 5, "less than or equal to 1"),
        ("    weights: {diversity: 2}", 5, "less than or equal to 1"),
        (
            "search: {over: {weights.cross_encoder: {low: 0, high: 2}}}",
            5,
            "weights.cross_encoder can't be 2.0; it must be a number from 0 to 1",
        ),
        ("    boosts: {title: -2}", 5, "variants[0].boosts.title: got -2"),
        ("    rank: false\n    window: 5", 4, "rank: false, and window, which need ranking"),
        ("    synonyms: [a]\n    synonyms_file: b", 4, "keep one of them"),
        ("  - name: as it is", 1, "several variants called 'as it is'"),
        ("    window: 5\n    window: 6", 6, "'window' comes twice in variants[0]"),
        (
            "search: {over: {m: {low: 1, high: 2}}}",
            5,
            "can't search 'm'; allowed are fusion, window",
        ),
        ("search: {over: {window: {low: 1.5, high: 2}}}", 5, "must be a whole number from 1"),
        ("search: {over: {window: {low: 2, high: 2}}}", 5, "low 2, which is not below high 2"),
        ("search: {over: {window: {low: 2}}}", 5, "either low and high, or one_of"),
        ("search: {over: {fusion: {one_of: [rrf, sum]}}}", 5, "one_of weights, rrf"),
        ("search: {over: {}}", 5, "at least 1"),
        ("search: {variant: b, over: {k: {low: 1, high: 9}}}", 1, "allowed are 'as it is'"),
        ("search: {held_back: 1, over: {k: {low: 1, high: 9}}}", 5, "less than 1"),
        ("variant: []", 5, "Did you mean 'variants'?"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, more: str, line: int, words: str
) -> None:
    path = write(tmp_path, f"{HEAD}{more}\n")
    with pytest.raises(InvalidInput) as refused:
        read_spec(path)
    assert str(refused.value).startswith(f"{path}:{line}: ")
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("judgments", "words"),
    [
        ("{}", "either file (with queries) or clicks"),
        ("{file: a.json, clicks: {}}", "either file (with queries) or clicks"),
        ("{file: a.qrels}", "name its queries too"),
        ("{clicks: {model: dbn}}", "'coec' or 'sdbn'"),
        ("{clicks: {thresholds: [1, 0]}}", "ascending"),
    ],
)
def test_judgments_come_from_one_place(tmp_path: Path, judgments: str, words: str) -> None:
    path = write(tmp_path, HEAD.replace("{file: mine.json}", judgments))
    with pytest.raises(InvalidInput) as refused:
        read_spec(path)
    assert str(refused.value).startswith(f"{path}:2: judgments")
    assert words in str(refused.value)


def test_a_file_of_opensearch_s_may_be_gzip(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD.replace("mine.json", "mine.json.gz"))
    assert read_spec(path)[0].judgments.file == Path("mine.json.gz")


def test_a_date_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD.replace("{file: mine.json}", "{clicks: {since: 2020-01-31}}"))
    clicks = read_spec(path)[0].judgments.clicks
    assert clicks is not None
    assert clicks.since == "2020-01-31"


def test_a_typo_is_named_before_what_is_missing_for_it(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD.replace("index", "indx"))
    with pytest.raises(InvalidInput, match=r":1: indx: .* mean 'index'\?.* \(1 more problem"):
        read_spec(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ":1: a spec is a mapping; allowed keys are folder, index"),
        ("[1]", ":1: a spec is a mapping"),
        ("index: a\nvariants: [", ":2: this is not YAML"),
        ("index: a\n? [a]\n: b", ":2: a key must be a word"),
        ("a: &a [*a]", "aliases"),
        ("a: !!python/object:os.system x", ":1: this is not YAML"),
        ("\x01", "this is not YAML"),
        ("a: " + "[" * 5_000 + "]" * 5_000, "nested too deep"),
    ],
)
def test_what_is_no_spec_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_spec(write(tmp_path, text))
    assert words in str(refused.value)


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no file .*nowhere\.yml"):
        read_yaml(tmp_path / "nowhere.yml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tune.yml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="UTF-8"):
        read_spec(path)


KEYS = st.sampled_from([*Variant.model_fields, "boots", "名", "on", "1"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 20_000), st.floats(), st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(extra=st.dictionaries(KEYS, VALUES, max_size=4))
def test_whatever_a_variant_says_it_is_read_or_refused_at_a_line(
    tmp_path: Path, extra: dict[str, Any]
) -> None:
    variant = yaml.safe_dump([{"name": "a", **extra}], allow_unicode=True)
    path = write(tmp_path, HEAD.rsplit("  - ", 1)[0] + textwrap.indent(variant, "  "))
    try:
        spec, _ = read_spec(path)
    except InvalidInput as error:
        place, _, words = str(error).removeprefix(f"{path}:").partition(": ")
        assert place.isdecimal()
        assert words
    else:
        assert len(spec.variants) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(value=VALUES)
def test_yaml_is_read_as_the_library_reads_it(tmp_path: Path, value: Any) -> None:
    text = yaml.safe_dump({"top": value}, allow_unicode=True)
    found = read_yaml(write(tmp_path, text)).value["top"]
    assert repr(found) == repr(yaml.safe_load(text)["top"])
