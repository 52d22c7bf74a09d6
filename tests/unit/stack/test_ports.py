import os
import socket

import pytest

from neuralrank.errors import InvalidSettings, Unsupported
from neuralrank.stack.ports import choose_port


def test_zero_gives_a_free_port() -> None:
    port = choose_port(0, "the sidecar", "--sidecar-port")
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_free_port_is_given_back() -> None:
    port = choose_port(0, "the sidecar", "--sidecar-port")
    assert choose_port(port, "the sidecar", "--sidecar-port") == port


def test_a_taken_port_is_an_error_that_names_who_has_it_and_the_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Unsupported) as error:
            choose_port(port, "OpenSearch", "--opensearch-port")
    assert f"Port {port} for OpenSearch is in use by " in str(error.value)
    assert f"(process {os.getpid()})" in str(error.value)
    assert "`--opensearch-port PORT`" in str(error.value)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_what_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(InvalidSettings, match=f"--sidecar-port: got {port}"):
        choose_port(port, "the sidecar", "--sidecar-port")
