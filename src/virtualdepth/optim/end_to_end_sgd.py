"""Gradient descent on one matrix that moves it as an N-layer linear network would.

Source: arXiv 1802.06509, Theorem 1.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from virtualdepth.maths import LinAlgError
from virtualdepth.optim.direction import descent_direction
from virtualdepth.optim.guard import StepGuard, only_if
from virtualdepth.optim.momentum import State, descend, init_momentum
from virtualdepth.optim.options import check_options, plain_number
from virtualdepth.optim.routing import matrices

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
        self._counted: list[State] = []  # their step counts stand or fall with the guard's verdict

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
            deque(matrices(group, len(self.param_groups) - 1), maxlen=0)  # run the checks
        except TypeError:
            self.param_groups.pop()
            raise
        self._states(group, group["params"])

    def __getstate__(self) -> dict[str, Any]:
        self._settle()
        return super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from a pickle, a copy or a checkpoint.

        Args:
            state: what torch.optim.Optimizer keeps: defaults, state and groups.
        """
        super().__setstate__(state)
        self.defaults.pop("differentiable", None)  # torch adds it; groups to come would have it
        self._reset()

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state; of plain values and tensors alone.

        Returns:
            As torch.optim.Optimizer.state_dict.

        Raises:
            FloatingPointError: on a device, if the last step was refused (see the class).
        """
        self._settle()
        for group in self.param_groups:
            # schedulers that count with another library leave its numbers here
            group.update({key: plain_number(value) for key, value in group.items()})
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
            self._states(group, group["params"])

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
            TypeError: if a gradient of depth > 1 is sparse, or an option of a group was changed
                to a wrong type.
            ValueError: if an option of a group was changed to a value out of range.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._settle()
        directions = self._directions()
        verdict = self._guard.verdict()
        if verdict is not None and self._has_sparse_gradients():
            # they cannot be masked, and their kernels wait for the device anyway
            self._settle()
            verdict = None
        for group in self.param_groups:
            self._commit(group, directions, verdict)
        return loss

    def _settle(self) -> None:
        """Raise the error that the last step left on a device, taking its counts back."""
        counted, self._counted = self._counted, []
        try:
            self._guard.settle()
        except FloatingPointError:
            for state in counted:
                state["step"] -= 1
            raise

    def _directions(self) -> dict[Tensor, Tensor]:
        """Compute the descent direction of every matrix of depth > 1, changing nothing."""
        directions = {}
        try:
            for number, group in enumerate(self.param_groups):
                for name, parameter in matrices(group, number):
                    if parameter.grad is not None:
                        directions[parameter] = self._direction(
                            name, parameter, parameter.grad, group
                        )
        except BaseException:
            self._guard.drop()  # no step was taken that the next one could judge
            raise
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
        try:
            direction = descent_direction(weight, grad, group)
        except LinAlgError as error:
            raise LinAlgError(f"{name}: {error}") from error
        self._guard.admit(name, "update", direction)
        return direction.reshape(parameter.shape)

    def _commit(
        self, group: dict[str, Any], directions: dict[Tensor, Tensor], verdict: Tensor | None
    ) -> None:
        moving = [(p, p.grad) for p in group["params"] if p.grad is not None]
        plain = [(p, grad) for p, grad in moving if p not in directions]
        # torch's foreach implementation (not used on CPUs) adds Nesterov's term to the gradients
        copies = group["nesterov"] and any(p.device.type != "cpu" for p, _ in plain)
        grads = [grad.clone() if copies else grad for _, grad in plain]
        self._descend(group, [p for p, _ in plain], grads, verdict)
        # the direction holds sign and decay already; it may be float32 beside a half parameter,
        # which foreach does not take; one by one, so that a mask keeps one matrix at a time
        finished = {**group, "weight_decay": 0, "maximize": False}
        for p, _ in moving:
            if p in directions:
                self._descend(finished, [p], [directions[p]], verdict, foreach=False)

    def _descend(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        verdict: Tensor | None,
        foreach: bool | None = None,
    ) -> None:
        states = self._states(group, params)
        if verdict is not None:
            self._counted += states
        with only_if(verdict, [*params, *(state["momentum_buffer"] for state in states)]):
            descend(params, grads, states, group, foreach)

    def _states(self, group: dict[str, Any], params: list[Tensor]) -> list[State]:
        """Return the momentum of some parameters of a group, made now if need be."""
        if group["momentum"] == 0:
            return []
        return [init_momentum(self.state[parameter], parameter) for parameter in params]

    def _has_sparse_gradients(self) -> bool:
        grads = (p.grad for group in self.param_groups for p in group["params"])
        return any(grad is not None and grad.is_sparse for grad in grads)
