"""One cell whose problem is a LightningModule and a LightningDataModule of the user's own."""

import importlib
import inspect
import logging
import math
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.cells import reason_of
from virtualdepth_lab.ablate.matrix import Metrics, Report

FLAVOURS = ("pytorch_lightning", "lightning.pytorch")
DEFAULTS = {
    "devices": 1,  # not all there are, which other workers use too
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def fit(
    module: Any,
    data: Any,
    *,
    options: Mapping[str, Any],
    steps: int | None,
    objective: str,
    report: Report | None,
) -> Metrics:
    """Fit a module, in whichever of Lightning's import styles it is written.

    ``options`` and ``steps``, its max_steps, are the Trainer's. The metrics are every number that
    the module logged, as it was last; FloatingPointError says that the objective is not finite.
    """
    lightning = _flavour(module, data)
    _check_names(lightning, options)
    limit = {} if steps is None else {"max_steps": steps}
    check = objective_check(lightning.__name__, objective, report)
    callbacks = [*(options.get("callbacks") or []), check]
    trainer = lightning.Trainer(**{**DEFAULTS, **limit, **options, "callbacks": callbacks})
    trainer.fit(module, datamodule=data)
    return _numbers(trainer.callback_metrics)


def objective_check(package: str, objective: str, report: Report | None) -> Any:
    """Make the callback that reports after each epoch, and ends a cell that has diverged."""
    callback = importlib.import_module(package).Callback

    class ObjectiveCheck(callback):  # type: ignore[misc, valid-type]
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            found = _numbers(trainer.callback_metrics)
            value = found.get(objective, 0.0)
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{objective} is {value} after epoch {trainer.current_epoch}"
                )
            if report is not None and objective in found:
                report(trainer.current_epoch, found)

        def __reduce__(self) -> Any:  # for the processes that ddp_spawn starts
            return objective_check, (package, objective, report)

    return ObjectiveCheck()


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that a Trainer does not have or take, if Lightning is loaded to say so."""
    if options.get("num_nodes", 1) != 1:
        raise UnusableError(
            "trainer.num_nodes",
            f"expected 1, since a cell runs on one machine, but got {options['num_nodes']}",
        )
    for name in FLAVOURS:
        if name in sys.modules and options:
            _check_names(sys.modules[name], options)
            _check_values(sys.modules[name], options)


def _check_names(lightning: Any, options: Mapping[str, Any]) -> None:
    known = list(inspect.signature(lightning.Trainer.__init__).parameters)[1:]
    for name in options:
        if name not in known:
            raise UnusableError(
                f"trainer.{name}",
                f"expected arguments of Trainer, which are {', '.join(known)}, but got {name!r}",
            )


def _check_values(lightning: Any, options: Mapping[str, Any]) -> None:
    """Make a Trainer, as a cell will, and silence what it says about this machine."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lightning.Trainer(**{**DEFAULTS, **options})
    except Exception as error:  # Lightning raises many kinds
        raise UnusableError(
            "trainer",
            f"expected options that a Trainer takes on this machine but got {reason_of(error)}",
        ) from error
    finally:
        logging.disable(before)


def is_multi_device(options: Mapping[str, Any]) -> bool:
    """Return whether Lightning may start more processes for a cell."""
    return options.get("devices", 1) != 1 or "strategy" in options


def _flavour(module: Any, data: Any) -> Any:
    """Return the package that both are written in; a user of one need not have the other."""
    for name in FLAVOURS:
        package = sys.modules.get(name)
        if (
            package is not None
            and isinstance(module, package.LightningModule)
            and isinstance(data, package.LightningDataModule)
        ):
            return package
    raise UnusableError(
        "problem",
        "expected a LightningModule and a LightningDataModule of the same import style but got "
        f"{type(module).__name__} and {type(data).__name__}",
    )


def _numbers(logged: Mapping[str, Any]) -> Metrics:
    return {name: float(value) for name, value in logged.items()}
