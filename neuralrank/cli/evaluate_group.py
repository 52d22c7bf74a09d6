"""`neuralrank evaluate`: rankings by judgments, which it does unless told else, and next items."""

import typer
from typer.core import TyperGroup

from neuralrank.cli import evaluate, evaluate_personal

__all__ = ["group"]

_DEFAULT = "rankings"


class _WithDefault(TyperGroup):
    """`evaluate --index …` means `evaluate rankings --index …`, and `evaluate --help` its help."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if not args or args[0] not in self.commands:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


group = typer.Typer(
    cls=_WithDefault, help="How good rankings are, by judgments; and guesses of next items."
)
group.command(_DEFAULT)(evaluate.evaluate)
group.command("personal")(evaluate_personal.personal)
