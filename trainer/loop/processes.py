"""The processes and the hardware of a training: one process, or several by `torchrun` or
`accelerate launch`."""

import os

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, PartialState

from neuralrank.errors import InvalidSettings, Unsupported
from trainer.loop.options import TrainingOptions

__all__ = ["accelerator_for", "processes", "require_one"]


def require_one(what: str, instead: str) -> None:
    """Sees that nobody started several processes for what one does.

    Raises:
        InvalidSettings: somebody did.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        raise InvalidSettings(f"{what} runs in one process, and {count} were started. {instead}")


def processes() -> PartialState:
    """This process among the others: `is_main_process`, `main_process_first()`."""
    return PartialState(cpu=not torch.accelerator.is_available())


def accelerator_for(options: TrainingOptions, *, all_weights_used: bool) -> Accelerator:
    """What places and synchronises the model; several processes see each other after this.

    Args:
        all_weights_used: see `Task`.

    Raises:
        Unsupported: this hardware can't compute in the precision that was asked for.
        InvalidSettings: the processes can't share a batch evenly.
    """
    # Its state outlives a training, and would keep the precision of the one before.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=_precision(options.precision),
        cpu=not torch.accelerator.is_available(),
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=not all_weights_used)
        ],
    )
    count = accelerator.num_processes
    if options.batch_size % count:
        raise InvalidSettings(
            f"--batch-size is {options.batch_size} with {count} processes; it is the batch of all "
            f"of them together and must be a multiple of {count}, so that each has the "
            "same share and the mean is that of one process."
        )
    return accelerator


def _precision(asked: str) -> str:
    """In the words of accelerate."""
    cuda = torch.cuda.is_available()
    if asked == "auto":
        if not cuda:
            return "no"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if asked == "fp16" and not cuda:
        raise Unsupported("--precision fp16 needs an NVIDIA GPU. Allowed here: auto, fp32, bf16.")
    return "no" if asked == "fp32" else asked
