"""OpenSearch: the stack's own node, or one that somebody else runs."""

from dataclasses import replace
from ipaddress import ip_address
from urllib.parse import urlsplit

from neuralrank.errors import InvalidSettings
from neuralrank.stack.artifacts import build_plugin
from neuralrank.stack.node import (
    Node,
    can_enter,
    check_data,
    check_space,
    node_account,
    node_folder,
)
from neuralrank.stack.options import (
    HEAP,
    OPENSEARCH_PORT,
    Report,
    UpOptions,
    pick_port,
)
from neuralrank.stack.ports import LOOPBACK, choose_port
from neuralrank.stack.probe import OpenSearch, check_existing, opensearch_status, sidecars_of
from neuralrank.stack.processes import stop
from neuralrank.stack.ranking import sidecar_port
from neuralrank.stack.readiness import wait_until_ready
from neuralrank.stack.state import State
from neuralrank.stack.toolchain import find_jdk
from neuralrank.stack.versions import VERSIONS

__all__ = ["report_sidecars", "same", "start_node", "use_existing", "wants_existing"]


def wants_existing(options: UpOptions, state: State | None) -> bool:
    """Whether somebody else's OpenSearch is to be used: named now, or named when it came up.

    The address of our own node, as other commands get it from the environment, is not that.
    """
    if options.opensearch_url:
        ours = state is not None and not state.external
        return not (
            ours and state is not None and same(state.opensearch_url, options.opensearch_url)
        )
    return state is not None and state.external and not options.own_node


def same(one: str, other: str) -> bool:
    """Whether two addresses, of OpenSearch or of the sidecar, are one, as far as they say."""

    def plain(address: str) -> str:
        scheme, separator, rest = address.rstrip("/").rpartition("//")
        return scheme + separator + rest.replace("localhost:", f"{LOOPBACK}:")

    return plain(one) == plain(other)


def use_existing(options: UpOptions, state: State | None, report: Report) -> State:
    """Somebody else's OpenSearch, once it is known to have what is needed."""
    url = (options.opensearch_url or (state.opensearch_url if state else "")).rstrip("/")
    check_existing(_probe(options, url))
    if state is not None and state.opensearch_process is not None:
        raise InvalidSettings(
            f"--opensearch-url: got {url}, but this stack runs its own OpenSearch at "
            f"{state.opensearch_url}. End it first: `neuralrank down --home {options.home}`."
        )
    report(f"OpenSearch at {url} is healthy and has the plugins")
    kept = state or State(home=options.home, opensearch_url=url)
    return replace(kept, opensearch_url=url, external=True)


def start_node(options: UpOptions, state: State | None, report: Report) -> State:
    """The stack's own node: left alone if it is what was asked for, else installed and started."""
    VERSIONS.check()
    account = node_account()
    folder = node_folder(options.home, account)
    check_data(folder)
    if state is None:
        check_space(options.home)  # before the plugin is built there
    jdk = find_jdk(usable=lambda home: can_enter(home.resolve(), account))
    downloads = options.home / "downloads"
    plugin = build_plugin(downloads, jdk, report, options.plugin_zip)
    node = Node(folder, account, jdk)
    running = state.opensearch_process if state else None
    heap = options.heap or (state.heap if state else "") or HEAP
    known = state if state is not None and not state.external else None

    had = (known.opensearch_port, known.transport_port) if known else (0, 0)
    port = pick_port(options.opensearch_port, had[0], OPENSEARCH_PORT)
    transport = pick_port(options.transport_port, had[1], 0)
    if running is None or had[0] != port:
        port = choose_port(port, "OpenSearch", "--opensearch-port")
    if running is None or had[1] != transport:
        transport = choose_port(transport, "OpenSearch's transport", "--transport-port")
    # The node is told the sidecar's address when it starts, so that is chosen now.
    sidecar = sidecar_port(options, state)
    if len({port, transport, sidecar}) < 3:
        raise InvalidSettings(
            f"Ports are {port} of OpenSearch, {transport} between nodes and {sidecar} of the "
            "sidecar; each must be another. Change --opensearch-port, --transport-port or "
            "--sidecar-port."
        )

    settings = node.settings(port, transport, f"{LOOPBACK}:{sidecar}")
    wanted = node.fingerprint(plugin, heap, settings)
    url = f"http://{LOOPBACK}:{port}"
    probe = OpenSearch(url)
    log = options.home / "logs" / "opensearch.log"
    if running is not None and running.fingerprint == wanted and state is not None:
        wait_until_ready("OpenSearch", lambda: _up(probe), running, log, options.timeout_s)
        report(f"OpenSearch at {url} is healthy (process {running.pid})")
        return replace(state, sidecar_port=sidecar)
    # Before anything is stopped: what can't be started anew goes on as it is.
    check_space(options.home)
    check_space(folder)
    if running is not None:
        report("its settings or the plugin changed: restarting OpenSearch")
        stop(running)
    if folder.parent != options.home.resolve():
        report(
            f"{options.home} can't be entered by {account.name if account else 'this account'}, "
            f"who runs OpenSearch; the node goes to {folder}"
        )
    node.install(downloads, plugin, report)
    who = f" as {account.name}, since it refuses root" if account else ""
    report(f"starting OpenSearch at {url}{who}; log: {log}")
    process = node.start(log, heap, settings, wanted)
    started = replace(
        state or State(home=options.home, opensearch_url=url),
        opensearch_url=url,
        external=False,
        node_folder=folder,
        opensearch_port=port,
        transport_port=transport,
        sidecar_port=sidecar,
        heap=heap,
        opensearch_process=process,
    )
    # Before waiting: if this is interrupted, `down` still knows the process.
    started.save()
    wait_until_ready("OpenSearch", lambda: _up(probe), process, log, options.timeout_s)
    report(f"OpenSearch is healthy (process {process.pid})")
    return started


def report_sidecars(options: UpOptions, state: State, report: Report) -> None:
    """Says what is left to do where somebody else's OpenSearch does not call our sidecar.

    It is not done here: a cluster's settings are its owner's to change.
    """
    url = state.opensearch_url
    called = sidecars_of(_probe(options, url))
    calls = f"the plugin of {url} calls {', '.join(called) or 'no sidecar'}"
    if not _on_this_machine(url):
        # The same text may mean another sidecar there: 127.0.0.1 is each node itself.
        report(
            f"note: the sidecar at {state.sidecar} is reached from this machine only, and {calls}, "
            "seen from its own nodes. For nodes on other machines start `neuralrank-sidecar` with "
            "NEURALRANK_SIDECAR_LISTEN and TLS (docs/security.md), and name its HOST:PORT in "
            "neural_rank.endpoint there"
        )
    elif state.sidecar not in called:
        report(
            f"note: {calls}, not the one at {state.sidecar}. To use this one: PUT "
            '/_cluster/settings {"persistent": {"neural_rank.endpoint": "HOST:PORT"}} there, with '
            "an address that its nodes can reach"
        )


def _on_this_machine(url: str) -> bool:
    """Whether an address is this machine's own, as far as it says."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _probe(options: UpOptions, url: str) -> OpenSearch:
    return OpenSearch(
        url,
        options.opensearch_user,
        options.opensearch_password,
        options.opensearch_verify_certs,
        options.opensearch_ca,
    )


def _up(opensearch: OpenSearch) -> bool:
    return opensearch_status(opensearch) in ("green", "yellow")
