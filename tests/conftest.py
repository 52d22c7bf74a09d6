"""What all tests share: an environment of their own, and the real stack.

`stack` is a real OpenSearch node with both plugins and a real sidecar, brought up once a session
by the `neuralrank up` that users run, in a temporary home and on free ports. A stack that runs
already, such as the demo's, is neither used nor disturbed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from opensearchpy import OpenSearch

from neuralrank.bundles.registry import Registry
from neuralrank.opensearch.connection import connect
from neuralrank.settings import Settings
from neuralrank.stack.versions import CHOSEN

CHECKOUT = Path(__file__).resolve().parent.parent
# Made once: what is fetched and built, and the default models, whose content is verified by hash.
CACHE = CHECKOUT / ".neuralrank"

# No test may find the addresses of a stack that is not its own. Which OpenSearch it is to be is the
# caller's.
for _name in [name for name in os.environ if name.startswith("NEURALRANK_")]:
    if _name != CHOSEN:
        del os.environ[_name]
os.environ["NEURALRANK_HOME"] = str(Path(tempfile.gettempdir()) / "neuralrank-tests-without-stack")
# A sidecar in a test's own process shares the event loop with the test, which keeps it busy.
os.environ["NEURALRANK_SIDECAR_MAX_BUSY_PERCENT"] = "100"
# A shell has what it runs in the background ignore Ctrl-C, and so would all that tests start and
# then interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# On a busy machine any example may take long; a test that hangs has pytest's timeout.
hypothesis.settings.register_profile("neuralrank", deadline=None)
hypothesis.settings.load_profile("neuralrank")


# What every command of the tests runs with, besides its own.
ENVIRONMENT = {
    "COLUMNS": "240",
    # Eight times the default: two cores run the node, the sidecar and the tests at once, and what a
    # test looks at must not be what was left out this time.
    "NEURALRANK_SIDECAR_DEADLINE_MS": "400",
}


def neuralrank(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command as a person would; the exit code is for the test to look at."""
    return subprocess.run(
        [sys.executable, "-c", "from neuralrank.cli import main; main()", *map(str, arguments)],
        env=os.environ | ENVIRONMENT | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.fixture(scope="session")
def make_home() -> Iterator["HomeMaker"]:
    """Makes home folders for stacks; whatever runs in them is ended with the session."""
    maker = HomeMaker()
    try:
        yield maker
    finally:
        maker.close()


def default_models() -> Registry:
    """The checkout's registry, with the default models beside whatever else it holds."""
    # Loads the ONNX libraries; most tests need neither.
    from neuralrank.models import add_defaults

    CACHE.joinpath("models").mkdir(parents=True, exist_ok=True)
    registry = Registry(str(CACHE / "models"))
    known = {ref.partition("@")[0] for ref in registry.refs()}
    if not {"multilingual-e5-small", "neuralrank-small"} <= known:
        add_defaults(registry, print)
    return registry


class HomeMaker:
    """Home folders that OpenSearch's account can enter, with the shared downloads in them.

    pytest's own temporary folders are closed to others, and as root OpenSearch runs as another.
    """

    def __init__(self) -> None:
        self._homes: list[Path] = []

    def __call__(self) -> Path:
        home = Path(tempfile.mkdtemp(prefix="neuralrank-test-")).resolve()
        self._homes.append(home)
        home.chmod(0o755)
        downloads = CACHE / "downloads"
        downloads.mkdir(parents=True, exist_ok=True)
        (home / "downloads").symlink_to(downloads)
        return home

    def close(self) -> None:
        for home in self._homes:
            state = home / "stack.json"
            # Not in the home where OpenSearch's account can't enter the folder for temporary files.
            node = json.loads(state.read_text())["node_folder"] if state.is_file() else None
            neuralrank("down", "--home", home)
            for folder in (home, node):
                shutil.rmtree(folder or home, ignore_errors=True)


@pytest.fixture(scope="session")
def stack(make_home: HomeMaker) -> Settings:
    """Where the session's stack is. Its registry holds the default models."""
    home = make_home()
    registry = default_models().url
    run = neuralrank(
        *("up", "--home", home, "--heap", "512m", "--json"),
        *("--opensearch-port", "0", "--sidecar-port", "0"),
        NEURALRANK_REGISTRY=registry,
    )
    if run.returncode != 0:
        pytest.fail(f"`neuralrank up` ended with {run.returncode}:\n{run.stderr}", pytrace=False)
    state = json.loads(run.stdout)
    return Settings(
        home=home,
        opensearch_url=state["opensearch_url"],
        sidecar=state["sidecar"],
        registry=registry,
    )


@pytest.fixture(scope="session")
def opensearch(stack: Settings) -> Iterator[OpenSearch]:
    """A client of the stack's OpenSearch."""
    client = connect(stack)
    try:
        yield client
    finally:
        client.close()
