"""What a variant needs: an index, a pipeline, a query."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralrank.errors import InvalidInput, NotFound
from opensearch_config import FOLDER, files, product_index
from opensearch_config.tuning.analysis import merged
from opensearch_config.tuning.spec import read_spec
from opensearch_config.tuning.variants import Planned, Source, boosted, plan

SOURCE = Source("shop", "shop-1", "uuid", 3, "words@000000000001", 8, {"own": {"type": "keyword"}})
TEMPLATE = files.read(FOLDER / "queries" / "product.json")


def planned(folder: Path, *variants: str, top: str = "") -> list[Planned]:
    path = folder / "tune.yml"
    lines = "".join(f"  - {{name: v{i}{', ' if v else ''}{v}}}\n" for i, v in enumerate(variants))
    path.write_text(f"index: shop\njudgments: {{file: a.json}}\n{top}variants:\n{lines}")
    return plan(*read_spec(path), SOURCE)


def vector(each: Planned) -> dict[str, Any]:
    return dict(each.body["mappings"]["properties"]["text_vector"])


def test_without_a_change_of_the_index_the_source_itself_is_searched(tmp_path: Path) -> None:
    found = planned(tmp_path, "", "window: 50, k: 40", "rank: false", "boosts: {title: 8}")
    assert [each.key for each in found] == [""] * 4
    assert [each.window for each in found] == [100, 50, 10_000, 100]
    assert [each.explored for each in found] == [400, 160, 400, 400]
    assert [each.has_vectors for each in found] == [True, True, False, True]


def test_if_one_needs_an_index_all_get_new_ones_and_like_ones_share(tmp_path: Path) -> None:
    found = planned(tmp_path, "", "m: 8", "window: 50", "m: 8, fusion: rrf")
    assert all(each.key for each in found)
    assert found[0].key == found[2].key != found[1].key == found[3].key


def test_the_graph_is_as_the_variant_says(tmp_path: Path) -> None:
    plain, small, quantised, cut = planned(
        tmp_path, "", "m: 8, ef_construction: 32", "quantization: sq", "dimensions: 4"
    )
    assert vector(small)["method"]["parameters"] == {"m": 8, "ef_construction": 32}
    assert vector(quantised)["method"]["parameters"]["encoder"] == {
        "name": "sq",
        "parameters": {"bits": 7},
    }
    assert "encoder" not in vector(plain)["method"]["parameters"]
    assert (vector(plain)["dimension"], vector(cut)["dimension"]) == (8, 4)
    assert cut.body["mappings"]["_meta"]["neuralrank"]["dimensions"] == 4
    # A team's own fields stay.
    assert plain.body["mappings"]["properties"]["own"] == {"type": "keyword"}


def test_synonyms_are_of_queries_only_in_words_and_in_pairs(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("# two\nsofa, couch\n\n本子 => 笔记本\n")
    (found,) = planned(tmp_path, "synonyms_file: s.txt")
    analysis = found.body["settings"]["analysis"]
    rules = ["sofa, couch", "本子 => 笔记本"]
    assert analysis["filter"]["tune_synonyms_english"]["synonyms"] == rules
    assert analysis["filter"]["tune_synonyms_cjk"]["synonym_analyzer"] == "cjk"
    title = found.body["mappings"]["properties"]["title"]
    assert (title["analyzer"], title["search_analyzer"]) == (
        "product_text",
        "tune_synonyms_product_text",
    )
    assert title["fields"]["zh"]["search_analyzer"] == "tune_synonyms_cjk"
    own = analysis["analyzer"]["tune_synonyms_product_text"]["filter"]
    assert own == [*analysis["analyzer"]["product_text"]["filter"], "tune_synonyms_english"]
    # What the files say is not changed by it.
    assert "tune_synonyms_english" not in product_index()["settings"]["analysis"]["filter"]


def test_a_byte_order_mark_is_no_part_of_the_first_synonym(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("sofa, couch\n", "utf-8-sig")
    (found,) = planned(tmp_path, "synonyms_file: s.txt")
    filters = found.body["settings"]["analysis"]["filter"]
    assert filters["tune_synonyms_english"]["synonyms"] == ["sofa, couch"]


def test_synonyms_that_are_not_there_are_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="'v0' names the synonyms"):
        planned(tmp_path, "synonyms_file: s.txt")


def test_analyzers_settings_and_mappings_are_laid_over(tmp_path: Path) -> None:
    (found,) = planned(
        tmp_path,
        "analyzers: {title: english, title.zh: standard}, query: {match: {title: '{{query}}'}}, "
        "settings: {index: {refresh_interval: 5s}}, mappings: {properties: {color: null}}",
    )
    title = found.body["mappings"]["properties"]["title"]
    assert (title["analyzer"], title["fields"]["zh"]["analyzer"]) == ("english", "standard")
    assert found.body["settings"]["index"]["refresh_interval"] == "5s"
    assert "color" not in found.body["mappings"]["properties"]


def test_fields_that_are_asked_together_keep_one_analyzer(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"analyzers: .* here title by english; brand, .*") as no:
        planned(tmp_path, "analyzers: {title: english}")
    assert "tune.yml:" in str(no.value)
    every = [
        "title",
        "brand",
        "category",
        "color",
        "bullet_points",
        "description",
        "attributes_text",
    ]
    planned(tmp_path, f"analyzers: {{{', '.join(f'{name}: english' for name in every)}}}")


def test_the_pipeline_is_the_files_with_the_variants_numbers(tmp_path: Path) -> None:
    (found,) = planned(
        tmp_path,
        "window: 50, ef_search: 77, fusion: rrf, weights: {retrieval: 0}, bundle: none, "
        "max_reranked: 5, deadline_ms: 40, timeout_ms: 900, exclusions: false",
    )
    assert found.pipeline is not None
    recall = found.pipeline["request_processors"][0]["neural_recall"]
    rank = found.pipeline["response_processors"][0]["neural_rank"]
    assert recall["exclusions"] is rank["exclusions"] is False
    assert (recall["window"], recall["ef_search"], recall["timeout_ms"]) == (50, 77, 900)
    assert (recall["k"], recall["vector_field"]) == (100, "text_vector")
    assert (rank["fusion"], rank["bundle"], rank["weights"]) == ("rrf", "none", {"retrieval": 0.0})
    assert recall["text_fields"]
    assert found.explored == 100


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ("boosts: {titel: 3}", ":4: variants[0].boosts: the query has no field titel"),
        (
            "analyzers: {titel: english}",
            "analyzers.titel: there is no such text field; allowed are",
        ),
        ("query: {match_all: {}}", 'variants[0].query: has no "{{query}}"'),
        ("m: 8, mappings: {properties: {text_vector: null}}", "no vectors (no field text_vector)"),
        (
            "quantization: sq, mappings: {properties: {text_vector: {method: {engine: faiss}}}}",
            "sq is for the engine lucene; the files say 'faiss'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_at_its_line(tmp_path: Path, variant: str, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        planned(tmp_path, variant)
    assert words in str(refused.value)
    assert ":4: " in str(refused.value)


def test_a_pipeline_that_is_not_there_or_lacks_a_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"'mine'; .* has neural_rank, neural_rank_only"):
        planned(tmp_path, "", top="pipeline: mine\n")
    pipelines = tmp_path / "files" / "pipelines"
    for name in ("mappings", "settings", "queries"):
        (tmp_path / "files" / name).mkdir(parents=True)
        source = FOLDER / name / "product.json"
        (tmp_path / "files" / name / "product.json").write_text(source.read_text())
    pipelines.mkdir()
    (pipelines / "neural_rank.json").write_text('{"response_processors": [{"neural_rank": {}}]}')
    with pytest.raises(InvalidInput, match=r"variants\[0\].window: .* has no neural_recall"):
        planned(tmp_path, "window: 5", top="folder: files\n")


def test_an_index_without_vectors_has_no_leg(tmp_path: Path) -> None:
    path = tmp_path / "tune.yml"
    path.write_text("index: a\njudgments: {file: a.json}\nvariants: [{name: a}]\n")
    (found,) = plan(*read_spec(path), replace(SOURCE, encoder="", dimensions=0))
    assert not found.has_vectors


@given(st.dictionaries(st.sampled_from(["title", "title.zh", "brand"]), st.floats(0.5, 9)))
def test_boosts_are_of_their_fields_alone(boosts: dict[str, float]) -> None:
    def lists(template: Any) -> list[dict[str, str]]:
        exact, typos = template["dis_max"]["queries"]
        clauses = [*exact["bool"]["should"], typos]
        return [
            dict(name.partition("^")[::2] for name in clause["fields"])
            for each in clauses
            for clause in each.values()
        ]

    for before, after in zip(lists(TEMPLATE), lists(boosted(TEMPLATE, boosts)), strict=True):
        assert before.keys() == after.keys()
        for field, weight in after.items():
            assert weight == (f"{boosts[field]:g}" if field in boosts else before[field])


def test_a_boost_of_0_leaves_the_field_out() -> None:
    made = boosted(TEMPLATE, {"description": 0})
    exact = made["dis_max"]["queries"][0]
    first = exact["bool"]["should"][0]["combined_fields"]["fields"]
    assert "description" not in first
    assert len(first) == 6
    with pytest.raises(InvalidInput, match="nothing is left of the fields a, b"):
        boosted({"x": {"fields": ["a", "b^2"]}}, {"a": 0, "b": 0})


@given(
    st.dictionaries(
        st.sampled_from("abc"),
        st.integers() | st.dictionaries(st.sampled_from("de"), st.integers()),
    ),
    st.dictionaries(
        st.sampled_from("abc"),
        st.integers() | st.dictionaries(st.sampled_from("de"), st.integers()),
    ),
)
def test_what_is_laid_over_wins_and_the_rest_stays(base: Any, over: Any) -> None:
    found = merged(base, over)
    assert found.keys() == base.keys() | over.keys()
    for name, value in found.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict) and name in over:
            assert value == base[name] | over[name]
        else:
            assert value == over.get(name, base.get(name))
