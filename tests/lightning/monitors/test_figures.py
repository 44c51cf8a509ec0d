"""Figures in each logger, read back from what it left on disk; nothing reaches a network."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.lightning.conftest import FLAVOURS, IN_FEATURES, OUT_FEATURES, Flavour
from torch import Tensor

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]

# of MLflow's, when it makes its database
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

FIGURES = {
    "spectrum/single",
    "spectrum/deep",
    "effective_rank",
    "balance/deep",
    "alignment/single",
    "alignment/deep",
    "dynamics/single",
    "dynamics/deep",
    "equivalence/gap",
}
SCALARS = {
    "spectrum/single/sigma_1",
    "spectrum/deep/effective_rank",
    "spectrum/deep/nuclear_norm",
    "balance/deep/pair_1",
    "balance/deep/relative_2",
    "alignment/single/diagonal",
    "alignment/deep/off_diagonal",
    "dynamics/single/relative_error",
    "dynamics/deep/sigma_1",
    "dynamics/deep/theory_1",
    "equivalence/gap",
    "descent/deep/violations",
}


def monitors(vd: Any, **options: Any) -> list[Any]:
    return [
        vd.SpectrumMonitor(interval=2, **options),
        vd.BalancednessMonitor(interval=2, **options),
        vd.AlignmentMonitor(interval=2, **options),
        vd.DynamicsMonitor(interval=2, **options),
        vd.GapMonitor(interval=2, **options),
        vd.LossDescentMonitor("deep", loss="loss_deep", interval=2),
    ]


def fit(flavour: Flavour, trainer: Make, data: Data, logger: Any, **options: Any) -> Any:
    vd = flavour.vd
    module = vd.EquivalenceModule(IN_FEATURES, OUT_FEATURES, 3, 0.1).double()
    callbacks = monitors(vd, **options)
    run = trainer(max_epochs=4, logger=logger, log_every_n_steps=1, callbacks=callbacks)
    run.fit(module, datamodule=vd.TensorDataModule(*data))
    return run


@dataclass(frozen=True)
class Everywhere:
    """One run with all loggers, and where each of them wrote."""

    board: Any
    wandb: Path
    mlflow: Any
    artifacts: Path
    table: Any


@pytest.fixture(scope="module", params=FLAVOURS, ids=lambda flavour: flavour.package)
def everywhere(
    request: pytest.FixtureRequest, data: Data, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Everywhere]:
    import wandb

    flavour: Flavour = request.param
    folder = tmp_path_factory.mktemp("everywhere")
    loggers = flavour.submodule("loggers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        for variable in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
            patch.setenv(variable, str(folder / "home"))
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        # a store of each kind, one for each flavour
        in_files = flavour.package == "pytorch_lightning"
        store = (folder / "store").as_uri() if in_files else f"sqlite:///{folder}/mlflow.db"
        artifacts = folder / "artifacts"
        board, table = loggers.TensorBoardLogger(folder / "b"), loggers.CSVLogger(folder / "t")
        online = loggers.WandbLogger(save_dir=folder, offline=True)
        mlflow = loggers.MLFlowLogger(
            "depth", tracking_uri=store, artifact_location=artifacts.as_uri()
        )
        make = partial(
            flavour.pl.Trainer,
            accelerator="cpu",
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        fit(flavour, make, data, [board, online, mlflow, table])
        online.experiment.finish()
        yield Everywhere(board, folder / "wandb", mlflow, artifacts, table)
        wandb.teardown()


def png_names(folder: Path) -> set[str]:
    return {str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.png")}


def assert_shows_something(file: Path) -> None:
    image = matplotlib.image.imread(file)
    assert image.shape[0] > 300
    colours = (image * 255).astype(np.uint32) @ np.array([1, 256, 65536, 0], dtype=np.uint32)
    assert len(np.unique(colours)) > 20


def test_tensorboard(everywhere: Everywhere) -> None:
    events = EventAccumulator(everywhere.board.log_dir)
    events.Reload()
    assert set(events.Tags()["images"]) == FIGURES
    assert set(events.Tags()["scalars"]) >= SCALARS
    (image,) = events.Images("spectrum/deep")
    assert image.step == 4
    assert (image.width, image.height) == (768, 480)
    assert [scalar.step for scalar in events.Scalars("spectrum/deep/sigma_1")] == [0, 2, 4]
    assert not list(Path(everywhere.board.save_dir).rglob("*.png"))


def test_weights_and_biases(everywhere: Everywhere) -> None:
    (media,) = everywhere.wandb.glob("offline-run-*/files/media/images")
    files = {file.relative_to(media): file for file in media.rglob("*.png")}
    # wandb appends _<step>_<hash>
    assert {str(name).rsplit("_", 2)[0] for name in files} == FIGURES
    for file in files.values():
        assert_shows_something(file)
    (record,) = everywhere.wandb.glob("offline-run-*/run-*.wandb")
    written = record.read_bytes()
    for name in SCALARS:
        assert name.encode() in written


def test_mlflow(everywhere: Everywhere) -> None:
    logger = everywhere.mlflow
    figures = everywhere.artifacts / logger.run_id / "artifacts" / "figures"
    assert png_names(figures) == FIGURES
    for file in figures.rglob("*.png"):
        assert_shows_something(file)
    history = logger.experiment.get_metric_history(logger.run_id, "spectrum/deep/sigma_1")
    assert [metric.step for metric in history] == [0, 2, 4]
    assert set(logger.experiment.get_run(logger.run_id).data.metrics) >= SCALARS


def test_csv_gets_png_files(everywhere: Everywhere) -> None:
    folder = Path(everywhere.table.log_dir)
    assert png_names(folder / "figures") == FIGURES
    for file in folder.rglob("*.png"):
        assert_shows_something(file)
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) >= SCALARS
    steps = [int(row["step"]) for row in rows if row["spectrum/deep/sigma_1"]]
    assert steps == [0, 2, 4]


def test_two_monitors_keep_both_of_their_figures(
    flavour: Flavour, trainer: Make, data: Data, tmp_path: Path
) -> None:
    """Each draws one figure of the effective ranks of its own layers."""
    vd = flavour.vd
    monitors = [vd.SpectrumMonitor(layers, interval=2) for layers in ("single", "deep")]
    for run in ("first", "again"):
        logger = flavour.submodule("loggers").CSVLogger(tmp_path, name=run)
        module = vd.EquivalenceModule(IN_FEATURES, OUT_FEATURES, 3, 0.1).double()
        fitting = trainer(max_epochs=2, logger=logger, log_every_n_steps=1, callbacks=monitors)
        fitting.fit(module, datamodule=vd.TensorDataModule(*data))
        folder = Path(logger.log_dir) / "figures"
        ranks = ["effective_rank", "effective_rank_2"]
        assert png_names(folder) == {"spectrum/single", "spectrum/deep", *ranks}
        for name, monitor in zip(ranks, monitors, strict=True):
            monitor.figures()["effective_rank"].savefig(tmp_path / "expected.png")
            expected = matplotlib.image.imread(tmp_path / "expected.png")
            assert np.array_equal(matplotlib.image.imread(folder / f"{name}.png"), expected)


@pytest.mark.parametrize(("logger", "options"), [(False, {}), (True, {"figure": False})])
def test_no_figure_without_logger_or_without_wish(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    tmp_path: Path,
    logger: bool,
    options: dict[str, Any],
) -> None:
    target = flavour.submodule("loggers").CSVLogger(tmp_path) if logger else False
    run = fit(flavour, trainer, data, target, **options)
    assert not list(tmp_path.rglob("*.png"))
    names = {name for monitor in run.callbacks if monitor.series for name in names_of(monitor)}
    assert names == FIGURES


def names_of(monitor: Any) -> set[str]:
    figures = getattr(monitor, "figures", dict)()
    assert all(isinstance(figure, Figure) for figure in figures.values())
    return set(figures)


def test_log_figure_by_hand(flavour: Flavour, trainer: Make, tmp_path: Path) -> None:
    figure = Figure()
    figure.subplots().plot([1, 2])
    assert flavour.vd.log_figure(trainer(), "mine/line", figure) == [
        tmp_path / "figures" / "mine" / "line.png"
    ]
    logger = flavour.submodule("loggers").CSVLogger(tmp_path, name="run")
    (file,) = flavour.vd.log_figure(trainer(logger=logger), "mine/line", figure)
    assert file == Path(logger.log_dir) / "figures" / "mine" / "line.png"
    assert_shows_something(file)


def test_a_file_of_another_origin_stays(
    flavour: Flavour, trainer: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Even of an earlier run; a run replaces its own."""
    figures = tmp_path / "figures"
    figures.mkdir()
    (figures / "line.png").write_text("mine")
    figure = Figure()
    for number in (2, 3):
        run = trainer()
        for _ in range(2):
            assert flavour.vd.log_figure(run, "line", figure) == [figures / f"line.{number}.png"]
    assert {file.name for file in figures.iterdir()} == {"line.png", "line.2.png", "line.3.png"}
    assert (figures / "line.png").read_text() == "mine"
    assert "figure 'line': its file is not of this run; it is written to" in caplog.text


