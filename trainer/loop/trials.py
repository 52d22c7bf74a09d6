"""The search for better options: several trainings, chosen by what the earlier ones came to.

Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework" (2019); the sampler
is its tree-structured Parzen estimator.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import optuna

from neuralrank.errors import Diverged, InvalidInput
from neuralrank.files.full_disk import naming
from neuralrank.files.whole import write_whole
from trainer.loop.options import TrainingOptions
from trainer.loop.processes import require_one
from trainer.loop.task import Outcome
from trainer.loop.training import RESULT

__all__ = ["Found", "Trial", "fitted", "search"]

Model = TypeVar("Model")


@dataclass(frozen=True)
class Trial:
    """One training of a search. `value`: the metric at its best evaluation; None: it diverged."""

    folder: Path
    options: Mapping[str, float]
    value: float | None


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    # Of the best trial, whose folder holds its finished run.
    options: TrainingOptions
    metric: str
    best: Trial
    # All of them, in the order in which they were made.
    trials: tuple[Trial, ...]

    @property
    def chosen(self) -> dict[str, float]:
        """The options that were searched, as the best trial had them."""
        return dict(self.best.options)

    def json(self) -> dict[str, Any]:
        rows = [
            {"folder": f"trials/{one.folder.name}", **one.options, self.metric: one.value}
            for one in self.trials
        ]
        return {"chosen": self.chosen, "trials": rows}


def fitted(
    options: TrainingOptions,
    trials: int,
    fit: Callable[[TrainingOptions], tuple[Model, Outcome]],
    metric: str,
    *,
    lower_is_better: bool = False,
) -> tuple[Model, Outcome, Found | None]:
    """A training, or the best one of a search, with its model.

    Of a search, `result.json` in the run's folder is that of the best trial with what all came to.

    Args:
        trials: 0: no search, and None for what it found.

    Raises:
        as `search`, and what `fit` raises.
    """
    if not trials:
        return *fit(options), None
    found = search(
        options, trials, lambda each: fit(each)[1], metric, lower_is_better=lower_is_better
    )
    model, outcome = fit(found.options)
    best = json.loads((found.options.out / RESULT).read_text())
    write_whole(options.out / RESULT, json.dumps({**best, **found.json()}, indent=2) + "\n")
    return model, outcome, found


def search(
    options: TrainingOptions,
    trials: int,
    run: Callable[[TrainingOptions], Outcome],
    metric: str,
    *,
    lower_is_better: bool = False,
) -> Found:
    """Tries learning rates (around the one given), weight decays and warm-ups.

    The record is `trials.db` in the run's folder, each trial a run under `trials/`. Interrupted,
    the same call goes on with the trial that was being made; with more `trials` it adds to them.

    Raises:
        InvalidInput: the folder's trials are of another task, or trained otherwise; none is made.
        InvalidSettings: several processes; each would make trials of its own.
        Diverged: in every trial.
    """
    require_one("--trials", "Search with one, then train with several and what was found.")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options.out.mkdir(parents=True, exist_ok=True)
    with naming(options.out / "trials.db"):
        study = optuna.create_study(
            storage=f"sqlite:///{options.out / 'trials.db'}",
            study_name="trials",
            direction="minimize" if lower_is_better else "maximize",
            load_if_exists=True,
        )
    known = study.get_trials(deepcopy=False)
    _same_task(options, known, run)
    # Another seed for what is new: the same would try the same again.
    study.sampler = optuna.samplers.TPESampler(seed=options.seed + len(known))
    for trial in known:
        if trial.state == optuna.trial.TrialState.RUNNING:  # of a run that was interrupted
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)
    while len(_tried(study)) < trials:
        trial = study.ask()
        try:
            outcome = run(_options(options, _suggest(trial, options)))
        except Diverged:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        study.tell(trial, outcome.best[metric])
    if not study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]):
        raise Diverged(f"All {trials} trials diverged. Give a lower --learning-rate.")
    return Found(
        # Where it was made with fewer steps, it is not trained further than it was measured.
        _as_made(options, study.best_trial) or _options(options, study.best_params),
        metric,
        _trial(options, study.best_trial),
        tuple(_trial(options, trial) for trial in _tried(study)),
    )


def _trial(options: TrainingOptions, trial: Any) -> Trial:
    done = trial.state == optuna.trial.TrialState.COMPLETE
    folder = _options(options, trial.params).out
    return Trial(folder, trial.params, trial.value if done else None)


def _same_task(
    options: TrainingOptions, known: list[Any], run: Callable[[TrainingOptions], Outcome]
) -> None:
    """Values of other data, or of another measurement, can't be compared, and the best of them
    could not be gone on with. Whether it is the same, a finished trial tells that is opened again:
    with its own options, so that nothing is left to be trained."""
    for trial in known:
        if trial.state != optuna.trial.TrialState.COMPLETE:
            continue
        if (opened := _as_made(options, trial)) is None:
            continue
        try:
            run(opened)
        except InvalidInput as error:
            raise InvalidInput(f"{options.out} holds trials of something else. {error}") from error
        return


def _as_made(options: TrainingOptions, trial: Any) -> TrainingOptions | None:
    """What a trial was trained with, which another call may have had other steps for; None where
    its folder does not say it: it is deleted, or of another version."""
    out = _options(options, trial.params).out
    try:
        found = json.loads((out / "options.json").read_text())["options"]
        return TrainingOptions(**{**found, **options.fixed(), "out": out})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _tried(study: Any) -> list[Any]:
    done = [optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED]
    return list(study.get_trials(deepcopy=False, states=done))


def _suggest(trial: Any, options: TrainingOptions) -> dict[str, float]:
    rate = options.rate
    return {
        "learning_rate": trial.suggest_float("learning_rate", rate / 5, rate * 5, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 0.0, 0.1),
        "warmup": trial.suggest_float("warmup", 0.0, 0.2),
    }


def _options(options: TrainingOptions, values: dict[str, float]) -> TrainingOptions:
    name = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
    found: dict[str, Any] = {"out": options.out / "trials" / name, **values}
    return replace(options, **found)
