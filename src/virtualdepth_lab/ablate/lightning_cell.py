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
from virtualdepth_lab.ablate.matrix import Metrics, Report

FLAVOURS = ("pytorch_lightning", "lightning.pytorch")
QUIET = {
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

    Args:
        module: a LightningModule.
        data: a LightningDataModule.
        options: of the Trainer; its strategies train one cell over several devices.
        steps: ``max_steps`` of the Trainer, if any.
        objective: the metric that has to stay finite.
        report: told the metrics after each epoch.

    Returns:
        Every number that the module logged, as it was last.

    Raises:
        FloatingPointError: if the objective stops being finite.
        UnusableError: if these are no module and data module, or an option is unknown.
    """
    lightning = _flavour(module, data)
    _check(lightning, options)

    limit = {} if steps is None else {"max_steps": steps}
    given = {**QUIET, **limit, **options}
    watch = watch_over(lightning.__name__, objective, report)
    given["callbacks"] = [*(options.get("callbacks") or []), watch]
    trainer = lightning.Trainer(**given)
    trainer.fit(module, datamodule=data)
    return _numbers(trainer.callback_metrics)


def watch_over(package: str, objective: str, report: Report | None) -> Any:
    """Make the callback that ends a cell whose objective is not finite.

    Args:
        package: one of the two that Lightning's Callback is in.
        objective: the metric.
        report: told the metrics after each epoch.

    Returns:
        The callback.
    """
    callback = importlib.import_module(package).Callback

    class Watch(callback):  # type: ignore[misc, valid-type]
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
            return watch_over, (package, objective, report)

    return Watch()


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that a Trainer does not have or take, if Lightning is loaded to say so.

    Args:
        options: of the Trainer.

    Raises:
        UnusableError: if one is unknown, impossible, or asks for what this machine has not.
    """
    if options.get("num_nodes", 1) != 1:
        raise UnusableError(
            "trainer.num_nodes",
            f"expected 1, since a cell runs on one machine, but got {options['num_nodes']}",
        )
    for name in FLAVOURS:
        if name in sys.modules and options:
            _check(sys.modules[name], options)
            _try(sys.modules[name], options)


def _try(lightning: Any, options: Mapping[str, Any]) -> None:
    """Make a Trainer, as a cell will, without what it says about this machine."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lightning.Trainer(**{**QUIET, **options})
    except Exception as error:  # Lightning has many kinds
        raise UnusableError(
            "trainer",
            "expected options that a Trainer takes on this machine but got "
            f"{type(error).__name__}: {' '.join(str(error).split())}",
        ) from error
    finally:
        logging.disable(before)


def spread_out(options: Mapping[str, Any]) -> bool:
    """Tell whether Lightning may start more processes for a cell.

    Args:
        options: of the Trainer.

    Returns:
        Whether they name several devices or a strategy.

    >>> spread_out({"devices": 2}), spread_out({"devices": 1}), spread_out({"max_epochs": 3})
    (True, False, False)
    """
    return options.get("devices", 1) != 1 or "strategy" in options


def _check(lightning: Any, options: Mapping[str, Any]) -> None:
    known = list(inspect.signature(lightning.Trainer.__init__).parameters)[1:]
    for name in options:
        if name not in known:
            raise UnusableError(
                f"trainer.{name}",
                f"expected arguments of Trainer, which are {', '.join(known)}, but got {name!r}",
            )


def _flavour(module: Any, data: Any) -> Any:
    """The package that both are written in; a user of one need not have the other."""
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
