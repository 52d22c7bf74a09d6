"""The distribution that the nodes of this folder share."""

import pytest

from neuralrank.stack.node import Node
from tests.cluster.nodes import install
from tests.conftest import HomeMaker


@pytest.fixture(scope="session")
def installed(make_home: HomeMaker) -> Node:
    """Both plugins are in it; what is made of it is removed with the session's homes."""
    return install(make_home())
