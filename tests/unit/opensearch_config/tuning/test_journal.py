"""What a run knows survives it, whatever ended it."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuralrank.errors import InvalidInput, Unsupported
from opensearch_config.tuning.journal import Journal, open_journal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
PAIRS = st.lists(st.tuples(st.lists(st.text(max_size=5), min_size=1, max_size=3), VALUES))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(pairs=PAIRS, cut=st.integers(0, 400), more=PAIRS)
def test_a_file_cut_anywhere_keeps_every_whole_line(
    tmp_path: Path,
    pairs: list[tuple[list[str], object]],
    cut: int,
    more: list[tuple[list[str], object]],
) -> None:
    path = tmp_path / "journal.ndjson"
    path.unlink(missing_ok=True)
    journal = Journal(path)
    for key, value in pairs:
        journal.put(*key, value=value)
    journal.close()
    raw = path.read_bytes()[:cut]
    path.write_bytes(raw)
    whole = pairs[: raw.count(b"\n")]
    journal = Journal(path)
    expected = {tuple(key): value for key, value in whole}
    assert len(journal) == len(expected)
    assert all(journal.get(*key) == value for key, value in expected.items())
    for key, value in more:
        journal.put(*key, value=value)
    journal.close()
    again = Journal(path)
    expected |= {tuple(key): value for key, value in more}
    assert all(again.get(*key) == value for key, value in expected.items())
    again.close()


def test_a_run_goes_on_and_another_one_begins_anew(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        assert journal.begin("one")
        journal.put("page", "a", value=1)
    with open_journal(tmp_path) as journal:
        assert not journal.begin("one")
        assert journal.get("page", "a") == 1
        assert journal.begin("two")
        assert journal.get("page", "a") is None
        journal.put("page", "b", value=2)
    with open_journal(tmp_path) as journal:
        assert not journal.begin("two")
        assert journal.get("page", "b") == 2
        journal.forget()
    with open_journal(tmp_path) as journal:
        assert len(journal) == 0


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with (
        open_journal(tmp_path),
        pytest.raises(InvalidInput, match="Another `neuralrank tune` of this spec"),
        open_journal(tmp_path),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unsupported, match="can't be written to"), open_journal(tmp_path / "file"):
        pass
