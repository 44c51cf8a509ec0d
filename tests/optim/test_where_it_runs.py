"""In the surroundings that training loops have: precisions, layouts, compilers, other packages."""

import copy
import functools
from typing import Any

import pytest
import torch
from tests.contract.tools import assert_bitwise, loss_of, random_tensor, small_network, train
from torch import Tensor, nn
from torch.optim import swa_utils

import virtualdepth as vd

MAKE = {
    "EndToEndSGD": lambda params, **o: vd.EndToEndSGD(params, depth=3, **{"lr": 0.05, **o}),
    "unit": lambda params, **o: vd.EndToEndSGD(
        params, depth=3, step_scale="unit", momentum=0.9, **{"lr": 0.05, **o}
    ),
    "AdamW on gradient": lambda params, **o: vd.with_depth(
        torch.optim.AdamW(params, **{"lr": 0.01, **o}), 3, step_scale="raw", on="gradient"
    ),
    "AdamW on update": lambda params, **o: vd.with_depth(
        torch.optim.AdamW(params, **{"lr": 0.01, **o}), 3, on="update", step_scale="raw"
    ),
}
DEVICES = [
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
    pytest.param(
        "mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no MPS")
    ),
]
every_optimizer = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


@every_optimizer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_follows_single(make: Any, dtype: torch.dtype) -> None:
    p = nn.Parameter(random_tensor((6, 4), 1, dtype))
    q = nn.Parameter(p.detach().float())
    one, other = make([p]), make([q])
    for step in range(3):
        p.grad = random_tensor((6, 4), 10 + step, dtype)
        q.grad = p.grad.float()
        one.step()
        other.step()
    assert p.dtype == dtype
    torch.testing.assert_close(p.float(), q.detach(), rtol=0.05, atol=0.05)
    assert not torch.equal(p, random_tensor((6, 4), 1, dtype))


@every_optimizer
def test_under_autocast_nothing_is_rounded(make: Any) -> None:
    model, twin = (small_network(dtype=torch.float32) for _ in range(2))
    one, other = make(model.parameters()), make(twin.parameters())
    for batch in range(3):
        loss_of(model, batch).backward()
        loss_of(twin, batch).backward()
        with torch.autocast("cpu", torch.bfloat16):
            one.step()
        other.step()
    assert_bitwise([*model.parameters()], [*twin.parameters()])


@every_optimizer
def test_a_mixed_precision_loop_learns(make: Any) -> None:
    model = small_network(dtype=torch.float32)
    optimizer, scaler = make(model.parameters()), torch.amp.GradScaler("cpu")
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, 0)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@every_optimizer
def test_accumulated_gradients_are_one_larger_batch(make: Any) -> None:
    model, twin = small_network(), small_network()
    one, other = make(model.parameters()), make(twin.parameters())
    for step in range(3):
        for batch in (2 * step, 2 * step + 1):
            (loss_of(model, batch) / 2).backward()
        one.step()
        one.zero_grad()
        other.zero_grad()
        ((loss_of(twin, 2 * step) + loss_of(twin, 2 * step + 1)) / 2).backward()
        other.step()
    torch.testing.assert_close([*model.parameters()], [*twin.parameters()], rtol=1e-9, atol=1e-9)


@every_optimizer
def test_averaged_models(make: Any) -> None:
    model = small_network()
    optimizer = make(model.parameters())
    mean = swa_utils.AveragedModel(model)
    decayed = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5))
    schedule = swa_utils.SWALR(optimizer, 0.01, anneal_epochs=2)
    history = []
    for batch in range(4):
        train(model, optimizer, steps=1, start=batch)
        schedule.step()
        mean.update_parameters(model)
        decayed.update_parameters(model)
        history.append(model[2].weight.detach().clone())
    torch.testing.assert_close(mean.module[2].weight.detach(), sum(history) / 4)
    ema = functools.reduce(lambda average, new: (average + new) / 2, history)
    torch.testing.assert_close(decayed.module[2].weight.detach(), ema)


STRIDES = {
    "channels last": lambda: random_tensor((4, 3, 2, 2), 1).to(memory_format=torch.channels_last),
    "transposed": lambda: random_tensor((4, 3), 1).mT,
    "every second column": lambda: random_tensor((3, 8), 1)[:, ::2],
    "gaps": lambda: torch.empty_strided((3, 4), (20, 2), dtype=torch.float64).copy_(
        random_tensor((3, 4), 1)
    ),
    "odd strides of size 1": lambda: torch.empty_strided(
        (3, 1, 4), (4, 99, 1), dtype=torch.float64
    ).copy_(random_tensor((3, 1, 4), 1)),
}


