"""From a catalogue to an index: reading, validation, vectors, bulk writing, the switch; and a
live index with another encoder's vectors."""

from indexer.reading import FORMATS, Catalogue, Row
from indexer.reencoding import Reencoded, reencode
from indexer.rejects import Rejects
from indexer.run import PassageEncoder, Summary, index_catalogue
from indexer.writing import Refused, bulk_write

__all__ = [
    "FORMATS",
    "Catalogue",
    "PassageEncoder",
    "Reencoded",
    "Refused",
    "Rejects",
    "Row",
    "Summary",
    "bulk_write",
    "index_catalogue",
    "reencode",
]
