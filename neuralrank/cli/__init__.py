"""The `neuralrank` command. Each module here is a group of subcommands.

This is the one place that may import every stage: it wires them together.
"""

import sys
from io import TextIOWrapper
from typing import NoReturn

import typer

from neuralrank.errors import NeuralrankError, Unsupported, exit_code
from neuralrank.extras import install
from neuralrank.files.full_disk import no_room, out_of_room

__all__ = ["app", "main"]

app = typer.Typer(
    name="neuralrank",
    help="Neural re-ranking for OpenSearch, for each user.",
    no_args_is_help=True,
    # Paragraphs of the docstrings stay paragraphs.
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# What the extra `train` brings and commands import when they run.
_TRAINER_NEEDS = frozenset(
    {
        "accelerate",
        "bm25s",
        "jinja2",
        "matplotlib",
        "opencc",
        "optuna",
        "peft",
        "sklearn",
        "torch",
        "transformers",
    }
)


def main() -> None:
    """Runs the command line; an expected error becomes one line on stderr and its exit code."""
    from neuralrank.cli import commands  # noqa: F401  registers the subcommands

    for stream in (sys.stdout, sys.stderr):
        # Where a terminal knows no Chinese: rather question marks than no answer at all.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        try:
            app()
        except ModuleNotFoundError as error:
            if error.name not in _TRAINER_NEEDS:
                raise
            raise Unsupported(
                f"This command needs {error.name}, which is not installed. It comes with the extra "
                f"`train`: {install('train')}, or `make setup-train` there."
            ) from error
    except NeuralrankError as error:
        _fail(error)
    except Exception as error:
        # Whoever writes where there is no room stops so, with nothing half-written in place.
        if not out_of_room(error):
            raise
        _fail(Unsupported(no_room(error)))


def _fail(error: NeuralrankError) -> NoReturn:
    print(f"neuralrank: {error}", file=sys.stderr)
    sys.exit(exit_code(error))
