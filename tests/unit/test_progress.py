"""Progress is shown to a person who watches, and to nobody else."""

import io

import pytest

from neuralrank.progress import told


class Screen(io.StringIO):
    def __init__(self, watched: bool) -> None:
        super().__init__()
        self._watched = watched

    def isatty(self) -> bool:
        return self._watched


@pytest.mark.parametrize("watched", [True, False])
def test_each_thing_has_a_bar_where_somebody_watches(
    monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    screen = Screen(watched)
    monkeypatch.setattr("sys.stderr", screen)
    with told() as tell:
        tell("queries", 1, 2)
        tell("events", 3, 40)
        tell("events", 41, 41)  # more came meanwhile
    shown = screen.getvalue()
    for words in ("queries", "1/2", "events", "41/41"):
        assert (words in shown) is watched
