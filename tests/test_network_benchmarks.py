"""The studies of trained networks: their parts against formulas, and each in its quick form."""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")


@pytest.fixture(autouse=True)
def _as_scripts() -> Iterator[None]:
    """Import the scripts as they import each other, and leave no trace of it."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(BENCHMARKS):
            del sys.modules[name]


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2),
        nn.Conv2d(6, 8, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Sequential(nn.Linear(32, 10), nn.ReLU()),
        nn.Linear(10, 3),
    )


def small(name: str = "rank_problems") -> Any:
    """A problem of 24 random images of 5 x 5 pixels."""
    problems = import_module(name)
    torch.manual_seed(0)
    data = torch.randn(24, 1, 5, 5), torch.randint(3, (24,))
    accuracy = import_module("networks_common").accuracy
    parts = [data, data, data]
    return problems.Problem(convolutional, lambda folder: parts, accuracy, "%", 6, 1, 24)


def test_pairs_multiply_out_to_the_same_function() -> None:
    training = import_module("rank_training")
    torch.manual_seed(0)
    pairs = training.paired(convolutional()).double()
    images = torch.randn(7, 1, 5, 5, dtype=torch.float64)
    expected = pairs(images)
    plain = training.merged(pairs, convolutional().double())
    assert not any(isinstance(module, training.Pair) for module in plain.modules())
    assert torch.allclose(plain(images), expected, rtol=0, atol=1e-12)
    assert [tuple(weight.shape[:2]) for weight in training.weights(plain)] == [
        (8, 6),
        (10, 32),
        (3, 10),
    ]


def test_the_proximal_step_shrinks_singular_values() -> None:
    """With no gradient AdamW rests, so only the proximal step acts."""
    training = import_module("rank_training")
    layer = nn.Linear(5, 4).double()
    before = torch.linalg.svdvals(layer.weight.detach())
    layer.weight.grad = torch.zeros_like(layer.weight)
    training.Nuclear(layer, 0.1, 2.0, proximal=True).step()
    after = torch.linalg.svdvals(layer.weight.detach())
    assert torch.allclose(after, (before - 0.2).clamp_min(0), rtol=0, atol=1e-12)


def test_the_penalty_in_the_loss_has_the_gradient_of_the_nuclear_norm() -> None:
    training = import_module("rank_training")
    layer = nn.Linear(5, 4).double()
    (expected,) = torch.autograd.grad(torch.linalg.matrix_norm(layer.weight, "nuc"), layer.weight)
    layer.weight.grad = torch.zeros_like(layer.weight)
    training.Nuclear(layer, 0.1, 2.0, proximal=False).step()
    assert torch.allclose(layer.weight.grad, 2 * expected, rtol=0, atol=1e-12)


def test_a_thinned_network_keeps_its_share() -> None:
    networks = import_module("rank_networks")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(80, 60), nn.ReLU(), nn.Linear(60, 40))
    inputs = torch.randn(50, 80)
    for given in (None, [inputs]):
        thinned = networks.Thinned(model, given)
        for share in (0.5, 0.1, 0.25, 1.0):
            kept = networks.size(thinned.at(share)) / networks.size(model)
            assert 0.9 * share < kept <= share
        assert thinned.at(1.0) is model


def test_every_way_of_training_fills_its_rows(tmp_path: Path) -> None:
    networks = import_module("rank_networks")
    problem = small()
    rows = networks.study(problem, None, quick=True)
    shares = {100 * share for share in networks.SHARES}
    for way in import_module("rank_training").WAYS:
        for cut in ("plain", "whitened"):
            own = [r for r in rows if r["training"] == way and r["truncation"] == cut]
            assert {row["kept, %"] for row in own} == shares
    assert len(networks.table(rows).splitlines()) == 2 + len(import_module("rank_training").WAYS)
    (tmp_path / "rank_networks_MLP.json").write_text(json.dumps({"rows": rows}))
    (panel, *others) = networks.draw(tmp_path).axes
    assert not others
    assert len(panel.lines) == len(import_module("rank_training").WAYS)


@pytest.mark.parametrize("name", ["MLP", "ConvNet", "transformer"])
def test_the_networks_are_trained_and_measured(name: str) -> None:
    problem = import_module("rank_problems").PROBLEMS[name]
    training = import_module("rank_training")
    torch.manual_seed(0)
    if name == "transformer":
        inputs, labels = problem.data(None)[0]
        data = inputs[:16], labels[:16]
    else:
        data = torch.randn(100, 1, 28, 28), torch.randint(10, (100,))
    model = training.trained(problem, "factors", 1e-3, 1e-2, 0, data, 1)
    plain = problem.network()
    assert {n: p.shape for n, p in model.named_parameters()} == {
        n: p.shape for n, p in plain.named_parameters()
    }
    score = problem.measure(model, data)
    assert (0 < score < 100) if problem.sign > 0 else (0 < score < 10)


def test_a_transformer_sees_nothing_of_what_follows() -> None:
    model = import_module("rank_problems").Transformer().double()
    text = torch.randint(65, (2, 32))
    other = text.clone()
    other[:, 20:] = 0
    assert torch.equal(model(text)[:, :20], model(other)[:, :20])


def test_every_change_begins_at_zero() -> None:
    """LoRA and Deep LoRA start from the network as it was; depth's first step moves it."""
    common = import_module("fine_tuning_common")
    torch.manual_seed(0)
    inputs = torch.randn(5, 6)
    for name, (make, _) in common.METHODS.items():
        model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
        expected = model(inputs).detach()
        optimizer = make(model, 0.1, 0.5)
        assert torch.equal(model(inputs), expected), name
        model(inputs).sum().backward()
        optimizer.step()
        assert not torch.equal(model(inputs), expected), name


