"""From a catalogue to an index: reading, validation, vectors, the switch; and a
live index with another encoder's vectors."""

from indexer.photos import LiveVectors, Photos
from indexer.reencoding import Reencoded, reencode
from indexer.rejects import Rejects
from indexer.run import PassageEncoder, Summary, index_catalogue
from neuralrank.catalogue.reading import Catalogue, Row

__all__ = [
    "Catalogue",
    "LiveVectors",
    "PassageEncoder",
    "Photos",
    "Reencoded",
    "Rejects",
    "Row",
    "Summary",
    "index_catalogue",
    "reencode",
]
