"""What a person said on the command line, beside what are defaults."""

import typer

__all__ = ["is_given"]


def is_given(context: typer.Context, name: str) -> bool:
    """Whether a person said so; a default is no such word."""
    source = context.get_parameter_source(name)
    return source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")
