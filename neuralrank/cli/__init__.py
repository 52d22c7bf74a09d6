"""The `neuralrank` command. Each module here is a group of subcommands.

This is the one place that may import every stage: it wires them together.
"""

import sys

import typer

from neuralrank.errors import NeuralrankError, exit_code

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


def main() -> None:
    """Runs the command line; an expected error becomes one line on stderr and its exit code."""
    from neuralrank.cli import commands  # noqa: F401  registers the subcommands

    try:
        app()
    except NeuralrankError as error:
        print(f"neuralrank: {error}", file=sys.stderr)
        sys.exit(exit_code(error))
