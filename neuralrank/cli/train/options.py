"""The flags that every training has.

A command says `training: TrainingOptions` in its signature and is decorated with
`training_flags(…)`; the flags then come after its own:

    @train.command()
    @training_flags(batch_size=64)
    def reranker(dataset: …, training: "TrainingOptions") -> None: ...
"""

import functools
import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from neuralrank.cli.interruption import interruptible

__all__ = ["DatasetFolder", "OnlyItemsOf", "Publish", "Trials", "training_flags"]

DatasetFolder = Annotated[
    Path, typer.Argument(metavar="DATASET", help="A folder of `neuralrank train dataset`.")
]
OnlyItemsOf = Annotated[
    str,
    typer.Option(
        "--index",
        "-i",
        metavar="NAME",
        help="Leave out events on items that this index or alias does not hold.",
    ),
]
Trials = Annotated[
    int, typer.Option(min=0, help="Search the options with so many trainings. 0: do not.")
]
Publish = Annotated[
    bool,
    typer.Option(
        "--publish/--no-publish", help="Whether to publish it as a candidate, or only make it."
    ),
]


def _flag(help: str, **limits: Any) -> Any:
    return typer.Option(help=help, rich_help_panel="Training", **limits)


# Name, type with its help, and default; names are those of `trainer.loop.TrainingOptions`.
_FLAGS: Final[dict[str, tuple[Any, Any]]] = {
    "out": (
        Annotated[
            Path,
            typer.Option(
                metavar="FOLDER",
                help="The run's folder: checkpoints, logs, result.json. The same command again "
                "goes on where it stopped.",
                rich_help_panel="Training",
            ),
        ],
        inspect.Parameter.empty,
    ),
    "epochs": (
        Annotated[
            float, _flag("How often every example is seen. 0: what suits what is trained.", min=0)
        ],
        3.0,
    ),
    "steps": (
        Annotated[int, _flag("Optimiser steps. 0: as many as --epochs takes.", min=0)],
        0,
    ),
    "batch_size": (
        Annotated[int, _flag("Examples in a batch, over all processes together.", min=1)],
        32,
    ),
    "accumulate": (Annotated[int, _flag("Batches that make one step.", min=1)], 1),
    "learning_rate": (
        Annotated[
            float,
            _flag("The highest; it rises first and falls to 0. 0: what suits --method.", min=0),
        ],
        0.0,
    ),
    "weight_decay": (Annotated[float, _flag("Of AdamW.", min=0)], 0.01),
    "warmup": (Annotated[float, _flag("Share of the steps in which the rate rises.", min=0)], 0.1),
    "clip": (Annotated[float, _flag("The longest gradient. 0: any.", min=0)], 1.0),
    "method": (
        Annotated[str, _flag("full, or small weights only: lora, adalora, prefix, adapters.")],
        "full",
    ),
    "precision": (
        Annotated[str, _flag("auto (half where a GPU has it), fp32, bf16 or fp16.")],
        "auto",
    ),
    "patience": (
        Annotated[int, _flag("Stop after so many evaluations without gain. 0: do not.", min=0)],
        3,
    ),
    "seed": (Annotated[int, _flag("Of everything random.", min=0)], 0),
    "track": (
        Annotated[
            str,
            _flag("tensorboard, wandb (WANDB_MODE=offline works) or none; into FOLDER/logs."),
        ],
        "tensorboard",
    ),
    "every_steps": (
        Annotated[
            int, _flag("Steps between evaluations, each with a checkpoint. 0: 10 a run.", min=0)
        ],
        0,
    ),
    "keep": (Annotated[int, _flag("Checkpoints that stay, besides the best.", min=1)], 2),
    "max_length": (
        Annotated[int, _flag("Cut inputs at so many tokens. 0: the model's own limit.", min=0)],
        0,
    ),
}


def training_flags(
    *, without: Collection[str] = (), **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the flags of every training, and their values as `training`.

    An interrupted training ends with a sentence and exit code 130.

    Args:
        without: names of flags that would change nothing here.
        defaults: other defaults than those of `TrainingOptions`, by name.
    """
    unknown = {*defaults, *without} - set(_FLAGS)
    if unknown:
        raise TypeError(f"no flags of a training: {sorted(unknown)}")
    flags = {name: flag for name, flag in _FLAGS.items() if name not in without}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            from trainer.loop import TrainingOptions

            training = TrainingOptions(**{name: given.pop(name) for name in flags})
            # Outside of a training's steps an interruption comes without words.
            with interruptible("The same command goes on."):
                command(**given, training=training)

        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(command).parameters.values()
            if parameter.name != "training"
        ]
        shared = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(name, default),
                annotation=annotation,
            )
            for name, (annotation, default) in flags.items()
        ]
        run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
        del run.__wrapped__
        return run

    return decorate
