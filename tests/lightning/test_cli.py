"""LightningCLI builds module and data from a YAML file, trains, and leaves a usable checkpoint."""

import csv
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.lightning.conftest import Flavour

import virtualdepth.lightning
import virtualdepth.lightning_unified


def regression(samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(samples, 4, generator=generator)
    return inputs, inputs @ torch.randn(4, 2, generator=generator)


# As a user would write them: the arguments are what the YAML file sets.
class Regression(virtualdepth.lightning.TensorDataModule):
    def __init__(self, samples: int, batch_size: int | None = None, seed: int = 0) -> None:
        super().__init__(*regression(samples), batch_size=batch_size, seed=seed)


class UnifiedRegression(virtualdepth.lightning_unified.TensorDataModule):
    def __init__(self, samples: int, batch_size: int | None = None, seed: int = 0) -> None:
        super().__init__(*regression(samples), batch_size=batch_size, seed=seed)


DATA = {"pytorch_lightning": Regression, "lightning.pytorch": UnifiedRegression}
MODEL = {
    "in_features": 4,
    "out_features": 2,
    "depth": 3,
    "lr": 0.05,
    "optimizer_depth": 2.5,
    "loss": "lp",
    "p": 4,
    "hidden_features": [3, 2],
}


def config_of(flavour: Flavour, tmp_path: Path, model: dict[str, Any], data: dict[str, Any]) -> str:
    config = {
        "seed_everything": False,
        "trainer": {
            "accelerator": "cpu",
            "default_root_dir": str(tmp_path),
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "gradient_clip_val": 1.0,
            "log_every_n_steps": 1,
            "max_epochs": 3,
            "logger": {
                "class_path": f"{flavour.package}.loggers.CSVLogger",
                "init_args": {"save_dir": str(tmp_path)},
            },
        },
        "model": model,
        "data": data,
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


@pytest.fixture(autouse=True)
def quiet_cli(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])  # the CLI warns of arguments in both places
    # Lightning 2.6 calls a method of the parser that newer versions of jsonargparse deprecate
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")


def check(flavour: Flavour, cli: Any, tmp_path: Path) -> None:
    assert type(cli.model) is flavour.vd.EquivalenceModule
    assert cli.trainer.global_step == 3 * 3  # 20 samples by batches of 8
    assert 0 < cli.model.largest_gap < 1
    with (Path(cli.trainer.log_dir) / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 9
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    loaded = flavour.vd.EquivalenceModule.load_from_checkpoint(checkpoint)
    assert {name: loaded.hparams[name] for name in MODEL} == MODEL
    assert torch.equal(loaded.single.weight, cli.model.single.weight)


def test_classes_in_the_script(flavour: Flavour, tmp_path: Path) -> None:
    config = config_of(flavour, tmp_path, MODEL, {"samples": 20, "batch_size": 8, "seed": 1})
    cli = flavour.submodule("cli").LightningCLI(
        flavour.vd.EquivalenceModule, DATA[flavour.package], args=["fit", "--config", config]
    )
    check(flavour, cli, tmp_path)


def test_classes_in_the_file(flavour: Flavour, tmp_path: Path) -> None:
    data = DATA[flavour.package]
    config = config_of(
        flavour,
        tmp_path,
        {"class_path": f"{flavour.ours}.EquivalenceModule", "init_args": MODEL},
        {
            "class_path": f"{data.__module__}.{data.__name__}",
            "init_args": {"samples": 20, "batch_size": 8},
        },
    )
    cli = flavour.submodule("cli").LightningCLI(
        flavour.pl.LightningModule,
        flavour.pl.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        args=["fit", "--config", config],
    )
    check(flavour, cli, tmp_path)


def test_infinite_depth_in_a_file(flavour: Flavour, tmp_path: Path) -> None:
    model = {**MODEL, "optimizer_depth": math.inf, "hidden_features": 2}
    config = config_of(flavour, tmp_path, model, {"samples": 20})
    cli = flavour.submodule("cli").LightningCLI(
        flavour.vd.EquivalenceModule, DATA[flavour.package], run=False, args=["--config", config]
    )
    assert cli.model.configure_optimizers().param_groups[0]["depth"] == math.inf


def with_callback(config: str, name: str, **arguments: Any) -> str:
    """Add a callback to a configuration file."""
    content = yaml.safe_load(Path(config).read_text())
    content["trainer"]["callbacks"] = [{"class_path": name, "init_args": arguments}]
    Path(config).write_text(yaml.safe_dump(content))
    return config


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("VirtualDepth", {"depth": 2.5, "include": "head*", "on": "update", "solver": "svd"}),
        ("VirtualDepth", {"depth": math.inf, "include": ["a", "b"], "step_scale": "unit"}),
        ("SpectrumMonitor", {"layers": ["single", "deep"], "interval": 3}),
        ("LossDescentMonitor", {"layer": "deep", "loss": "loss_deep"}),
    ],
)
def test_callback_in_a_file(
    flavour: Flavour, tmp_path: Path, name: str, arguments: dict[str, Any]
) -> None:
    config = config_of(flavour, tmp_path, MODEL, {"samples": 20})
    config = with_callback(config, f"{flavour.ours}.{name}", **arguments)
    cli = flavour.submodule("cli").LightningCLI(
        flavour.vd.EquivalenceModule, DATA[flavour.package], run=False, args=["--config", config]
    )
    (callback,) = [c for c in cli.trainer.callbacks if type(c) is getattr(flavour.vd, name)]
    renamed = {"layers" if key == "layer" else key: value for key, value in arguments.items()}
    assert {key: getattr(callback, key) for key in renamed} == renamed


def test_help_shows_the_docstring(
    flavour: Flavour, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    name = f"{flavour.ours}.SpectrumMonitor"
    with pytest.raises(SystemExit) as stop:
        flavour.submodule("cli").LightningCLI(
            flavour.vd.EquivalenceModule,
            DATA[flavour.package],
            args=["fit", f"--trainer.callbacks.help={name}"],
        )
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "Log the largest singular values" in shown
    assert "optimizer steps between two records" in shown


@pytest.mark.parametrize("option", ["on", "step_scale", "solver"])
def test_wrong_option_of_the_callback_in_a_file(
    flavour: Flavour, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    config = config_of(flavour, tmp_path, MODEL, {"samples": 20})
    config = with_callback(config, f"{flavour.ours}.VirtualDepth", depth=3, **{option: "wrong"})
    with pytest.raises(SystemExit) as stop:
        flavour.submodule("cli").LightningCLI(
            flavour.vd.EquivalenceModule, DATA[flavour.package], args=["fit", "--config", config]
        )
    assert stop.value.code == 2
    assert "wrong" in capsys.readouterr().err


def test_wrong_value_in_a_file(
    flavour: Flavour, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(flavour, tmp_path, {**MODEL, "depth": 2.5}, {"samples": 20})
    with pytest.raises(SystemExit) as stop:
        flavour.submodule("cli").LightningCLI(
            flavour.vd.EquivalenceModule, DATA[flavour.package], args=["fit", "--config", config]
        )
    assert stop.value.code == 2
    assert "model.depth" in capsys.readouterr().err
