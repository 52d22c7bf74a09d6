"""Asks OpenSearch and the sidecar whether they serve. Nothing here waits longer than a moment."""

import base64
import http.client
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Final

from neuralrank.credentials import sign_in
from neuralrank.errors import InvalidSettings, Unavailable, Unsupported
from neuralrank.opensearch.authorities import trusting
from neuralrank.settings import load_settings
from neuralrank.stack.versions import FITS, fits

__all__ = [
    "OpenSearch",
    "check_existing",
    "opensearch_status",
    "plugin_reaches",
    "sidecar_status",
    "sidecars_of",
]

TIMEOUT_S: Final = 5.0
PLUGINS: Final = ("opensearch-knn", "neural-rank")


@dataclass(frozen=True)
class OpenSearch:
    """An OpenSearch's address and how to sign in there. User and password may stand in the address;
    then they are taken out of it, so that no message shows them.

    Raises:
        InvalidSettings: they stand there, and not as an address has them.
    """

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    verify_certs: bool = True
    # PEM file of the authorities of its certificate. Empty: the machine's own.
    ca: str = ""

    def __post_init__(self) -> None:
        found = sign_in(self.url)
        if "@" in found.address:  # of a password with a "/", which would be shown
            raise InvalidSettings(
                f"opensearch_url ends with {found.address.rpartition('@')[2]!r}, and before the @ "
                "a user or password has a / that is not written as %2F. Write it so in "
                "NEURALRANK_OPENSEARCH_URL, or set NEURALRANK_OPENSEARCH_USER and "
                "NEURALRANK_OPENSEARCH_PASSWORD."
            )
        object.__setattr__(self, "url", found.address)
        if not self.user:
            object.__setattr__(self, "user", found.user)
            object.__setattr__(self, "password", found.password)

    def get(self, path: str) -> Any:
        """The JSON that a path answers with.

        Raises:
            Unavailable: no answer, or an error.
            InvalidSettings: `ca` is no file with certificates.
        """
        try:
            request = urllib.request.Request(f"{self.url.rstrip('/')}{path}")
        except ValueError as error:
            raise InvalidSettings(
                f"opensearch_url is {self.url!r} ({error}); allowed is an address such as "
                "http://127.0.0.1:9200. Set NEURALRANK_OPENSEARCH_URL."
            ) from error
        if self.user:
            token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        # The node is on this machine or in the user's network: a proxy would only be in the way.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if self.url.startswith("https:"):
            context = trusting(self.ca)
            if not self.verify_certs:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            handlers.append(urllib.request.HTTPSHandler(context=context))
        opener = urllib.request.build_opener(*handlers)
        try:
            with opener.open(request, timeout=TIMEOUT_S) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise Unavailable(f"{self.url}{path} answered {error.code}.") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise Unavailable(f"{self.url} does not answer as OpenSearch: {reason}.") from error


def plugin_reaches(opensearch: OpenSearch, sidecar: str) -> bool:
    """Whether the plugin of every node has a connection to a sidecar, by host:port."""
    try:
        nodes = opensearch.get("/_plugins/_neural_rank/stats").get("nodes", {})
    except Unavailable:
        return False
    states = [node.get("endpoints", {}).get(sidecar) for node in nodes.values()]
    return bool(states) and all(state == "READY" for state in states)


def opensearch_status(opensearch: OpenSearch) -> str:
    """The cluster's health: "green", "yellow" or "red"; "down" if it does not answer."""
    try:
        return str(opensearch.get("/_cluster/health")["status"])
    except (Unavailable, KeyError, TypeError):
        return "down"


def sidecar_status(address: str) -> str:
    """What the sidecar's gRPC health service says: "serving" or "not_serving"; "down" if it does
    not answer. TLS as NEURALRANK_CLIENT_… say; health needs no token."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from neuralrank.client.channel import UNHEALTHY, Access, Route

    with Route.to(address, Access.of(load_settings())).open() as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S
            )
        except grpc.RpcError as error:
            return "not_serving" if UNHEALTHY in (error.details() or "") else "down"
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "serving" if serving else "not_serving"


def sidecars_of(opensearch: OpenSearch) -> list[str]:
    """The sidecar addresses that the cluster's plugin calls, each host:port.

    Raises:
        Unavailable: no answer.
    """
    settings = opensearch.get("/_cluster/settings?include_defaults=true&flat_settings=true")
    for source in ("transient", "persistent", "defaults"):
        found = settings.get(source, {}).get("neural_rank.endpoint")
        if found:
            return found.split(",") if isinstance(found, str) else [str(item) for item in found]
    return []


def check_existing(opensearch: OpenSearch) -> None:
    """Whether an OpenSearch that somebody else runs has what neuralrank needs.

    Raises:
        InvalidSettings: the address is not one.
        Unavailable: it does not answer, or its health is red.
        Unsupported: another version, or plugins are missing; the message says how to get them.
    """
    if not opensearch.url.startswith(("http://", "https://")):
        raise InvalidSettings(
            f"--opensearch-url: got {opensearch.url!r}; write it as http://HOST:PORT or "
            "https://HOST:PORT."
        )
    try:
        about = opensearch.get("/")
    except Unavailable as error:
        raise Unavailable(
            f"{error} Start it, or leave --opensearch-url and NEURALRANK_OPENSEARCH_URL out to "
            "start a node here."
        ) from error
    version = about.get("version", {}) if isinstance(about, dict) else {}
    number = version.get("number", "")
    if version.get("distribution") != "opensearch" or not fits(number):
        raise Unsupported(
            f"{opensearch.url} is {version.get('distribution', 'not OpenSearch')} {number}; the "
            f"plugin can be built for {FITS}. Use such a cluster, or leave --opensearch-url out to "
            "start a node here."
        )
    nodes: dict[str, set[str]] = {}
    for node in opensearch.get("/_nodes/plugins")["nodes"].values():
        nodes[node["name"]] = {plugin["name"] for plugin in node["plugins"]}
    missing = [
        f"{plugin} on {name}"
        for name, plugins in sorted(nodes.items())
        for plugin in PLUGINS
        if plugin not in plugins
    ]
    if missing:
        raise Unsupported(
            f"{opensearch.url} lacks: {', '.join(missing)}. On each of those nodes run "
            f"`bin/opensearch-plugin install` with the address of opensearch-knn-"
            f"{number}.0.zip (its Maven artifact is org.opensearch.plugin:opensearch-knn:{number}.0"
            f":zip) and of neural-rank-{number}.0.zip (`mvn -f plugin/pom.xml package "
            f"-Dopensearch.version={number}` leaves it in plugin/target), set neural_rank.endpoint "
            "to the sidecar's host:port, and restart it."
        )
    if opensearch_status(opensearch) not in ("green", "yellow"):
        raise Unavailable(
            f"The health of {opensearch.url} is red: some primary shards are not assigned. "
            "`GET /_cluster/allocation/explain` there says why."
        )
