"""The check: does one layer trained as N layers follow an explicit N-layer network?

Over a fixed time (steps times learning rate) the gap between the two is of first order in the
learning rate. The check measures that order; with a wrong rule the gap hardly falls.

Source: arXiv 1802.06509, Theorem 1.
"""

from time import perf_counter

from tqdm import tqdm

from virtualdepth.data import Problem, load_problem
from virtualdepth.networks import DeepLinear
from virtualdepth.runs import versions
from virtualdepth.verify._config import VerifyConfig, exact
from virtualdepth.verify._results import Curve, Row, VerifyResult
from virtualdepth.verify._training import follow

PACKAGES = ("virtualdepth", "torch", "pytorch-lightning", "numpy")


def check(config: VerifyConfig, problem: Problem | None = None) -> VerifyResult:
    """Train single layer and deep network at every learning rate, on what ``config`` names.

    Ctrl-C ends it early, and the learning rates finished by then are kept. A progress bar runs on
    standard error if that is a terminal.

    >>> result = check(VerifyConfig(data="synthetic", lrs=(0.2, 0.1), time=1.0))
    >>> [row.gap for row in result.rows], result.order, result.passed
    ([0.0806, 0.0405], 0.99, True)
    """
    problem = problem or load_problem(
        config.data, targets=config.targets, data_dir=config.data_dir, seed=config.seed
    )
    rows: list[Row] = []
    curves: list[Curve] = []
    with tqdm(
        total=sum(map(config.steps, config.lrs)), unit="step", disable=None, leave=False
    ) as bar:
        try:
            for lr in config.lrs:
                bar.set_description(f"learning rate {exact(lr)}")
                start = perf_counter()
                curve = follow(
                    problem.inputs,
                    problem.targets,
                    lr=lr,
                    steps=config.steps(lr),
                    dtype=config.dtype,
                    on_step=bar.update,
                    **config.network,
                    **{f"optimizer_{name}": value for name, value in config.rule.items()},
                    precondition_frequency=config.precondition_frequency,
                    init_scale=config.init_scale,
                    seed=config.seed,
                )
                rows.append(_row(curve, config.steps(lr), perf_counter() - start))
                curves.append(curve)
        except KeyboardInterrupt:
            pass  # the result knows that rows are missing
    return VerifyResult(
        config=config.to_json(),
        versions=versions(*PACKAGES),
        rows=rows,
        curves=curves,
        parameters=_parameters(problem, config),
        notes=list(problem.notes),
    )


def _row(curve: Curve, steps: int, seconds: float) -> Row:
    finished = len(curve.gap) == steps + 1
    return Row(
        lr=curve.lr,
        steps=steps,
        gap=max(curve.gap) if finished else None,
        loss_single=curve.loss_single[-1] if finished else None,
        loss_deep=curve.loss_deep[-1] if finished else None,
        seconds=round(seconds, 3),
    )


def _parameters(problem: Problem, config: VerifyConfig) -> dict[str, int]:
    inputs, outputs = problem.inputs.shape[1], problem.targets.shape[1]
    deep = DeepLinear(inputs, outputs, **config.network, device="meta")
    return {"single": inputs * outputs, "deep": sum(p.numel() for p in deep.parameters())}
