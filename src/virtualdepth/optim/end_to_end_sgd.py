"""Gradient descent on one matrix that moves it as an N-layer linear network would.

Source: arXiv 1802.06509, Theorem 1.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT
from torch.optim.sgd import sgd

from virtualdepth.maths import LinAlgError, check_depth, end_to_end_gradient
from virtualdepth.optim.guard import StepGuard
from virtualdepth.optim.options import check_options

# keys of torch.optim.SGD's checkpoints that choose an implementation, not a result
_TORCH_ONLY = frozenset({"foreach", "fused", "differentiable"})


class EndToEndSGD(Optimizer):
    r"""Stochastic gradient descent by the end-to-end rule of an N-layer linear network.

    Every matrix W (m x n) of a group with ``depth=N`` moves as the product of N layers would under
    gradient descent with a small learning rate, from a balanced start, adding no parameter:

    .. math::
        W \leftarrow (1 - \eta \lambda N)\, W - \eta\, P_W(G), \qquad
        P_W(G) = \sum_{j=1}^{N} [W W^\top]^{(N-j)/N}\, G\, [W^\top W]^{(j-1)/N}.

    Parameters of fewer than two dimensions, and groups of depth 1, move exactly as under
    ``torch.optim.SGD``; a convolution kernel is the matrix [out, in * height * width]. The depth
    is live: ``group["depth"] = 3`` takes effect at the next step. At infinite depth P_W(G) is
    divided by N and the decay is :math:`\lambda` alone.

    A step is whole or not at all: if the update of one matrix cannot be computed, no weight and no
    state changes. (On a device other than the CPU the error comes one step late, since reading a
    flag would wait for the device; weights are unchanged there too.) Without momentum there is no
    state.

    Args:
        params: parameters, named parameters, or groups (dicts with their own options).
        lr: learning rate eta >= 0, a number or a 1-element tensor.
        depth: number of layers N, real, 1 <= N <= inf.
        momentum: as in torch.optim.SGD, on the preconditioned gradient.
        dampening: as in torch.optim.SGD.
        weight_decay: lambda, the decay on every one of the N layers: N * lambda on W.
        nesterov: as in torch.optim.SGD.
        maximize: ascend instead.
        step_scale: "raw": the theorem, eta = lr.
        solver: how P_W(G) is computed; "svd": exactly, by one thin SVD a step; "auto" chooses.
        rtol: singular values <= rtol * (the largest) count as 0; see
            :func:`virtualdepth.precondition`.
        origin: reserved; None.

    Raises:
        TypeError: if an option is unknown or of the wrong type, or a matrix to get depth is
            complex, sparse or sharded.
        ValueError: if an option is out of range.

    :meth:`step` raises FloatingPointError for a non-finite weight, gradient or update and
    torch.linalg.LinAlgError for a decomposition that does not converge; both name the parameter.

    Source: arXiv 1802.06509, Theorem 1.

    >>> weight = torch.nn.Parameter(torch.diag(torch.tensor([4.0, 9.0])))
    >>> optimizer = EndToEndSGD([weight], lr=0.1, depth=2)
    >>> weight.sum().backward()  # G = ones, K(a, b) = a + b
    >>> optimizer.step()
    >>> weight.detach()
    tensor([[ 3.2000, -1.3000],
            [-1.3000,  7.2000]])
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        *,
        depth: float = 2,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        maximize: bool = False,
        step_scale: str = "raw",
        solver: str = "auto",
        rtol: float | None = None,
        origin: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "depth": depth,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "step_scale": step_scale,
            "solver": solver,
            "rtol": rtol,
            "origin": origin,
        }
        check_options(defaults, defaults)
        self._reset()
        super().__init__(params, defaults)

    def _reset(self) -> None:
        self._guard = StepGuard()
        self._counted: list[dict[str, Any]] = []  # states whose step count the last step raised

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own; a refused group leaves the optimizer as it was.

        Args:
            param_group: "params" and any of the constructor's options.

        Raises:
            TypeError: if an option is unknown, or a matrix to get depth is complex, sparse or
                sharded.
            ValueError: if an option is out of range.
        """
        check_options({**self.defaults, **param_group}, self.defaults)
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            deque(self._matrices(group), maxlen=0)  # run the checks
        except TypeError:
            self.param_groups.pop()
            raise
        if group["momentum"] != 0:
            for parameter in group["params"]:
                self._init_momentum(parameter)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from a pickle, a copy or a checkpoint.

        Args:
            state: what torch.optim.Optimizer keeps: defaults, state and groups.
        """
        super().__setstate__(state)
        self._reset()

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state; of plain values and tensors alone.

        Returns:
            As torch.optim.Optimizer.state_dict.

        Raises:
            FloatingPointError: on a device, if the last step was refused (see the class).
        """
        self._settle()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint of this class or of torch.optim.SGD.

        Options that the checkpoint does not have, like the depth in one of torch.optim.SGD, stay
        as they are.

        Args:
            state_dict: what :meth:`state_dict` returned.

        Raises:
            ValueError: if the groups do not match.
        """
        options = [
            {key: value for key, value in group.items() if key in self.defaults}
            for group in self.param_groups
        ]
        super().load_state_dict(state_dict)
        for group, own in zip(self.param_groups, options, strict=True):
            for key in _TORCH_ONLY:
                group.pop(key, None)
            for key, value in own.items():
                group.setdefault(key, value)
            if group["momentum"] != 0:
                for parameter in group["params"]:
                    self._init_momentum(parameter)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient, or none.

        Args:
            closure: reevaluates the model and returns the loss.

        Returns:
            What the closure returned.

        Raises:
            FloatingPointError: if a weight, gradient or update of depth > 1 is not finite.
            torch.linalg.LinAlgError: if the SVD of a weight does not converge.
            TypeError: if a gradient of depth > 1 is sparse or complex.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._settle()
        directions = self._directions()
        verdict = self._guard.verdict()
        before = self._snapshot() if verdict is not None else []
        self._counted.clear()
        for group in self.param_groups:
            self._commit(group, directions)
        if verdict is not None:
            for tensor, old in before:
                tensor.copy_(torch.where(verdict, tensor, old))
        return loss

    def _settle(self) -> None:
        """Raise the error that the last step left on a device, taking its counts back."""
        try:
            self._guard.settle()
        except FloatingPointError:
            for state in self._counted:
                state["step"] -= 1
            self._counted.clear()
            raise

    def _directions(self) -> dict[Tensor, Tensor]:
        """Compute the descent direction of every matrix of depth > 1, changing nothing."""
        directions = {}
        for group in self.param_groups:
            for name, parameter in self._matrices(group):
                if parameter.grad is not None:
                    directions[parameter] = self._direction(name, parameter, parameter.grad, group)
        return directions

    def _direction(
        self, name: str, parameter: Tensor, grad: Tensor, group: dict[str, Any]
    ) -> Tensor:
        self._guard.admit(name, "weight", parameter)
        self._guard.admit(name, "gradient", grad)
        weight, grad = parameter.flatten(1), grad.flatten(1)
        if self._guard.waits(parameter):
            # LAPACK-like routines throw on NaN; the commit is masked, so the value does not matter
            weight = weight.nan_to_num(0, 0, 0)
        depth = float(group["depth"])
        try:
            with _without_autocast(parameter.device.type):
                direction = end_to_end_gradient(weight, grad, depth, group["rtol"]).direction
        except LinAlgError as error:
            raise LinAlgError(f"{name}: {error}") from error
        if group["maximize"]:
            direction.neg_()
        if group["weight_decay"] != 0:
            layers = 1.0 if depth == float("inf") else depth
            direction.add_(weight, alpha=layers * group["weight_decay"])
        self._guard.admit(name, "update", direction)
        return direction.reshape(parameter.shape)

    def _commit(self, group: dict[str, Any], directions: dict[Tensor, Tensor]) -> None:
        """Let torch's own SGD take the step along gradients and computed directions."""
        moving = [p for p in group["params"] if p.grad is not None]
        plain = [p for p in moving if p not in directions]
        # torch's foreach implementation (not used on CPUs) adds Nesterov's term to the gradients
        copies = group["nesterov"] and any(p.device.type != "cpu" for p in plain)
        grads = [grad.clone() if copies else grad for p in plain if (grad := p.grad) is not None]
        self._sgd(group, plain, grads, group["weight_decay"], group["maximize"], foreach=None)
        deep = [p for p in moving if p in directions]
        # the direction holds sign and decay already; it may be float32 beside a half parameter,
        # which foreach does not take
        self._sgd(group, deep, [directions[p] for p in deep], 0, maximize=False, foreach=False)

    def _sgd(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        weight_decay: float,
        maximize: bool,
        foreach: bool | None,
    ) -> None:
        if not params:
            return
        buffers: list[Tensor | None] = [None] * len(params)
        if group["momentum"] != 0:
            states = [self._init_momentum(p) for p in params]
            # torch's rule: the first step copies the gradient, without dampening
            buffers = [state["momentum_buffer"] if state["step"] else None for state in states]
        sgd(
            params,
            grads,
            buffers,
            has_sparse_grad=any(grad.is_sparse for grad in grads),
            foreach=foreach,
            weight_decay=weight_decay,
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=group["dampening"],
            nesterov=group["nesterov"],
            maximize=maximize,
        )
        if group["momentum"] != 0:
            for state, buffer in zip(states, buffers, strict=True):
                if not state["step"]:
                    state["momentum_buffer"].copy_(buffer)
                state["step"] += 1
            self._counted += states

    def _init_momentum(self, parameter: Tensor) -> dict[str, Any]:
        """Return the parameter's state, made now if need be: before a checkpoint is loaded into it.

        A buffer from a checkpoint of torch.optim.SGD has taken a step.
        """
        state: dict[str, Any] = self.state[parameter]
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(parameter)
            state["step"] = 0
        state.setdefault("step", 1)
        return state

    def _snapshot(self) -> list[tuple[Tensor, Tensor]]:
        """Copy what a step may change, so that a device flag can undo it without a wait."""
        changing = [p for group in self.param_groups for p in group["params"]]
        changing += [
            state["momentum_buffer"] for state in self.state.values() if "momentum_buffer" in state
        ]
        return [(tensor, tensor.clone()) for tensor in changing]

    def _matrices(self, group: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
        """Name the parameters of a group that depth acts on, refusing what it cannot act on."""
        if check_depth(group["depth"]) == 1:
            return
        for index, parameter in enumerate(group["params"]):
            if parameter.ndim >= 2 and parameter.numel() > 0:
                name = self._name(group, index)
                for what, tensor in (("parameter", parameter), ("gradient", parameter.grad)):
                    if tensor is not None:
                        _check_dense(name, what, tensor)
                yield name, parameter

    def _name(self, group: dict[str, Any], index: int) -> str:
        if "param_names" in group:
            return str(group["param_names"][index])
        number = next(i for i, other in enumerate(self.param_groups) if other is group)
        return f"parameter {index} of group {number}, shape {tuple(group['params'][index].shape)}"


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def _check_dense(name: str, what: str, tensor: Tensor) -> None:
    if tensor.layout is not torch.strided or not tensor.is_floating_point():
        raise TypeError(
            f"{name}: expected a dense real {what} at depth > 1 but got {tensor.dtype}, "
            f"{tensor.layout}; give its group depth=1"
        )
    if hasattr(tensor, "device_mesh"):
        raise TypeError(
            f"{name}: expected a {what} that lies whole on one device at depth > 1 but got "
            f"{type(tensor).__name__}; give its group depth=1"
        )
