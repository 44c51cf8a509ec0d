"""What every metric of ours keeps: truth, accumulation, flags, plots, gradients, copies."""

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tests.metrics.cases import CASES, WEIGHTS, Case, Update, converted, numbers
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from virtualdepth import metrics

case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def fed(case: Case, updates: Sequence[Update] | None = None) -> Metric:
    metric = case.make()
    for update in case.updates if updates is None else updates:
        metric.update(*update)
    return metric


def agree(value: Any, truth: Any, rel: float = 1e-12) -> bool:
    left, right = numbers(value), numbers(truth)
    return left.keys() == right.keys() and all(
        left[key] == pytest.approx(right[key], rel=rel, abs=1e-14) for key in left
    )


def test_every_metric_has_a_case() -> None:
    assert {name.split()[0] for name in CASES} == set(metrics.__all__)


@case
def test_agrees_with_scipy_over_all_updates(case: Case) -> None:
    assert agree(fed(case).compute(), case.truth(case.updates))


@case
def test_forward_gives_the_value_of_the_batch_and_accumulates(case: Case) -> None:
    metric = case.make()
    for update in case.updates:
        assert agree(metric(*update), case.truth([update]))
    assert agree(metric.compute(), case.truth(case.updates))


@case
def test_order_of_updates_does_not_matter(case: Case) -> None:
    assert agree(fed(case, list(reversed(case.updates))).compute(), case.truth(case.updates))


@case
def test_reset_forgets(case: Case) -> None:
    metric = fed(case)
    metric.reset()
    metric.update(*case.updates[-1])
    assert agree(metric.compute(), case.truth(case.updates[-1:]))


@case
def test_float32_stays_float32(case: Case) -> None:
    metric = fed(case, converted(list(case.updates), torch.float32))
    value = metric.compute()
    for part in value.values() if isinstance(value, dict) else [value]:
        assert part.dtype == torch.float32
    assert agree(value, case.truth(case.updates), rel=2e-5)


@case
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_taken(case: Case, half: torch.dtype) -> None:
    metric = fed(case, converted(list(case.updates), half))
    # the inputs are rounded to 8 bits or more, margins are differences of them
    left, right = numbers(metric.compute()), numbers(case.truth(case.updates))
    for key in left:
        assert left[key] == pytest.approx(right[key], rel=0.05, abs=0.05)


@case
def test_flags_are_declared(case: Case) -> None:
    metric = case.make()
    own = [vars(parent) for parent in type(metric).__mro__[: type(metric).__mro__.index(Metric)]]
    for flag in ("is_differentiable", "higher_is_better", "full_state_update"):
        assert any(flag in body for body in own), flag
    assert metric.full_state_update is False
    assert metric.is_differentiable is case.differentiable


def leaves(update: Any) -> list[Tensor]:
    if isinstance(update, Tensor):
        return [update] if update.is_floating_point() else []
    return [leaf for part in update for leaf in leaves(part)]


@case
def test_is_differentiable_says_the_truth(case: Case) -> None:
    inputs = [leaf.clone().requires_grad_() for leaf in leaves(case.updates[0])]

    def value(*values: Tensor) -> tuple[Tensor, ...]:
        remaining = list(values)

        def replaced(part: Any) -> Any:
            if isinstance(part, Tensor):
                return remaining.pop(0) if part.is_floating_point() else part
            return type(part)(replaced(inner) for inner in part)

        result = case.make()(*replaced(case.updates[0]))
        return tuple(result.values()) if isinstance(result, dict) else (result,)

    if case.differentiable:
        assert torch.autograd.gradcheck(value, inputs)
    else:
        assert not any(part.requires_grad for part in value(*inputs))


@case
def test_plot_draws(case: Case) -> None:
    metric = case.make()
    steps = [metric(*update) for update in case.updates]
    figure, ax = metric.plot()
    assert isinstance(figure, Figure)
    assert isinstance(ax, Axes)
    assert ax.lines
    mine = Figure().subplots()
    assert metric.plot(steps, ax=mine)[1] is mine
    assert any(len(line.get_xdata()) == len(steps) for line in mine.lines)
    figure.clear()


@case
def test_copies_and_pickles_keep_the_state(case: Case) -> None:
    metric = fed(case)
    assert agree(metric.clone().compute(), case.truth(case.updates))
    assert agree(pickle.loads(pickle.dumps(metric)).compute(), case.truth(case.updates))


@case
def test_dtypes_may_change_between_updates(case: Case) -> None:
    narrow = [converted(update, torch.float32) for update in case.updates]
    for turn in range(2):
        updated, stepped = case.make(), case.make()
        for number, (wide, rounded) in enumerate(zip(case.updates, narrow, strict=True)):
            update = wide if number % 2 == turn else rounded
            updated.update(*update)
            stepped(*update)
        assert agree(updated.compute(), case.truth(case.updates), rel=2e-5)
        assert agree(stepped.compute(), updated.compute())


@case
def test_a_state_of_another_dtype_stays_in_it(case: Case) -> None:
    metric = case.make().set_dtype(torch.float64)
    for update in converted(list(case.updates), torch.float32):
        metric.update(*update)
    value = metric.compute()
    for part in value.values() if isinstance(value, dict) else [value]:
        assert part.dtype == torch.float64
    metric.reset()
    metric.update(*case.updates[0])
    assert agree(metric.compute(), case.truth(case.updates[:1]))


