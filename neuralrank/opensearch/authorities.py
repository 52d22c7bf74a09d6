"""Whose certificates of OpenSearch are believed."""

import ssl

from neuralrank.errors import InvalidSettings

__all__ = ["trusting"]


def trusting(path: str) -> ssl.SSLContext:
    """A context that believes the authorities in a PEM file; "": those of the machine.

    Raises:
        InvalidSettings: the file holds none.
    """
    try:
        return ssl.create_default_context(cafile=path or None)
    except OSError as error:
        raise InvalidSettings(
            f"NEURALRANK_OPENSEARCH_CA is {path!r}, which can't be used: {error}. Name a PEM file "
            "with the certificate of OpenSearch's authority."
        ) from error
