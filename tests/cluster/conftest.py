"""The distribution that the nodes of this folder share."""

import pytest

from neuralrank.stack.node import Node
from neuralrank.stack.ranking import fill_registry
from tests.cluster.nodes import install
from tests.conftest import CACHE, HomeMaker


@pytest.fixture(scope="session")
def installed(make_home: HomeMaker) -> Node:
    """Both plugins are in it; what is made of it is removed with the session's homes."""
    return install(make_home())


@pytest.fixture(scope="session", autouse=True)
def models() -> None:
    """The default models, which the sidecars of this folder serve: in a clean clone none are made
    yet."""
    fill_registry(str(CACHE / "models"), print)
