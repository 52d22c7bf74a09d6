"""The one training loop of every model, and what goes with it.

TrainingOptions   what every training can be told
Task              what is trained: model, examples, batch, loss, evaluate
train             trains it, or goes on; gives an Outcome

def train_something(options: TrainingOptions) -> Outcome:
    task = Task(
        identity={"data": "…"}, model=model, examples=len(data),
        batch=lambda rows, random: tensors_of(data, rows),
        loss=lambda model, batch: mse_loss(model(batch["x"]), batch["y"]),
        evaluate=lambda model: {"nDCG@10": …}, metric="nDCG@10",
    )
    return train(task, options)
"""

from trainer.loop.options import Method, TrainingOptions
from trainer.loop.processes import processes
from trainer.loop.task import Outcome, Rows, Stateful, Task
from trainer.loop.training import train

__all__ = ["Method", "Outcome", "Rows", "Stateful", "Task", "TrainingOptions", "processes", "train"]
