"""What is given is checked against what was published, before anything is written."""

import gzip
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.data.idx_files import bars, write_mnist

from virtualdepth.data import load_ethanol, load_mnist
from virtualdepth_lab import prepare_data
from virtualdepth_lab.prepare_data import main
from virtualdepth_lab.reproduce.image_inpainting.problem import load_image


def write_batches(folder: Path, last: str = "") -> np.ndarray:
    """Ten files as UCI has them: two gases, 3 measurements of ethanol in all."""
    folder.mkdir()
    features = np.round(np.random.default_rng(0).normal(size=(3, 128)), 6)
    lines = [
        f"1;{ppm:.6f} " + " ".join(f"{place}:{value}" for place, value in enumerate(row, start=1))
        for ppm, row in zip((10.0, 20.0, 60.0), features, strict=True)
    ]
    for number in range(1, 11):
        own = lines[number - 1 : number] if number < 4 else []
        text = "\n".join([f"2;50.0 1:{number}.5", *own, last if number == 10 else ""])
        (folder / f"batch{number}.dat").write_text(text.strip() + "\n")
    return features


def test_ethanol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    features = write_batches(tmp_path / "uci")
    words = ["ethanol", str(tmp_path / "uci"), "--data-dir", str(tmp_path / "data")]
    assert main(words) == 2
    assert "expected 2565 measurements of ethanol but got 3 in " in capsys.readouterr().err
    monkeypatch.setattr(prepare_data, "ROWS", 3)
    assert main(words) == 2
    assert "a mean of 114.950292 ppm but got 30.000000 ppm" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    monkeypatch.setattr(prepare_data, "MEAN_PPM", 30.0)
    assert main(words) == 0
    found, ppm = load_ethanol(str(tmp_path / "data"))
    assert np.array_equal(found.numpy(), features)
    assert ppm.flatten().tolist() == [10.0, 20.0, 60.0]
    assert main(words) == 2
    assert "expected no ethanol/ethanol.npz there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("1;70.0 1:2.5", "expected 128 features in line 2 but got 1"),
        ("1;70.0 1:2.5 2:x", "expected numbers in line 2 but got could not convert"),
        ("1;seventy 1:2.5", "expected numbers in line 2 but got could not convert"),
    ],
)
def test_damaged_batches(
    last: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_batches(tmp_path / "uci", last)
    assert main(["ethanol", str(tmp_path / "uci"), "--data-dir", str(tmp_path / "data")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "batch10.dat" in error
    (tmp_path / "uci" / "batch10.dat").unlink()
    assert main(["ethanol", str(tmp_path / "uci"), "--data-dir", str(tmp_path / "data")]) == 2
    assert "expected a file that can be read but got No such file" in capsys.readouterr().err


def test_mnist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = write_mnist(tmp_path / "given", *bars()) / "mnist"
    words = ["mnist", str(given), "--data-dir", str(tmp_path / "data")]
    assert main(words) == 2
    assert "expected MNIST's own file, sha256 ba891046e650" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    for name in prepare_data.MNIST:
        path = next(given.glob(f"{name}*"))
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        monkeypatch.setitem(prepare_data.MNIST, name, hashlib.sha256(content).hexdigest())
    assert main(words) == 0
    first, second = load_mnist(str(tmp_path / "given")), load_mnist(str(tmp_path / "data"))
    assert all(map(lambda a, b: bool((a == b).all()), first, second))
    assert main(["mnist", str(tmp_path), "--data-dir", str(tmp_path / "data")]) == 2
    assert "expected the file train-images-idx3-ubyte or" in capsys.readouterr().err


def test_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import PIL.Image

    grey = np.random.default_rng(0).integers(0, 256, (512, 512), dtype=np.uint8)
    PIL.Image.fromarray(grey).save(tmp_path / "mine.png")
    words = ["image", str(tmp_path / "mine.png"), "--data-dir", str(tmp_path / "data")]
    assert main(words) == 2
    assert "expected the grey values of camera.png, sha256 5cb24482a534" in capsys.readouterr().err
    monkeypatch.setattr(prepare_data, "CAMERA", hashlib.sha256(grey.tobytes()).hexdigest())
    assert main([*words[:-1], str(tmp_path / "mine.png")]) == 2
    assert "data_dir: expected a folder that can be written to" in capsys.readouterr().err
    assert main(words) == 0
    found = load_image(str(tmp_path / "data"), 512).numpy()
    assert np.array_equal(np.round(255 * found), grey)
    (tmp_path / "text.png").write_text("no picture")
    assert main(["image", str(tmp_path / "text.png"), "--data-dir", str(tmp_path / "data")]) == 2
    assert "expected a PNG of 512 x 512 grey pixels" in capsys.readouterr().err


def full_disk(path: Path) -> None:
    """Write the first bytes and fail."""
    path.write_bytes(b"ha")
    raise OSError(28, "No space left on device")


def test_what_is_interrupted_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next call then writes all, as none of the files is there."""
    write_batches(tmp_path / "uci")
    given = write_mnist(tmp_path / "given", *bars()) / "mnist"
    data = tmp_path / "data"
    monkeypatch.setattr(prepare_data, "ROWS", 3)
    monkeypatch.setattr(prepare_data, "MEAN_PPM", 30.0)
    monkeypatch.setattr(prepare_data, "_check", lambda *_: None)
    calls = {"ethanol": tmp_path / "uci", "mnist": given}

    copied = []

    def copy_one(source: Path, target: Path) -> None:
        if copied:
            full_disk(target)
        copied.append(target.write_bytes(source.read_bytes()))

    with monkeypatch.context() as disk:
        disk.setattr(shutil, "copyfile", copy_one)
        disk.setattr(np, "savez_compressed", lambda file, **_: full_disk(Path(file.name)))
        for what, source in calls.items():
            assert main([what, str(source), "--data-dir", str(data)]) == 2
            assert "No space left on device" in capsys.readouterr().err
    assert copied
    assert [path for path in data.rglob("*") if path.is_file()] == []
    for what, source in calls.items():
        assert main([what, str(source), "--data-dir", str(data)]) == 0
    assert len(load_ethanol(str(data))[0]) == 3
