"""Loggers that offer little, or fail: figures become files."""

from pathlib import Path
from typing import Any

import pytest
from tests.lightning.conftest import Flavour
from tests.lightning.monitors.models import around, deep
from tests.lightning.monitors.unusual import Data, Make


def minimal_logger(flavour: Flavour, **extra: Any) -> Any:
    base = flavour.submodule("loggers").Logger
    body = {
        "name": "minimal",
        "version": "0",
        "log_metrics": lambda self, metrics, step=None: None,
        "log_hyperparams": lambda self, *args, **kwargs: None,
    }
    return type("Minimal", (base,), {**body, **extra})()


def failing(*args: Any, **kwargs: Any) -> None:
    raise OSError("the server is gone")


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"experiment": None},
        {"save_dir": None, "log_dir": None},
        {"log_image": failing},
        {"experiment": property(failing)},
        {"log_metrics": failing},
    ],
    ids=lambda extra: ", ".join(extra) or "no more than is needed",
)
@pytest.mark.filterwarnings("ignore:.*You called `self.log:UserWarning")
def test_a_minimal_logger_gets_its_figures_as_files(
    flavour: Flavour, trainer: Make, data: Data, tmp_path: Path, extra: dict[str, Any]
) -> None:
    monitor = flavour.vd.SpectrumMonitor(interval=2)
    logger = minimal_logger(flavour, **extra)
    run = trainer(max_epochs=2, callbacks=[monitor], logger=logger, log_every_n_steps=1)
    if isinstance(extra.get("experiment"), property):  # Lightning itself asks for it at setup
        run._loggers = [logger]
        type(logger).experiment = None
    run.fit(around(flavour, deep()), datamodule=flavour.vd.TensorDataModule(*data))
    names = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.png")}
    assert names == {"figures/spectrum/net.png", "figures/effective_rank.png"}
    assert monitor.series["net"]["step"] == [0, 2]
