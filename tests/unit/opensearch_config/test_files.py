import json
import shutil
from pathlib import Path

import pytest

from neuralrank import ubi
from neuralrank.catalogue.product import PASSAGE_FIELDS, Product
from neuralrank.errors import InvalidInput, NotFound
from opensearch_config import FOLDER, lexical_query, pipelines, product_index, ubi_indexes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the files, to edit."""
    for name in ("mappings", "settings", "queries", "pipelines", "ubi"):
        shutil.copytree(FOLDER / name, tmp_path / name)
    return tmp_path


def test_the_mapping_has_a_field_for_everything_that_a_product_has() -> None:
    fields = product_index()["mappings"]["properties"]
    assert set(Product.model_fields) | {"attributes_text"} == set(fields)


def test_every_text_is_analysed_for_both_languages() -> None:
    fields = product_index()["mappings"]["properties"]
    texts = [field for field in fields.values() if field["type"] == "text"]
    assert len(texts) == 7
    assert all(field["fields"]["zh"]["analyzer"] == "cjk" for field in texts)


def test_vectors_take_the_encoders_size_and_name_it() -> None:
    body = product_index("e5@0123", 128)
    assert body["mappings"]["properties"]["text_vector"]["dimension"] == 128
    assert body["mappings"]["properties"]["text_vector_packed"] == {"type": "binary"}
    assert body["mappings"]["_meta"]["neuralrank"]["packed_vectors"] == {
        "text_vector": "text_vector_packed"
    }
    assert body["settings"]["index"]["knn"] is True
    meta = body["mappings"]["_meta"]["neuralrank"]
    assert (meta["encoder"], meta["dimensions"], meta["schema_version"]) == ("e5@0123", 128, 1)
    assert meta["text_fields"] == list(PASSAGE_FIELDS)


def test_without_vectors_the_knn_plugin_is_not_asked_for() -> None:
    body = product_index()
    assert not {"text_vector", "text_vector_packed"} & set(body["mappings"]["properties"])
    assert "knn" not in body["settings"]["index"]


def test_the_query_takes_any_text_as_text() -> None:
    text = 'a "quoted" {{query}} \\ 电脑'
    exact, typos = lexical_query(text)["dis_max"]["queries"]
    asked = [clause["combined_fields"]["query"] for clause in exact["bool"]["should"]]
    assert [*asked, typos["multi_match"]["query"]] == [text, text, text]


def test_the_query_is_an_editable_file(folder: Path) -> None:
    path = folder / "queries" / "product.json"
    path.write_text('{"match": {"title": "{{query}}"}}')
    assert lexical_query("x", folder) == {"match": {"title": "x"}}


def test_a_query_without_the_text_is_refused(folder: Path) -> None:
    (folder / "queries" / "product.json").write_text('{"match_all": {}}')
    with pytest.raises(InvalidInput, match="would not depend on what the user typed"):
        lexical_query("x", folder)


def test_a_broken_file_is_named_with_its_line(folder: Path) -> None:
    (folder / "mappings" / "product.json").write_text('{\n"properties": }')
    with pytest.raises(InvalidInput, match=r"product\.json is not JSON: .*line 2"):
        product_index(folder=folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "settings" / "product.json").unlink()
    with pytest.raises(NotFound, match=r"product\.json is missing"):
        product_index(folder=folder)


def test_the_vector_field_can_only_be_left_out_without_vectors(folder: Path) -> None:
    path = folder / "mappings" / "product.json"
    mapping = json.loads(path.read_text())
    del mapping["properties"]["text_vector"]
    path.write_text(json.dumps(mapping))
    assert product_index(folder=folder)
    with pytest.raises(InvalidInput, match="--no-vectors"):
        product_index("e5@0123", 128, folder)


def test_pipelines_name_our_processors() -> None:
    found = pipelines()
    assert set(found) == {"neural_rank", "neural_rank_only"}
    for pipeline in found.values():
        (recall,) = pipeline["request_processors"]
        (rank,) = pipeline["response_processors"]
        assert set(rank) == {"neural_rank"}
        # What neural_rank alone names is not fetched.
        assert recall["neural_recall"]["text_fields"] == list(PASSAGE_FIELDS)


def test_ubi_indexes_have_the_fields_that_are_written() -> None:
    indexes = ubi_indexes()
    assert set(indexes) == {ubi.QUERIES_INDEX, ubi.EVENTS_INDEX}
    events = indexes[ubi.EVENTS_INDEX]["mappings"]["properties"]
    assert set(ubi.Event.model_fields) == set(events)
    queries = indexes[ubi.QUERIES_INDEX]["mappings"]["properties"]
    assert set(ubi.Query.model_fields) == set(queries)


def add_synonyms(folder: Path, path: str) -> None:
    file = folder / "settings" / "product.json"
    settings = json.loads(file.read_text())
    settings["analysis"]["filter"]["synonyms"] = {"type": "synonym_graph", "synonyms_path": path}
    file.write_text(json.dumps(settings))


def test_lists_of_analysis_may_stand_in_files_of_their_own(folder: Path) -> None:
    add_synonyms(folder, "synonyms.txt")
    (folder / "synonyms.txt").write_text(
        "# ours\n\nlaptop, notebook\n 本子 => 笔记本电脑 \n", "utf-8"
    )
    found = product_index(folder=folder)["settings"]["analysis"]["filter"]["synonyms"]
    assert found == {
        "type": "synonym_graph",
        "synonyms": ["laptop, notebook", "本子 => 笔记本电脑"],
    }


@pytest.mark.parametrize("spelling", ["beside", "below", "dotted"])
def test_settings_may_be_spelt_as_opensearch_takes_them(folder: Path, spelling: str) -> None:
    file = folder / "settings" / "product.json"
    plain = json.loads(file.read_text())
    index, analysis = plain["index"], plain["analysis"]
    analysis["char_filter"] = {"t2s": {"type": "mapping", "mappings_path": "t2s.txt"}}
    (folder / "t2s.txt").write_text("機 => 机\n", "utf-8")
    file.write_text(json.dumps(plain))
    wanted = product_index("e5@0123", 128, folder)["settings"]
    assert wanted["analysis"]["char_filter"]["t2s"]["mappings"] == ["機 => 机"]
    rest = {name: part for name, part in analysis.items() if name != "char_filter"}
    spellings = {
        "beside": {**index, "analysis": analysis},
        "below": {"index": {**index, "analysis": analysis}},
        "dotted": {f"index.{name}": value for name, value in index.items()}
        | {"index": {"analysis": {"char_filter": analysis["char_filter"]}}}
        | {"index.analysis": rest},
    }
    file.write_text(json.dumps(spellings[spelling]))
    assert product_index("e5@0123", 128, folder)["settings"] == wanted


def test_a_setting_said_twice_is_refused(folder: Path) -> None:
    file = folder / "settings" / "product.json"
    plain = json.loads(file.read_text())
    file.write_text(json.dumps({**plain, "number_of_shards": 3}))
    with pytest.raises(InvalidInput, match="has number_of_shards twice"):
        product_index(folder=folder)
    twice = {"index": {**plain["index"], "analysis": {"filter": {}}}, "analysis": plain["analysis"]}
    file.write_text(json.dumps(twice))
    with pytest.raises(InvalidInput, match=r"has analysis\.filter twice"):
        product_index(folder=folder)
    file.write_text('{"index": 3}')
    with pytest.raises(InvalidInput, match=r"index of .* is 3"):
        product_index(folder=folder)


def test_fields_asked_together_are_analysed_alike(folder: Path) -> None:
    file = folder / "mappings" / "product.json"
    mapping = json.loads(file.read_text())
    mapping["properties"]["title"]["search_analyzer"] = "english"
    file.write_text(json.dumps(mapping))
    with pytest.raises(InvalidInput, match=r"title by english; brand, category.* by product_text"):
        product_index(folder=folder)
    # Where they are asked apart, it is allowed.
    (folder / "queries" / "product.json").write_text('{"match": {"title": "{{query}}"}}')
    assert product_index(folder=folder)


def test_a_field_without_an_analyzer_has_the_index_s_own(folder: Path) -> None:
    """OpenSearch goes by names: its default and `standard` are two."""
    query = {"combined_fields": {"query": "{{query}}", "fields": ["plain^2", "named"]}}
    (folder / "queries" / "product.json").write_text(json.dumps(query))
    file = folder / "mappings" / "product.json"
    mapping = json.loads(file.read_text())
    mapping["properties"] |= {
        "plain": {"type": "text"},
        "named": {"type": "text", "analyzer": "standard"},
    }
    file.write_text(json.dumps(mapping))
    with pytest.raises(InvalidInput, match="plain by default; named by standard"):
        product_index(folder=folder)


def test_a_byte_order_mark_is_no_part_of_a_file(folder: Path) -> None:
    add_synonyms(folder, "synonyms.txt")
    (folder / "synonyms.txt").write_text("laptop, notebook\n", "utf-8-sig")
    settings = folder / "settings" / "product.json"
    settings.write_text(settings.read_text("utf-8"), "utf-8-sig")
    found = product_index(folder=folder)["settings"]["analysis"]["filter"]["synonyms"]
    assert found["synonyms"] == ["laptop, notebook"]


def test_a_list_that_is_missing_or_outside_the_folder_is_named(folder: Path) -> None:
    add_synonyms(folder, "gone.txt")
    with pytest.raises(NotFound, match=r"synonyms\.synonyms_path.*gone\.txt"):
        product_index(folder=folder)
    add_synonyms(folder, "../secrets.txt")
    with pytest.raises(InvalidInput, match="inside"):
        product_index(folder=folder)
