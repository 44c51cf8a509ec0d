"""The data: what they are, and what is said when they are not there."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from virtualdepth.data import Problem, load_problem
from virtualdepth.runs import UnusableError

DATA = os.environ.get("VIRTUALDEPTH_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="VIRTUALDEPTH_DATA is not set")


def least_loss(problem: Problem) -> float:
    """The smallest mean over samples of ||W x - y||^2 / 2, by numpy's least squares."""
    inputs, targets = problem.inputs.numpy(), problem.targets.numpy()
    solution = np.linalg.lstsq(inputs, targets)[0]
    return float(((inputs @ solution - targets) ** 2).sum() / 2 / len(inputs))


def least_loss_of(features: np.ndarray, targets: np.ndarray) -> float:
    """The same of raw features, an intercept among them."""
    design = np.column_stack([features, np.ones(len(features))])
    solution = np.linalg.lstsq(design, targets)[0]
    return float(((design @ solution - targets) ** 2).sum() / 2 / len(features))


def test_digits() -> None:
    problem = load_problem("digits")
    assert str(problem) == "digits: 1797 samples, 64 features of rank 61, 10 targets"
    assert problem.inputs.dtype == problem.targets.dtype == torch.float64
    pixels, labels = load_digits(return_X_y=True)
    assert (problem.targets.argmax(1).numpy() == labels).all()
    assert problem.targets.mean(0).abs().max() < 1e-14
    one_hot = np.eye(10)[labels]
    np.testing.assert_allclose(problem.targets.numpy(), one_hot - one_hot.mean(0), atol=1e-14)
    # centred and whitened features fit exactly what raw ones with an intercept do
    np.testing.assert_allclose(least_loss(problem), least_loss_of(pixels, one_hot), rtol=1e-10)


@needs_data
def test_ethanol() -> None:
    problem = load_problem("ethanol", data_dir=DATA)
    assert str(problem) == "ethanol: 2565 samples, 128 features of rank 128, 1 targets"
    np.testing.assert_allclose(problem.targets.numpy().std(ddof=0), 1, rtol=1e-12)
    # the published optimum of the standardised problem; whitening does not move it
    np.testing.assert_allclose(least_loss(problem), 0.0499931, rtol=2e-6)


@needs_data
def test_ethanol_folder_from_the_environment() -> None:
    assert torch.equal(
        load_problem("ethanol").inputs, load_problem("ethanol", data_dir=DATA).inputs
    )


def test_synthetic_depends_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, again = load_problem("synthetic", seed=3), load_problem("synthetic", seed=3)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.targets, load_problem("synthetic", seed=4).targets)
    assert torch.equal(torch.get_rng_state(), state)
    # noise of a tenth beside a signal of about one: most can be learned, not all
    assert 0.001 < least_loss(first) / 2 < 0.1


def test_csv(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(30, 4))
    path = tmp_path / "own.csv"
    np.savetxt(path, values, delimiter=",", header="a,b,y,c", comments="")
    problem = load_problem(str(path), targets=["y"])
    assert str(problem) == f"{path}: 30 samples, 3 features of rank 3, 1 targets"
    target = (values[:, 2] - values[:, 2].mean()) / values[:, 2].std()
    np.testing.assert_allclose(problem.targets[:, 0].numpy(), target, atol=1e-12)
    np.testing.assert_allclose(
        least_loss(problem), least_loss_of(values[:, [0, 1, 3]], target[:, None]), rtol=1e-10
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": "digit"}, "^data: expected digits, ethanol, synthetic or the path of a CSV file "
         "but got 'digit', which does not exist$"),
        ({"data": "digits", "targets": ["y"]}, "^targets: expected none with digits but got y"),
        ({"data": "ethanol"}, "^data_dir: expected the folder that holds ethanol/ethanol.npz but "
         "got none; name it, or set VIRTUALDEPTH_DATA$"),
        ({"data": "ethanol", "data_dir": "nowhere"}, "^data_dir: expected a folder with the file "
         "ethanol/ethanol.npz .* but got no such file in nowhere; put it there by "
         r"python -m virtualdepth_lab\.prepare_data$"),
    ],
)  # fmt: skip
def test_refuses(
    arguments: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VIRTUALDEPTH_DATA", raising=False)
    with pytest.raises(UnusableError, match=message):
        load_problem(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 broken"])
def test_refuses_a_broken_archive(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "ethanol").mkdir()
    (tmp_path / "ethanol" / "ethanol.npz").write_bytes(content)
    with pytest.raises(UnusableError, match=r"^data_dir: expected an npz archive of X") as caught:
        load_problem("ethanol", data_dir=str(tmp_path))
    assert "\n" not in str(caught.value)


def test_refuses_an_archive_of_other_arrays(tmp_path: Path) -> None:
    (tmp_path / "ethanol").mkdir()
    np.savez(tmp_path / "ethanol" / "ethanol.npz", Z=np.ones(3))
    with pytest.raises(UnusableError, match=r"^data_dir: expected an npz archive of X"):
        load_problem("ethanol", data_dir=str(tmp_path))


def test_refuses_a_single_sample(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("a,y\n1,2\n")
    with pytest.raises(UnusableError, match=r"^data: expected at least 2 samples but got 1$"):
        load_problem(str(path), targets=["y"])