def test_the_rank_of_a_change_has_nine_tenths_of_its_squares() -> None:
    rank = import_module("fine_tuning_common").rank_of_change
    zero = torch.zeros(4, 4)
    assert rank(zero, zero) == 0
    assert rank(zero, torch.diag(torch.tensor([2.9, 1.0, 0.0, 0.0]))) == 2
    assert rank(zero, torch.diag(torch.tensor([3.1, 1.0, 0.0, 0.0]))) == 1


def test_fine_tuning_by_every_method_on_a_small_study() -> None:
    common = import_module("fine_tuning_common")
    accuracy = import_module("networks_common").accuracy
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    before = base[0].weight.clone()
    data = torch.randn(12, 6), torch.randint(3, (12,))
    study = common.Study(
        base,
        data,
        data,
        {"new": lambda model: accuracy(model, data)},
        lambda model: model[0].weight,
        counts=(8,),
        steps=2,
        trials=1,
        seeds=(1, 2),
    )
    rows = common.compare(study, common.METHODS)
    assert [row["method"] for row in rows] == list(common.METHODS)
    assert torch.equal(base[0].weight, before)  # each run has its own copy
    assert next(row for row in rows if row["method"] == "probe")["rank"] == 0
    laid = common.both(study, rows)
    assert [row["method"] for row in laid] == ["before", *common.METHODS]
    assert float(laid[0]["8"]) == pytest.approx(accuracy(base, data), abs=0.05)


def test_sentences_of_the_new_task_serve_no_other(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    text = import_module("fine_tuning_text")
    for kind in text.KINDS:
        lines = [f"{n}\t{(-2.0, 0.3, 2.5)[n % 3]}\t{kind} {n}\n" for n in range(30)]
        (tmp_path / f"{kind}_GroundTruth.txt").write_text("".join(lines), encoding="utf-8")
    sizes = text.Sizes(50, 10, 8, 4, 4)
    sentences, labels = text.chosen(text.read(tmp_path), sizes)
    assert len(sentences) == len(set(sentences)) == sum(sizes)
    for sentence, label in zip(sentences[60:], labels[60:].tolist(), strict=True):
        kind, number = sentence.split()
        assert kind == text.KINDS[0]
        assert int(number) % 3 == (2 if label else 0)
    for sentence, label in zip(sentences[:60], labels[:60].tolist(), strict=True):
        assert sentence.split()[0] == text.KINDS[label]


def test_the_last_layer_is_that_of_the_model_up_to_the_end() -> None:
    transformers = pytest.importorskip("transformers")
    text = import_module("fine_tuning_text")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    model = transformers.BertModel(config).eval()
    layer = model.encoder.layer[-1]
    tail = text.Tail(layer, 16).eval()
    states = torch.randn(3, 7, 16)
    whole = layer(states, attention_mask=torch.zeros(3, 1, 1, 7))
    first = (whole[0] if isinstance(whole, tuple) else whole)[:, 0]
    assert torch.allclose(tail(states), tail.head(first)[:, text.KIND], rtol=0, atol=1e-5)
    states[:, 5:] = 0
    assert torch.allclose(tail(states), tail(states[:, :5]), rtol=0, atol=1e-5)
    tail.task = text.MOOD
    assert tail(states).abs().max() == 0  # the rows of the new task begin at zero
    names = [name for name, weight in tail.named_parameters() if weight.requires_grad]
    assert len([name for name in names if "attention" in name]) == 8
    assert not any("intermediate" in name for name in names)


def test_a_missing_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    text = import_module("fine_tuning_text")
    given = ["--model-dir", str(tmp_path / "none"), "--text-dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["fine_tuning_text.py", "--output", str(tmp_path), *given])
    with pytest.raises(SystemExit):
        text.main()
    assert "expected a folder with config.json" in capsys.readouterr().err
