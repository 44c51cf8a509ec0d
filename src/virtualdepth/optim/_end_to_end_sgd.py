"""Gradient descent on one matrix that moves it as an N-layer linear network would.

Source: arXiv 1802.06509, Theorem 1.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from virtualdepth.optim._auto_step import check_auto
from virtualdepth.optim._commit import (
    Counted,
    commit_matrices,
    commit_plain,
    init_state,
    is_maskable,
)
from virtualdepth.optim._computation import check_matrices, group_step
from virtualdepth.optim._directions import GroupStep
from virtualdepth.optim._guard import StepGuard
from virtualdepth.optim._layers import LayersMemory
from virtualdepth.optim._options import check_options, plain_number
from virtualdepth.optim._parts import parts
from virtualdepth.optim._sharded import agreed_steps
from virtualdepth.optim._tracked import settle_tracked

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

    Parameters that lie on several processes, in the DTensors of torch's ``fully_shard`` and tensor
    parallelism, move as on one. A step is then whole or not at all on all of these processes, and
    each of them has to take it. :func:`virtualdepth.routing` shows what it sends.

    Args:
        params: parameters, named parameters, or groups (dicts with their own options).
        lr: learning rate eta >= 0, a number or a 1-element tensor.
        depth: number of layers N, real, 1 <= N <= inf.
        momentum: as in torch.optim.SGD, on the preconditioned gradient.
        dampening: as in torch.optim.SGD.
        weight_decay: lambda, the decay on every one of the N layers: N * lambda on W.
        nesterov: as in torch.optim.SGD.
        maximize: ascend instead.
        step_scale: what multiplies P_W(G), never the decay. "raw": 1, the theorem. "unit": 1 over
            the largest eigenvalue N sigma_1^{2-2/N} of P_W, so that a learning rate that is stable
            for SGD is stable at every depth and scale of W, and at most what changes a singular
            value by ``cap``; see :func:`virtualdepth.maths.unit_scale`. "rms": one over the root of
            a running mean of <G, P_W(G)>, summed over the group's matrices: the published step rule
            of arXiv 1905.13655. "auto": no learning rate (``lr`` is ignored, unless it is 0):
            L-BFGS in the metric of the rule, one step for the group, shortened to change no
            singular value by more than ``cap``; where that is to less than half, a step along the
            flow instead, as long as ``cap`` and the last step's curvature allow (without it, as at
            infinite depth, by the norm of W at most), and for four steps no other; see
            :func:`virtualdepth.maths.quasi_newton`. For gradients of the full batch
            only, and best with a closure, whose loss lets it halve a step that went too far. On
            mini-batches it stalls or wanders; it warns when gradients change as they do there. It
            keeps 2 x 5 matrices for each parameter.
        cap: for "unit" and "auto": the largest relative change of a singular value by P_W(G) in one
            step; with momentum mu it adds up to cap / (1 - mu) at most. A quasi-Newton step of
            "auto" counts it from the singular value plus a share of the largest.
        solver: how the step is computed. "svd": P_W(G) exactly, by one thin SVD a step. "layers":
            the discrete network of N layers (integer N >= 2), kept as balanced factors in the
            state: gradient descent on them, not its limit of small rates, by 3 (N - 1) matrix
            products a step, with momentum and decay on each factor. A weight that something else
            has changed is factored anew, balanced, its momenta at zero; :func:`routing` counts
            that. "tracked": singular vectors that follow W, by 8 to 15 products a step that moves W
            by a third of a percent, 14 to 24 where it moves W by a percent, and an SVD where they
            cannot follow; the error of P_W(G) is estimated at each step, and was below 1e-3 of it
            in runs on a CPU. A device learns one step late that W moved too far or was changed from
            outside: that one step may be wrong by a tenth or more.
            "polar": depth 2 without a decomposition, by 24 to 30 products; the error is about the
            root of the machine epsilon at most, relative to the largest eigenvalue of P_W. "auto"
            chooses, never "layers".
        rtol: singular values <= rtol * (the largest) count as 0; see
            :func:`virtualdepth.precondition`.
        origin: None: P of W. "init": P of W - W(0), where W(0) is W at the first step, so that the
            change of a pretrained layer has the bias to low rank; decay pulls to W(0). A small
            random start of standard deviation ``origin_scale / sqrt(n)`` (an option of the group,
            1e-3) is added to W once, since the rule stands still at a change of zero. It is the
            same in every run. Not for half precision, where
            rounding would drown the change.

    Raises:
        TypeError: if an option is unknown or of the wrong type, or a matrix to get depth is
            complex or sparse, or lies on processes in a way that is not supported.
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
        cap: float = 0.05,
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
            "cap": cap,
            "solver": solver,
            "rtol": rtol,
            "origin": origin,
            "origin_scale": 1e-3,
            "scheme": "auto",
            "hidden_features": None,
            "conv_groups": 1,
            "blocks": 1,
            "transposed": False,
        }
        check_options(defaults, defaults)
        self._reset()
        super().__init__(params, defaults)

    def _reset(self) -> None:
        self._guard = StepGuard()
        self._compared = False  # whether all processes are known to have the same parameters
        self._layers: LayersMemory = {}
        self._counted: Counted = []  # what stands or falls with the guard's verdict

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own; a refused group leaves the optimizer as it was.

        Args:
            param_group: "params" and any of the constructor's options; also "origin_scale",
                "hidden_features" (for "layers": one width or N - 1, default min(m, n)), the
                keys that :func:`virtualdepth.param_groups` writes, and "scheme": how parameters
                that lie on several processes are preconditioned, "gram", "gather" or "owner",
                default "auto"; see :class:`virtualdepth.distributed.Scheme`.

        Raises:
            TypeError: if an option is unknown, or a matrix to get depth is complex or sparse, or
                lies on processes in a way that is not supported.
            ValueError: if an option is out of range, or a matrix does not divide into blocks.
        """
        check_options({**self.defaults, **param_group}, self.defaults)
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            deque(check_matrices(group, len(self.param_groups) - 1), maxlen=0)
            check_auto(group)
            parts(self.param_groups)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        self._compared = False
        init_state(group, self.state)

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
            TypeError: if parameters lie on several processes, and the momenta loaded do not.
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
            init_state(group, self.state)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    # what waits for numbers on the host would only be cut to pieces by a compiler
    @_disable_dynamo
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient, or none.

        Args:
            closure: reevaluates the model and returns the loss.

        Returns:
            What the closure returned.

        Raises:
            FloatingPointError: if a weight, gradient or update of depth > 1 is not finite.
            RuntimeError: if processes that hold parts of parameters do not have the same parameters
                and options, or do not have gradients of the same ones.
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
        steps = self._compute(loss)
        verdict = self._guard.verdict()
        if verdict is not None and not is_maskable(self.param_groups, self.state):
            self._settle()
            verdict = None
        # torch may refuse a plain step, of a sparse gradient say: before any matrix has moved
        for group, step in zip(self.param_groups, steps, strict=True):
            self._counted += commit_plain(group, step, self.state, verdict)
        for group, step in zip(self.param_groups, steps, strict=True):
            self._counted += commit_matrices(group, step, self.state, self._layers, verdict)
        return loss

    def _settle(self) -> None:
        """Raise the error that the last step left on a device, taking its counts back."""
        counted, self._counted = self._counted, []
        try:
            self._guard.settle()
        except FloatingPointError:
            for state, before in counted:
                state.update(before)
            raise
        settle_tracked(self.state.values())

    def _compute(self, loss: float | None) -> list[GroupStep]:
        """Compute the step of every matrix of depth > 1, changing nothing."""

        def local_steps() -> list[GroupStep]:
            return [
                group_step(number, group, self.state, self._layers, loss, self._guard)
                for number, group in enumerate(self.param_groups)
            ]

        try:
            sharded = parts(self.param_groups)
            if not sharded:
                return local_steps()
            steps = agreed_steps(
                self.param_groups, sharded, local_steps, self._guard, first=not self._compared
            )
        except BaseException:
            self._guard.drop()  # no step was taken that the next one could judge
            raise
        self._compared = True
        return steps
