"""What wrappers and training loops of other libraries do with any optimizer."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.contract.tools import assert_bitwise, loss_of, random_tensor, small_network, train
from torch import Tensor, nn
from torch.optim import Optimizer

import virtualdepth as vd

Make = Callable[[Any], Optimizer]
MAKE: dict[str, Make] = {
    "EndToEndSGD": lambda params: vd.EndToEndSGD(params, lr=0.05, depth=3, momentum=0.9),
    "SGD, on gradient": lambda params: vd.with_depth(
        torch.optim.SGD(params, lr=0.05, momentum=0.9), 3, step_scale="unit", on="gradient"
    ),
    "RMSprop, on update": lambda params: vd.with_depth(
        torch.optim.RMSprop(params, lr=0.01), 3, on="update", step_scale="raw"
    ),
}
each_kind = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


class SharpnessAware(Optimizer):
    """As SAM is commonly written: the base optimizer gets groups with this one's options."""

    def __init__(self, params: Any, base: type[Optimizer], rho: float, **options: Any) -> None:
        super().__init__(params, {"rho": rho, "adaptive": False, **options})
        self.base = base(self.param_groups, **options)
        self.param_groups = self.base.param_groups
        self.defaults.update(self.base.defaults)

    def step(self, closure: Any = None) -> None:
        with torch.enable_grad():
            closure()
        with torch.no_grad():
            moves = [group["rho"] * p.grad for group in self.param_groups for p in group["params"]]
            params = [p for group in self.param_groups for p in group["params"]]
            torch._foreach_add_(params, moves)
        with torch.enable_grad():
            closure()
        with torch.no_grad():
            torch._foreach_sub_(params, moves)
        self.base.step()


@each_kind
def test_made_again_from_its_class_and_defaults(make: Make) -> None:
    model, twin = small_network(), small_network()
    first = make(model.parameters())
    second = type(first)(twin.parameters(), **first.defaults)
    assert type(second) is type(first)
    assert second.defaults == first.defaults
    train(model, first)
    train(twin, second)
    assert_bitwise([*twin.parameters()], [*model.parameters()])


@each_kind
def test_a_wrapper_whose_groups_have_options_of_its_own(make: Make) -> None:
    model = small_network()
    template = make(small_network().parameters())
    wrapper = SharpnessAware(model.parameters(), type(template), rho=0.05, **template.defaults)

    def closure() -> Tensor:
        model.zero_grad()
        loss = loss_of(model, 0)
        loss.backward()
        return loss

    before = closure().item()
    for _ in range(5):
        wrapper.step(closure)
    assert closure().item() < before
    assert wrapper.base.param_groups[0]["rho"] == 0.05
    assert {route.depth for route in vd.routing(wrapper.base)} == {1, 3}


@each_kind
def test_keys_of_other_libraries_are_kept(make: Make) -> None:
    foreign = {"lr_scale": 0.5, "rho": 0.1, "foreach": None, "betas": (0.9, 0.99), "layer_id": 3}
    model = small_network()
    optimizer = make([{"params": model[0].parameters(), **foreign}])
    optimizer.add_param_group({"params": model[2].parameters(), **foreign})
    train(model, optimizer)
    resumed = make([{"params": small_network()[i].parameters()} for i in (0, 2)])
    resumed.load_state_dict(optimizer.state_dict())
    for group in (*optimizer.param_groups, *resumed.param_groups):
        assert all(group[key] == foreign[key] for key in ("lr_scale", "rho", "betas", "layer_id"))


@each_kind
def test_a_misspelt_keyword_is_refused(make: Make) -> None:
    template = make(small_network().parameters())
    with pytest.raises(TypeError, match="unexpected keyword argument 'momentun'"):
        type(template)(small_network().parameters(), momentun=0.9)


LAZY: dict[str, Make] = {
    **MAKE,
    "auto": lambda params: vd.EndToEndSGD(params, step_scale="auto"),
    "layers": lambda params: vd.EndToEndSGD(params, solver="layers", momentum=0.9),
    "tracked": lambda params: vd.EndToEndSGD(params, solver="tracked", origin="init"),
}