@every_optimizer
@pytest.mark.parametrize("layout", STRIDES.values(), ids=STRIDES)
@pytest.mark.parametrize("expanded", [False, True], ids=["", "expanded gradient"])
def test_strides_do_not_matter(make: Any, layout: Any, expanded: bool) -> None:
    p = nn.Parameter(layout())
    q = nn.Parameter(p.detach().clone(memory_format=torch.contiguous_format))
    one, other = make([p]), make([q])
    for step in range(2):
        grad = random_tensor((), step).expand(p.shape) if expanded else layout() * (step + 1)
        p.grad, q.grad = grad, grad.contiguous()
        one.step()
        other.step()
    assert p.stride() == layout().stride()
    torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("make", [MAKE["EndToEndSGD"], MAKE["AdamW on gradient"]])
def test_an_expanded_parameter_is_refused(make: Any) -> None:
    p = torch.ones(1, 3).expand(4, 3).requires_grad_()
    with pytest.raises(TypeError, match=r"expanded.*clone"):
        make([p])


@every_optimizer
def test_a_compiled_step_neither_breaks_nor_recompiles(make: Any) -> None:
    """Over a learning rate that changes, as a tensor and as a number."""
    for rate in (torch.tensor(0.01), 0.01):
        torch._dynamo.reset()  # another optimizer is another compilation
        p, q = (nn.Parameter(random_tensor((4, 3), 1)) for _ in range(2))
        one, other = make([p], lr=copy.copy(rate)), make([q], lr=copy.copy(rate))
        compiled = torch.compile(one.step, backend="eager")
        for step in range(4):
            p.grad = q.grad = random_tensor((4, 3), step)
            for optimizer in (one, other):
                optimizer.param_groups[0]["lr"] = rate * (step + 1)
            with torch._dynamo.config.patch(error_on_recompile=True):
                compiled()
            other.step()
        assert_bitwise(p, q)
    torch._dynamo.reset()


@every_optimizer
def test_a_functional_forward_pass(make: Any) -> None:
    """Parameters that live outside of the module."""
    model, twin = small_network(), small_network()
    outside = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}
    optimizer = make(outside.items())
    inputs, targets = random_tensor((6, 2, 3, 3), 5), random_tensor((6, 2), 6)
    other = make(twin.named_parameters())
    for _ in range(3):
        optimizer.zero_grad()
        output = torch.func.functional_call(model, outside, (inputs,))
        nn.functional.mse_loss(output, targets).backward()
        optimizer.step()
        other.zero_grad()
        nn.functional.mse_loss(twin(inputs), targets).backward()
        other.step()
    assert_bitwise([*outside.values()], [*twin.parameters()])


@every_optimizer
def test_accelerate_prepares_it(make: Any) -> None:
    accelerate = pytest.importorskip("accelerate")
    model, twin = (small_network(dtype=torch.float32) for _ in range(2))
    accelerator = accelerate.Accelerator(cpu=True)
    optimizer = make(model.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    prepared, wrapped, scheduler = accelerator.prepare(model, optimizer, schedule)
    with pytest.raises(TypeError, match="inside a wrapper"):
        vd.with_depth(wrapped, 3, step_scale="raw", on="gradient")
    other = make(twin.parameters())
    their_schedule = torch.optim.lr_scheduler.StepLR(other, 2)
    for batch in range(4):
        wrapped.zero_grad()
        accelerator.backward(loss_of(prepared, batch))
        wrapped.step()
        scheduler.step()
        train(twin, other, steps=1, start=batch)
        their_schedule.step()
    assert_bitwise([*model.parameters()], [*twin.parameters()])


def test_hugging_face_trainer_takes_it(tmp_path: Any) -> None:
    transformers = pytest.importorskip("transformers")

    class Regression(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(4, 2)

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return {"loss": nn.functional.mse_loss(self.layer(x), labels)}

    data = [{"x": torch.randn(4), "labels": torch.randn(2)} for _ in range(16)]
    settings = transformers.TrainingArguments(
        output_dir=tmp_path,
        num_train_epochs=2,
        per_device_train_batch_size=8,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        max_grad_norm=0,
        dataloader_pin_memory=False,
    )
    ends = []
    for depth in (1, 3):
        model = Regression()
        optimizer = vd.EndToEndSGD(vd.param_groups(model, depth), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        trainer = transformers.Trainer(
            model, settings, train_dataset=data, optimizers=(optimizer, schedule)
        )
        trainer.train()
        assert optimizer.param_groups[0]["lr"] == 0.1 * 0.5**4
        ends.append(model.layer.weight.detach().clone())
    assert not torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[1], Regression().layer.weight)


@every_optimizer
@pytest.mark.parametrize("device", DEVICES)
def test_on_a_device_as_on_the_cpu(make: Any, device: str) -> None:
    model = small_network(dtype=torch.float32)
    there = copy.deepcopy(model).to(device)
    one, other = make(model.parameters()), make(there.parameters())
    for step in range(5):
        for number, (p, q) in enumerate(zip(model.parameters(), there.parameters(), strict=True)):
            p.grad = random_tensor(tuple(p.shape), 10 * step + number, torch.float32)
            q.grad = p.grad.to(device)
        one.step()
        other.step()
    for p, q in zip(model.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(p, q.cpu(), rtol=1e-3, atol=1e-4)
