"""Settings: checked at start, and every one of them documented."""

from pathlib import Path

import pytest

from neuralrank.errors import InvalidSettings
from sidecar.domain import Weights
from sidecar.settings import SidecarSettings, load_sidecar_settings

DOCS = Path(__file__).resolve().parents[3] / "docs" / "services.md"
PREFIX = "NEURALRANK_SIDECAR_"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("LISTEN", "nowhere", "listen is 'nowhere'; allowed is host:port"),
        ("DEADLINE_MS", "9000", "deadline_ms 9000 is above max_deadline_ms 5000"),
        ("DEADLINE_MS", "5", "margin_ms 8 leaves nothing of deadline_ms 5"),
        ("DEADLINE_MS", "soon", "NEURALRANK_SIDECAR_DEADLINE_MS: got 'soon'"),
        ("HTTP_LISTEN", "127.0.0.1:50051", "port is 50051, and the 1 processes use the ports"),
        ("HTTP_LISTEN", "8080", "allowed is host:port"),
        ("HTTP_LISTEN", "0.0.0.0:8080", "listen is '0.0.0.0:8080', which is reached from other"),
        ("HTTP_DEADLINE_MS", "9000", "http_deadline_ms 9000 is above max_deadline_ms 5000"),
        ("WEIGHT_AFFINITY", "nan", "WEIGHT_AFFINITY"),
        ("MAX_CANDIDATES", "20000", "MAX_CANDIDATES: got '20000'"),
        ("MAX_CONNECTIONS", "3000000000", "MAX_CONNECTIONS: got '3000000000'"),
        ("MAX_STREAMS", "3000000000", "less than or equal to 1000000"),
        ("LISTEN", "0.0.0.0:50051", "set NEURALRANK_SIDECAR_INSECURE=true (--insecure)"),
        ("LISTEN", "[::]:50051", "reached from other machines"),
        ("LISTEN", "shop.example:50051", "reached from other machines"),
        ("TLS_CERTIFICATE", "tls.crt", "give both or neither"),
        ("TLS_CLIENT_CA", "ca.pem", "give all three"),
        ("CALLER_BURST", "5", "caller_burst is 5 without a caller_rate"),
        ("DEADLINE", "100", "NEURALRANK_SIDECAR_DEADLINE is no setting"),
    ],
)
def test_what_can_not_be_used_is_said_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(InvalidSettings) as caught:
        load_sidecar_settings()
    assert words in str(caught.value)


def test_no_worker_has_http_where_grpc_is() -> None:
    ports = {"listen": "127.0.0.1:50051", "http_listen": "127.0.0.1:50049"}
    assert load_sidecar_settings(**ports, processes=2).processes == 2
    with pytest.raises(InvalidSettings, match="of which 50051 is gRPC's"):
        load_sidecar_settings(**ports, processes=3)


def test_weights_must_not_all_be_0(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("RELEVANCE", "AFFINITY", "RETRIEVAL"):
        monkeypatch.setenv(f"{PREFIX}WEIGHT_{part}", "0")
    with pytest.raises(InvalidSettings, match="all weights are 0"):
        load_sidecar_settings()


def test_a_cross_encoder_weighs_the_same_where_no_setting_is_read() -> None:
    assert SidecarSettings().weight_cross_encoder == Weights(1.0, 0.0, 0.0).cross_encoder


def test_a_flag_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "LISTEN", "127.0.0.1:1")
    assert load_sidecar_settings(listen="127.0.0.1:2").listen == "127.0.0.1:2"
    assert load_sidecar_settings(listen=None).listen == "127.0.0.1:1"


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1"])
def test_this_machine_alone_needs_no_tls(listen: str) -> None:
    assert load_sidecar_settings(listen=listen).on_loopback


def test_beyond_this_machine_with_tls_or_where_it_is_said() -> None:
    secured = {"tls_certificate": "tls.crt", "tls_key": "tls.key"}
    assert not load_sidecar_settings(listen="0.0.0.0:1", **secured).on_loopback
    assert not load_sidecar_settings(listen="0.0.0.0:1", insecure=True).on_loopback


def documented() -> dict[str, str]:
    """Name and default of each row of the settings' table."""
    rows = [line.split("|") for line in DOCS.read_text("utf-8").splitlines()]
    return {
        row[1].strip().strip("`"): row[2].strip().strip("`")
        for row in rows
        if len(row) > 3 and row[1].strip().startswith(f"`{PREFIX}")
    }


def test_every_setting_is_documented_with_its_default() -> None:
    defaults = {}
    for name, field in SidecarSettings.model_fields.items():
        value = field.default
        defaults[PREFIX + name.upper()] = "" if value == "" else str(value)
    assert documented() == defaults