@pytest.mark.parametrize("make", LAZY.values(), ids=LAZY)
def test_lazy_layers_begin_when_they_have_a_shape(make: Make) -> None:
    lazy, model = (
        nn.Sequential(kind, nn.Linear(4, 2, bias=False))
        for kind in (nn.LazyLinear(4, bias=False), nn.Linear(3, 4, bias=False))
    )
    early = make([{"params": [layer.weight]} for layer in lazy])
    early.step()
    assert vd.routing(early).routes[0].shape == ()
    pickle.loads(pickle.dumps(early.state_dict()))
    lazy(torch.ones(1, 3))
    lazy.load_state_dict(model.state_dict())
    late = make([{"params": [layer.weight]} for layer in model])
    for step in range(3):
        for one, optimizer in ((lazy, early), (model, late)):
            optimizer.zero_grad()
            one(random_tensor((5, 3), step, torch.float32)).square().mean().backward()
            optimizer.step()
    assert_bitwise([*lazy.parameters()], [*model.parameters()])
    assert [r.matrix for r in vd.routing(early)] == [r.matrix for r in vd.routing(late)]


def frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


@pytest.mark.parametrize("make", LAZY.values(), ids=LAZY)
def test_frozen_layers_are_left_alone_whatever_they_are(make: Make) -> None:
    """Quantized weights, half precision, zeros; until they are trained."""
    strange = [
        frozen(torch.ones(4, 4, dtype=torch.int8)),
        frozen(torch.ones(4, 4, dtype=torch.bfloat16)),
        frozen(torch.zeros(4, 4)),
    ]
    late = frozen(random_tensor((4, 3), 1))
    trained = nn.Parameter(random_tensor((4, 3), 2))
    optimizer = make([*strange, late, trained])
    before = [p.clone() for p in (*strange, late)]
    for step in range(3):
        trained.grad = random_tensor((4, 3), step)
        optimizer.step()
        if step == 0:
            assert_bitwise([*strange, late], before)
            assert not any(optimizer.state.get(p) for p in (*strange, late))
            late.requires_grad_()
        late.grad = random_tensor((4, 3), 5 + step) if step < 2 else None
    assert not torch.equal(late, before[-1])


def of_a_model(model: nn.Module) -> Optimizer:
    return vd.with_depth(
        torch.optim.SGD(model.parameters(), lr=0.1), 3, model=model, step_scale="raw", on="gradient"
    )


def of_its_groups(model: nn.Module) -> Optimizer:
    groups = vd.param_groups(model, 3)
    for group in groups:
        group["params"] = [p for _, p in group["params"]]
    return vd.EndToEndSGD(groups, lr=0.1)


def of_names(model: nn.Module) -> Optimizer:
    return vd.EndToEndSGD(model.named_parameters(), lr=0.1)


@pytest.mark.parametrize("make", [of_a_model, of_its_groups, of_names])
def test_parameters_are_called_as_in_the_model_that_was_seen(make: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = make(model)
    for group in optimizer.param_groups:
        group["params"] = group["params"][::-1]
    names = {route.parameter: route.shape for route in vd.routing(optimizer)}
    assert names == {name: tuple(p.shape) for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.full_like(p, torch.nan)
    with pytest.raises(FloatingPointError, match=r"^[01]\.weight: expected a finite gradient"):
        optimizer.step()


COPIES: dict[str, Callable[[Any], Any]] = {
    "itself": lambda pair: pair,
    "deepcopy": copy.deepcopy,
    "pickle": lambda pair: pickle.loads(pickle.dumps(pair)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_matrices_stay_with_their_parameters(copied: Callable[[Any], Any]) -> None:
    """Not with their places, where a list of parameters is filtered, appended to or reversed."""
    model = nn.ModuleDict(
        {"norm": nn.Embedding(3, 4), "conv": nn.Conv2d(4, 6, 1, groups=2), "head": nn.Linear(4, 4)}
    )
    first = [*model["norm"].parameters(), *model["conv"].parameters()]
    optimizer = vd.with_depth(
        torch.optim.SGD(first, lr=0.1), 3, model=model, step_scale="raw", on="gradient"
    )
    optimizer.step()
    optimizer.param_groups[0]["params"] = [*model["head"].parameters(), *first[::-1]]
    expected = {
        "norm.weight": "-",
        "conv.weight": "2 of 3 x 2",
        "conv.bias": "-",
        "head.weight": "4 x 4",
        "head.bias": "-",
    }
    matrices = {tuple(p.shape): expected[name] for name, p in model.named_parameters()}
    model, optimizer = copied((model, optimizer))
    assert {route.shape: route.matrix for route in vd.routing(optimizer)} == matrices
    del optimizer.param_groups[0]["params"][1:3]
    model, optimizer = copied((model, optimizer))
    twin = copy.deepcopy(model)
    params, same = list(optimizer.param_groups[0]["params"]), []
    for name, p in model.named_parameters():
        if any(p is each for each in params):
            same.append(dict(twin.named_parameters())[name])
            p.grad = random_tensor(tuple(p.shape), 3, torch.float32)
            same[-1].grad = p.grad.clone()
    vd.with_depth(
        torch.optim.SGD(same, lr=0.1), 3, model=twin, step_scale="raw", on="gradient"
    ).step()
    optimizer.step()
    assert_bitwise([*model.parameters()], [*twin.parameters()])


def test_groups_with_counts_that_were_handed_on_follow_too() -> None:
    model = nn.ModuleList([nn.Embedding(3, 4), nn.Linear(4, 4)])
    first = vd.with_depth(
        torch.optim.SGD(model.parameters(), lr=0.1), 3, model=model, step_scale="raw", on="gradient"
    )
    optimizer = vd.EndToEndSGD(first.param_groups, lr=0.1)
    optimizer.param_groups[0]["params"] = [p for p in model.parameters()][1:]
    assert [route.matrix for route in vd.routing(optimizer)] == ["4 x 4", "-"]
    resumed = vd.EndToEndSGD([{"params": [*model[1].parameters()]}], lr=0.1)
    resumed.load_state_dict(optimizer.state_dict())
    assert [route.matrix for route in vd.routing(resumed)] == ["4 x 4", "-"]


def test_an_added_group_gets_the_depth_that_its_model_was_given() -> None:
    model = nn.ModuleDict({"head": nn.Linear(3, 2), "body": nn.Conv2d(4, 6, 1, groups=2)})
    optimizer = vd.with_depth(
        torch.optim.SGD(model["head"].parameters(), lr=0.1),
        3,
        model=model,
        step_scale="raw",
        on="gradient",
    )
    optimizer.add_param_group({"params": [*model["body"].parameters()]})
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, 2))]})
    assert [r.matrix for r in vd.routing(optimizer)] == ["2 x 3", "-", "2 of 3 x 2", "-", "-"]


