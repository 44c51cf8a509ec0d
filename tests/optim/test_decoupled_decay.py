"""What the weight decay of another optimizer does once it has depth."""

from typing import Any

import pytest
import pytorch_optimizer
import torch
from tests.optim.test_with_depth import close, gradient, truth, weight

import virtualdepth as vd

DECOUPLED = {
    "AdamW": (torch.optim.AdamW, {}),
    "Adam": (torch.optim.Adam, {"decoupled_weight_decay": True}),
    "Muon": (torch.optim.Muon, {}),
    "Adafactor": (torch.optim.Adafactor, {}),
    "Lion": (pytorch_optimizer.Lion, {}),
    "SGDW": (pytorch_optimizer.SGDW, {}),
    "AdaBelief": (pytorch_optimizer.AdaBelief, {"weight_decouple": True}),
}


@pytest.mark.parametrize("name", DECOUPLED)
@pytest.mark.parametrize("on", ["gradient", "update"])
def test_decoupled_decay_acts_on_the_weight_itself(name: str, on: Any) -> None:
    """W' = (1 - lr lambda) W + P_W(step without decay): what decays is not preconditioned."""
    make, options = DECOUPLED[name]
    lr, decay, depth = 0.01, 0.5, 3.5
    ours, theirs = weight(), weight()
    optimizer = vd.with_depth(
        make([ours], lr=lr, weight_decay=decay, **options), depth, on=on, step_scale="raw"
    )
    bare = make([theirs], lr=lr, **{**options, "weight_decay": 0})
    for step in range(4):
        before, grad = theirs.detach().clone(), gradient(step)
        ours.grad = grad
        theirs.grad = truth(before, grad, depth) if on == "gradient" else grad
        optimizer.step()
        bare.step()
        with torch.no_grad():
            moved = theirs.detach() - before
            if on == "update":
                moved = truth(before, moved, depth)
            theirs.copy_((1 - lr * decay) * before + moved)
        close(ours, theirs)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop])
def test_decay_that_is_part_of_the_gradient_is_part_of_the_update(make: Any) -> None:
    ours, theirs = weight(), weight()
    optimizer = vd.with_depth(
        make([ours], lr=0.01, weight_decay=0.5), 3, on="update", step_scale="raw"
    )
    bare, before = make([theirs], lr=0.01, weight_decay=0.5), weight().detach()
    ours.grad = theirs.grad = gradient(0)
    optimizer.step()
    bare.step()
    close(ours, before + truth(before, theirs.detach() - before, 3))
