import gzip
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuralrank.catalogue.reading import Catalogue, Row
from neuralrank.errors import InvalidInput, NotFound


def rows(path: Path) -> list[Row]:
    return list(Catalogue(path).rows())


def test_json_lines_keep_their_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": 1}\n\n{"id": \n\xff\n[1]\n{"id": 2}')
    found = rows(path)
    assert [(row.line, row.value) for row in found if not row.problem] == [
        (1, {"id": 1}),
        (5, [1]),
        (6, {"id": 2}),
    ]
    assert [row.line for row in found if row.problem] == [3, 4]
    assert all("is not JSON in UTF-8" in row.problem for row in found if row.problem)


def test_a_line_without_end_is_refused_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuralrank.catalogue.reading._MAX_LINE_BYTES", 100)
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"id": "x" * 500}) + '\n{"id": 2}\n')
    first, second = rows(path)
    assert (first.line, first.problem) == (1, "line is longer than 100 bytes")
    assert (second.line, second.value) == (2, {"id": 2})


def test_progress_reaches_one_and_never_falls(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": 1}\n' * 5000))
    catalogue = Catalogue(path)
    seen = [catalogue.progress for _ in catalogue.rows()]
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_csv_cells_become_values(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        'id,title,attributes,bullet_points,note\n1,"a, ""b""\nc","{""x"": [1]}","[""p"", ""q""]",\n'
    )
    (row,) = rows(path)
    assert row.value == {
        "id": "1",
        "title": 'a, "b"\nc',
        "attributes": {"x": [1]},
        "bullet_points": ["p", "q"],
    }
    assert row.line == 3  # where it ends


def test_bad_csv_rows_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b"id\ttitle\n1\ta\tb\n2\t\xff\n3\tc\n")
    found = rows(path)
    assert [row.problem for row in found] == [
        "has 3 cells; the header names 2 columns",
        "is not UTF-8",
        "",
    ]
    assert found[2].value == {"id": "3", "title": "c"}


def test_csv_json_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,title,attributes\n1,a,{x}\n")
    (row,) = rows(path)
    assert row.problem.startswith("attributes: begins like JSON")


@pytest.mark.parametrize("cell", ["[Light] weighs 200 g", "[4.5] stars", "{new}", "["])
def test_a_text_in_csv_may_begin_with_a_bracket(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"id,title,bullet_points,category\n1,a,{cell},{cell} > b\n")
    (row,) = rows(path)
    assert row == Row(
        2, {"id": "1", "title": "a", "bullet_points": cell, "category": f"{cell} > b"}
    )


@pytest.mark.parametrize("cell", ["['a', 'b']", '["a"', "{ 'a': 1}"])
def test_a_list_in_csv_that_is_no_json_is_not_taken_for_a_text(tmp_path: Path, cell: str) -> None:
    """As data frames write lists: brackets and quotes would be part of a category."""
    path = tmp_path / "a.tsv"
    path.write_text(f"id\ttitle\tcategory\n1\ta\t{cell}\n")
    (row,) = rows(path)
    assert row.problem.startswith("category: begins like JSON")


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """One of them was dropped without a word; of two ids the first."""
    text = tmp_path / "a.csv"
    text.write_text("id,title, id,,\n1,a,2,,\n")
    table = tmp_path / "a.parquet"
    columns = [pa.array([name]) for name in "1a2"]
    pq.write_table(pa.Table.from_arrays(columns, names=["id", "title", "id"]), table)
    for path in (text, table):
        with pytest.raises(InvalidInput, match=r"more than one column id\. Rename"):
            rows(path)


@pytest.mark.parametrize("content", ["", "sku,name\n1,a\n"])
def test_csv_without_the_needed_columns(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(InvalidInput, match="id and title among them; got"):
        rows(path)


def test_parquet_types_become_json(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table(
        {
            "id": [1, 2],
            "title": ["a", "b"],
            "price": [1.5, float("nan")],
            "tags": [["x"], None],
            "volts": [Decimal("2.30"), None],
            "attributes": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
        }
    )
    pq.write_table(table, path)
    first, second = rows(path)
    assert first.value == {
        "id": 1,
        "title": "a",
        "price": 1.5,
        "tags": ["x"],
        "volts": 2.3,
        "attributes": {"k": 1},
    }
    assert second.line == 2
    assert second.value["price"] is None


def test_parquet_s_nanoseconds_are_times_too(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    times = pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"id": [1, 2], "title": ["a", "b"], "seen": times}), path)
    first, second = rows(path)
    assert first.value["seen"] == "2023-11-14T22:13:20.123456+00:00"
    assert second.value["seen"] is None


def test_a_text_in_parquet_that_is_no_utf_8_costs_its_own_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    bad = pa.Array.from_buffers(pa.string(), 2, pa.array([b"kettle", b"\xff\xfe"]).buffers())
    pq.write_table(pa.table({"id": [1, 2], "title": bad}), path)
    first, second = rows(path)
    assert first == Row(1, {"id": 1, "title": "kettle"})
    assert second.value == {"id": 2}
    assert second.problem.startswith("title: can't be read: 'utf-8' codec")


