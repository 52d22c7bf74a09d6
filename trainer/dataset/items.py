"""A catalogue as the items of a dataset."""

from pathlib import Path

import pyarrow as pa

from neuralrank.catalogue.product import Product, headline, passage
from neuralrank.catalogue.reading import Catalogue
from neuralrank.errors import InvalidInput
from neuralrank.text.language import detect
from trainer.dataset.format import ITEMS

__all__ = ["read_items"]


def read_items(path: Path) -> tuple[pa.Table, list[str]]:
    """The products of a catalogue that are valid, each id once.

    Returns:
        ITEMS, and what the encoder reads of each.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it can't be read, or holds no product.
    """
    rows, headlines, known = [], [], set[str]()
    for row in Catalogue(path).rows():
        try:
            product = None if row.problem else Product.from_row(row.value)
        except InvalidInput:
            product = None
        if product is None or product.id in known:
            continue
        known.add(product.id)
        headlines.append(headline(product))
        rows.append(
            {
                "item_id": product.id,
                "title": product.title,
                "text": passage(product),
                "brand": product.brand or "",
                "category": " > ".join(product.category),
                "language": product.language or detect(product.title),
                "price": product.price,
            }
        )
    if not rows:
        raise InvalidInput(f"{path} holds no product; `neuralrank index` says why, row by row.")
    return pa.Table.from_pylist(rows, ITEMS), headlines
