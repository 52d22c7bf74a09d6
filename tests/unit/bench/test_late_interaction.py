"""Orders by the sidecar's formulas, and how far a model may change them."""

import numpy as np
import pytest

from bench.blended import Page
from bench.late_interaction.worth import _alone, _blended
from sidecar.domain import Floats, Weights
from sidecar.ranking.blend import blend, order, relevance

NAN = float("nan")


def floats(*values: float) -> Floats:
    return np.array(values, np.float32)


@pytest.fixture
def page() -> Page:
    return Page(
        "red lamp",
        ["a", "b", "c", "d", "e"],
        floats(0.9, 0.7, 0.6, 0.5, 0.1),
        floats(0.8, 0.7, 0.6, 0.2, 0.1),
        floats(1.0, 0.95, 0.9, 0.5, 0.0),
        floats(10.0, 9.5, 9.0, 5.0, NAN),
    )


def test_it_is_the_order_that_a_sidecar_makes(page: Page) -> None:
    logits = floats(-3, 5, 4, NAN, NAN)
    nothing = np.full(5, np.nan, np.float32)
    # Relevance as shipped; the default weights of relevance and retrieval are 1 and 0.8.
    parts = relevance(page.match, page.context, logits, Weights(1.0, 0.5, 0.8).cross_encoder)
    scores = blend(parts, nothing, page.retrieval, Weights(1.0, 0.5, 0.8)).scores
    np.testing.assert_array_equal(page.order(logits, 0.2), order(scores, page.scores_in))
    assert page.names(page.order()) == ["a", "b", "c", "d", "e"]


def test_a_larger_share_moves_those_that_were_read_more(page: Page) -> None:
    logits = floats(-3, 5, 4, 9, NAN)
    assert _blended(page, logits, 3, 0.1) == ["a", "b", "c", "d", "e"]
    assert _blended(page, logits, 3, 0.7) == ["b", "a", "c", "d", "e"]
    # What is read is what the blend has first, whatever the model knows of the others.
    assert _blended(page, floats(-3, 5, 4, -9, NAN), 3, 0.7) == ["b", "a", "c", "d", "e"]


def test_alone_orders_what_was_read_and_leaves_the_others(page: Page) -> None:
    assert _alone(page, floats(1, 3, 2, 9, 8), 3) == ["b", "c", "a", "d", "e"]
    unread = np.full(5, np.nan, np.float32)
    assert _alone(page, unread, 3) == ["a", "b", "c", "d", "e"]