def test_parquet_without_title(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": [1], "name": ["x"]}), path)
    with pytest.raises(InvalidInput, match="no column title; it has id, name"):
        rows(path)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz", "a.csv.gz"])
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x1f\x8b but the rest is something else")
    with pytest.raises(InvalidInput, match=r"damaged gzip file|not a Parquet file"):
        rows(path)


def test_whether_a_file_is_gzip_is_told_by_what_is_in_it(tmp_path: Path) -> None:
    text = b"id,title\n1,kettle\n"
    (tmp_path / "a.csv").write_bytes(gzip.compress(text))
    (tmp_path / "b.csv.gz").write_bytes(text)
    expected = [Row(2, {"id": "1", "title": "kettle"})]
    assert rows(tmp_path / "a.csv") == rows(tmp_path / "b.csv.gz") == expected


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.json", "a.parquet.gz", "a.gz"])
def test_an_unknown_format_lists_the_known_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InvalidInput, match=r"\.jsonl, .*\.parquet, .*\.csv\.gz"):
        Catalogue(tmp_path / name)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no file"):
        Catalogue(tmp_path / "a.jsonl")


def test_a_quote_that_is_not_closed_costs_its_own_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    mugs = [{"id": str(n), "title": f"Mug {n}"} for n in range(2, 5000)]
    path.write_text(
        'id,title\n1,"Kettle 1.7 l\n' + "".join(f"{mug['id']},{mug['title']}\n" for mug in mugs)
    )
    first, *others = rows(path)
    assert (first.line, first.value) == (2, '1,"Kettle 1.7 l')
    assert first.problem == "opens a quote that is not closed: line 5000, unexpected end of data"
    assert [row.value for row in others if not row.problem] == mugs


def test_a_quote_that_the_next_one_closes_costs_its_own_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,title\n1,"Kettle\n2,Mug\n3,"Toaster, red"\n4,"a" b\n5,"last\n')
    found = rows(path)
    assert [(row.line, row.problem) for row in found if row.problem] == [
        (2, "opens a quote that is not closed: line 4, ',' expected after '\"'"),
        (5, "is not CSV: ',' expected after '\"'"),
        (6, "opens a quote that is not closed: line 6, unexpected end of data"),
    ]
    assert [row.value["id"] for row in found if not row.problem] == ["2", "3"]


@pytest.mark.parametrize("rest", ['best "kettle", ever",5', 'best" kettle",5', "best, ever"])
def test_the_rest_of_a_text_with_wrong_quotes_is_no_row(tmp_path: Path, rest: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'id,title,price\n1,"The\n{rest}\n2,Mug,3\n')
    found = rows(path)
    assert [(row.line, row.problem.partition(":")[0]) for row in found] == [
        (2, "opens a quote that is not closed"),
        (3, "comes after a quote that is not closed"),
        (4, ""),
    ]


def test_a_quote_that_is_not_closed_is_not_looked_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuralrank.catalogue.reading._MAX_RECORD", 100)
    path = tmp_path / "a.csv"
    path.write_text('id,title\n1,"a\n' + 'x","y\n' * 1000)
    first, *_ = rows(path)
    assert "it would be longer than 100 characters" in first.problem


@pytest.mark.parametrize(
    ("title", "read"),
    [
        ('"Kettle', '"Kettle'),
        ('"Pro" toaster', '"Pro" toaster'),
        ('Toaster "Pro"', 'Toaster "Pro"'),
        ('"a ""b""\nc"', 'a "b"\nc'),
        ('"a\tb"', "a\tb"),
    ],
)
def test_tsv_with_and_without_quotes(tmp_path: Path, title: str, read: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f'id\ttitle\n1\t{title}\n2\tMug 12"\n3\tPan\n')
    found = rows(path)
    assert [(row.value["id"], row.value["title"], row.problem) for row in found] == [
        ("1", read, ""),
        ("2", 'Mug 12"', ""),
        ("3", "Pan", ""),
    ]


def test_a_csv_that_is_not_utf_8_says_how_to_save_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,title,品牌\n1,kettle,Midea\n".encode("gbk"))
    with pytest.raises(InvalidInput, match=r'are not UTF-8: id, title.*"CSV UTF-8"') as raised:
        rows(path)
    str(raised.value).encode()


def test_a_csv_whose_first_line_is_not_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,"title\n1,a\n')
    with pytest.raises(InvalidInput, match="which is not CSV: unexpected end of data"):
        rows(path)


def test_a_row_that_is_not_utf_8_says_so_however_many_cells_it_has(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,title\n1,电饭煲,美的\n".encode("gbk"))
    (row,) = rows(path)
    assert row.problem == "is not UTF-8"
    json.dumps(row.value, ensure_ascii=False).encode()