@case
def test_a_saved_state_loads(case: Case) -> None:
    metric, other = fed(case), case.make()
    metric.persistent(True)
    other.persistent(True)
    other.load_state_dict(metric.state_dict())
    for update in case.updates[:1]:
        other.update(*update)
    assert agree(other.compute(), case.truth([*case.updates, case.updates[0]]))


@case
def test_compute_before_update_warns(case: Case) -> None:
    with pytest.warns(UserWarning, match="before the ``update``"):
        case.make().compute()


def test_inputs_are_not_written_to() -> None:
    for case in CASES.values():
        before = [leaf.clone() for update in case.updates for leaf in leaves(update)]
        fed(case).compute()
        after = [leaf for update in case.updates for leaf in leaves(update)]
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_results_by_name_join_a_collection() -> None:
    weight, grad = torch.diag(torch.tensor([4.0, 9.0])), torch.ones(2, 2)
    together = MetricCollection([metrics.GradientAlignment()])
    together.update(weight, grad)
    assert set(together.compute()) == {"diagonal", "off_diagonal"}


def test_no_two_metrics_share_states() -> None:
    """A collection lets metrics share what has one name and one value at the first update."""
    made = [case.make() for name, case in CASES.items() if "one score" not in name]
    assert len({frozenset(metric._defaults) for metric in made}) == len(made)


EYE = torch.eye(3, dtype=torch.float64)
# metrics that take the same arguments, with a first update at which many of them agree
TOGETHER: dict[str, tuple[list[str], Update]] = {
    "a weight": ([name for name, case in CASES.items() if case.updates is WEIGHTS], (EYE,)),
    "two matrices": (["EndToEndGap", "DeficiencyMargin", "GradientAlignment"], (EYE, EYE)),
    "factors": (["Balancedness", "Balancedness relative"], ([EYE, EYE, EYE],)),
}


WAYS: dict[str, Callable[[Any], Any]] = {
    "updated": lambda thing: thing,
    "cloned": lambda thing: thing.clone(),
    "pickled": lambda thing: pickle.loads(pickle.dumps(thing)),
    "reset": lambda thing: thing.reset() or thing,
    "computed": lambda thing: (thing.compute(), thing)[1],
}


@pytest.mark.parametrize("kind", TOGETHER)
@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_collection_is_its_metrics_alone(kind: str, way: str, forward: bool) -> None:
    names, first = TOGETHER[kind]
    makers = {f"{number}": CASES[name].make for number, name in enumerate(2 * names)}
    together: Any = MetricCollection({key: make() for key, make in makers.items()})
    alone: dict[str, Any] = {key: make() for key, make in makers.items()}
    for number, update in enumerate([first, *CASES[names[0]].updates]):
        for thing in (together, *alone.values()):
            (thing if forward else thing.update)(*update)
        if number == 1:
            together = WAYS[way](together)
            alone = {key: WAYS[way](metric) for key, metric in alone.items()}
    for key, metric in together.items():
        assert agree(metric.compute(), alone[key].compute()), key


def test_metrics_that_agree_at_first_stay_apart_in_a_collection() -> None:
    one, other = torch.eye(3), torch.diag(torch.tensor([3.0, 1.0, 1.0]))
    together = MetricCollection(
        {
            "effective": metrics.EffectiveRank(),
            "stable": metrics.StableRank(),
            "nuclear": metrics.NuclearNorm(),
            "spectral": metrics.SpectralNorm(),
            "p = 1": metrics.SchattenNorm(1),
            "p = 2": metrics.SchattenNorm(2),
            "p = 5/2": metrics.SchattenNorm(2.5),
        }
    )
    alone = {name: metric.clone() for name, metric in together.items()}
    for weight in (torch.diag(torch.tensor([1e-12, 0, 0])), one, other):
        together.update(weight)
        for metric in alone.values():
            metric.update(weight)
    assert {name: value.item() for name, value in together.compute().items()} == {
        name: metric.compute().item() for name, metric in alone.items()
    }


def test_options_keep_metrics_of_one_class_apart() -> None:
    factors = [torch.eye(2), torch.eye(2)]
    together = MetricCollection(
        {"defect": metrics.Balancedness(2), "relative": metrics.Balancedness(2, relative=True)}
    )
    together.update(factors)
    together.update([torch.eye(2), 2 * torch.eye(2)])
    found = together.compute()
    assert found["defect"].item() == pytest.approx(3 * 2**0.5)
    assert found["relative"].item() == pytest.approx(3 * 2**0.5 / 10)
    weight = torch.diag(torch.tensor([1.0, 1e-3]))
    aligned = {"all": metrics.GradientAlignment(), "large": metrics.GradientAlignment(0.1)}
    pair = MetricCollection(aligned, prefix="a/")
    pair.update(weight, torch.eye(2))
    pair.update(weight, torch.diag(torch.tensor([1.0, 3.0])))
    values = [metric.compute()["diagonal"].item() for metric in pair.values(copy_state=False)]
    assert sorted(values) == pytest.approx([1.0, 1.5])
