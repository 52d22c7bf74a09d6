"""`neuralrank train`: from feedback to a better model in service.

Each module here is one subcommand. They import `trainer`, and with it torch, inside the function
that runs: `neuralrank --help` needs neither.
"""

import typer

__all__ = ["train"]

train = typer.Typer(no_args_is_help=True)


@train.callback()
def _train() -> None:
    """Trains models from feedback and judgments. Needs the extra `train`."""


# Each registers its command.
from neuralrank.cli.train import (  # noqa: E402, F401
    compress,
    dataset,
    encoder,
    evaluate,
    personal,
    pretrain,
    pull,
    reranker,
    update,
)