class Unusual(Optimizer):
    """It keeps factored and quantised state, a count beside those of parameters, and asks for it.

    Its loader casts nothing, as that of every optimizer with quantised state.
    """

    def __init__(self, params: Any, weight_decay: Any = None) -> None:
        super().__init__(params, {"lr": 0.1, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.state["steps"] = self.state.get("steps", 0) + 1  # type: ignore[index,call-overload,operator]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p not in self.state:
                    self.state[p] = {
                        "exp_avg_sq_row": p.new_zeros(len(p)),
                        "exp_avg": p.new_zeros(2, p.shape[1]),  # projected to a rank of 2
                        "codes": torch.zeros(p.shape, dtype=torch.uint8),
                    }
                self.state[p]["exp_avg_sq_row"] += p.grad.square().mean(1)
                self.state[p]["codes"] += 1
                p.sub_(group["lr"] * p.grad)

    def load_state_dict(self, state_dict: Any) -> None:
        names = [key for group in state_dict["param_groups"] for key in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        known = dict(zip(names, params, strict=True))
        for key, value in copy.deepcopy(state_dict["state"]).items():
            self.state[known.get(key, key)] = value


@pytest.mark.parametrize("on", ["gradient", "update"])
@pytest.mark.parametrize("weight_decay", [None, (0.1, 0.2)])
def test_an_optimizer_with_state_of_every_kind(on: Any, weight_decay: Any) -> None:
    """The second parameter has a gradient only after a checkpoint was saved, and loaded."""
    first, second = (nn.Parameter(random_tensor((3, 4), seed)) for seed in range(2))
    optimizer = vd.with_depth(Unusual([first, second], weight_decay), 3, on=on, step_scale="raw")
    for step, late in enumerate((False, False, True)):
        first.grad = random_tensor((3, 4), step)
        second.grad = random_tensor((3, 4), step) if late else None
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.state["steps"] == 3  # type: ignore[index]
    assert [int(optimizer.state[p]["codes"][0, 0]) for p in (first, second)] == [3, 1]


def test_a_complex_parameter_beside_matrices_is_checked_too() -> None:
    weight = nn.Parameter(random_tensor((3, 4), 0))
    bias = nn.Parameter(torch.ones(3, dtype=torch.cfloat))
    optimizer = vd.with_depth(
        torch.optim.Adam([("w", weight), ("b", bias)], lr=0.1), 3, step_scale="raw", on="gradient"
    )
    weight.grad, bias.grad = random_tensor((3, 4), 0), torch.full_like(bias, torch.nan)
    with pytest.raises(FloatingPointError, match="b: expected a finite new weight"):
        optimizer.step()
    assert_bitwise(bias.detach(), torch.ones(3, dtype=torch.cfloat))