def test_a_figure_is_whole_or_as_before(
    flavour: Flavour, trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer()
    (file,) = flavour.vd.log_figure(run, "line", Figure())
    before = file.read_bytes()

    def fail(path: Path, content: bytes) -> None:
        with path.open("wb") as part:
            part.write(content[:100])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="no space"):
        flavour.vd.log_figure(run, "line", Figure())
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_a_log_directory_may_be_a_url(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    place = f"memory://{flavour.package}"
    fit(flavour, trainer, data, flavour.submodule("loggers").CSVLogger(place, version=0))
    found = MemoryFileSystem().find(f"/{flavour.package}")
    figures = f"/{flavour.package}/lightning_logs/version_0/figures"
    assert {file for file in found if file.endswith("png")} == {
        f"{figures}/{name}.png" for name in FIGURES
    }
    assert not list(tmp_path.iterdir())
    run = trainer(default_root_dir=place)
    assert flavour.vd.log_figure(run, "line", Figure()) == []
    assert MemoryFileSystem().exists(f"/{flavour.package}/figures/line.png")


def test_a_log_directory_with_odd_characters(
    flavour: Flavour, trainer: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "a::b #1"
    (file,) = flavour.vd.log_figure(trainer(default_root_dir=folder), "line", Figure())
    assert file == folder / "figures" / "line.png"
    assert file.exists()


def test_missing_matplotlib_is_told_at_setup(
    flavour: Flavour, trainer: Make, data: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = "virtualdepth._lightning.monitors._interval_monitor.find_spec"
    monkeypatch.setattr(module, lambda name: None)
    logger = flavour.submodule("loggers").CSVLogger(tmp_path)
    with pytest.raises(ImportError, match=r"pip install 'virtualdepth\[plots\]', or pass figure"):
        fit(flavour, trainer, data, logger)
    fit(flavour, trainer, data, logger, figure=False)
    fit(flavour, trainer, data, False)
