"""From a catalogue to an index: reading, validation, vectors, bulk writing, the switch."""

from indexer.reading import FORMATS, Catalogue, Row
from indexer.rejects import Rejects
from indexer.run import PassageEncoder, Summary, index_catalogue
from indexer.writing import Refused, bulk_write

__all__ = [
    "FORMATS",
    "Catalogue",
    "PassageEncoder",
    "Refused",
    "Rejects",
    "Row",
    "Summary",
    "bulk_write",
    "index_catalogue",
]
