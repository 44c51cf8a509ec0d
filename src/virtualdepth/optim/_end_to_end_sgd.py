"""Gradient descent on one matrix that moves it as an N-layer linear network would.

Source: arXiv 1802.06509, Theorem 1.
"""

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from virtualdepth.maths import StructureName
from virtualdepth.optim._init_state import drop_empty, even_out, init_state
from virtualdepth.optim._loading import check_state, keep_precision, replace_removed, whole_load
from virtualdepth.optim._matrices import Counts, align_counts, learn_counts, learn_names
from virtualdepth.optim._options import (
    OPTIONS,
    OriginName,
    check_group,
    check_keys,
    check_names,
    check_values,
    plain_number,
)
from virtualdepth.optim._step import Session, take_step, without_autocast
from virtualdepth.optim.sharded import parts
from virtualdepth.optim.solvers import SolverName
from virtualdepth.optim.step_scales import StepScaleName

# keys of torch.optim.SGD's checkpoints that choose an implementation, not a result
_TORCH_ONLY = frozenset({"foreach", "fused", "differentiable"})


class EndToEndSGD(Optimizer):
    r"""Stochastic gradient descent by the end-to-end rule of an N-layer linear network.

    Every matrix W (m x n) of a group with ``depth=N`` moves as the product of N layers would under
    gradient descent with a small learning rate, from a balanced start. No parameter is added:

    .. math::
        W \leftarrow (1 - \eta \lambda N)\, W - \eta\, P_W(G), \qquad
        P_W(G) = \sum_{j=1}^{N} [W W^\top]^{(N-j)/N}\, G\, [W^\top W]^{(j-1)/N}.

    A convolution kernel is the matrix [out, in * height * width]. Parameters of fewer than two
    dimensions, and groups of depth 1, move exactly as under ``torch.optim.SGD``. At infinite depth
    the step is the limit of P_W(G) / N, and the decay is :math:`\lambda`. Options are live:
    ``group["depth"] = 3`` takes effect at the next step.

    A step is whole or not at all. If one update cannot be computed, or a new weight or momentum
    would leave the range of its dtype, no weight and no state changes. This holds for biases too,
    in a step that moves a matrix of depth > 1. On the CPU the error is raised at once. On other
    devices reading a result would wait for the device, so the error is raised one step late;
    weights are unchanged there too.

    Parameters may lie on several processes, as the DTensors of ``fully_shard`` and of tensor
    parallelism. They move as on one process. Every process has to take each step. It is whole on
    all of them, or not at all. :func:`virtualdepth.routing` shows what a step sends.

    Without momentum there is no state, unless an option below says so.

    Args:
        params: parameters, named parameters, or groups (dicts with their own options).
        lr: learning rate eta >= 0, a number or a 1-element tensor.
        depth: number of layers N, real, 1 <= N <= inf.
        momentum: as in torch.optim.SGD, on the preconditioned gradient.
        dampening: as in torch.optim.SGD.
        weight_decay: lambda, the decay of each of the N layers: N * lambda on W.
        nesterov: as in torch.optim.SGD.
        maximize: ascend instead.
        step_scale: what multiplies P_W(G), but not the decay.

            - "raw": 1, as in the theorem.
            - "unit": 1 over the largest eigenvalue N sigma_1^{2-2/N} of P_W. It is less where a
              step would change a singular value by more than the share ``cap``. A learning rate
              that is stable for SGD is then stable at every depth and scale of W. See
              :func:`virtualdepth.maths.unit_scale`.
            - "rms": 1 over the root of a running mean of the inner product of G and P_W(G), summed
              over the matrices of the group. This is the published step rule of arXiv 1905.13655.
            - "auto": no learning rate. ``lr`` is ignored, unless it is 0. It needs gradients of
              the full batch: on mini-batches it stalls or wanders, and warns if gradients look like
              those of mini-batches. Each step is one L-BFGS step for the group, in the metric of
              the rule. It is shortened so that no singular value changes by more than ``cap``. If
              less than half of it would be left, this step and the next four follow the flow
              instead, for as long as ``cap`` and the curvature of the last step allow. Without a
              curvature, and at infinite depth, the norm of W limits them. Pass a closure: with its
              loss "auto" can halve a step that went too far. The state is 2 x 5 matrices for each
              parameter. See :func:`virtualdepth.maths.quasi_newton`.
        cap: for "unit" and "auto": the largest relative change of a singular value by P_W(G) in one
            step. With momentum mu the changes add up to at most cap / (1 - mu). For a quasi-Newton
            step of "auto" the change is relative to the singular value plus a share of the largest.
        solver: how a step is computed.

            - "svd": P_W(G) exactly, by one thin SVD a step. No state.
            - "layers": the discrete network of N layers (integer, 2 <= N <= 1000), as balanced
              factors in the state: gradient descent on the factors, not its limit of small rates.
              Momentum and decay act on each factor. A step takes 3 (N - 1) matrix products. If
              something else changes the weight, the next step makes new balanced factors, with
              momenta of zero. :func:`virtualdepth.routing` counts how often.
            - "tracked": singular vectors in the state that follow W, by 8 to 15 matrix products in
              a step that moves W by a third of a percent, and 14 to 24 where by a percent. If they
              cannot follow, an SVD replaces them. The error of P_W(G) is estimated at each step; it
              was below 1e-3 in runs on a CPU. On other devices it is known one step late that W
              moved too far, or was changed. That one step may be wrong by a tenth or more.
            - "auto": the optimizer chooses; it never chooses "layers".
        rtol: singular values <= rtol * (the largest) count as 0; see
            :func:`virtualdepth.precondition`.
        origin: the matrix that stands for W in the rule.

            - None: W itself.
            - "init": the change W - W(0), where W(0) is W at the first step. So the change of a
              pretrained layer has the bias to low rank, and decay pulls W to W(0). Without
              ``imbalance`` a change of zero would never move, so a small random start is added to W
              once, the same in every run. Its standard deviation is ``origin_scale / sqrt(n)`` (an
              option of the group, 1e-3). Half precision is refused: its rounding is larger.
        structure: the blocks that the rule acts in, as N layers with such blocks would.

            - "matrix": the matrix W.
            - "rows" or "columns": each row, or column, of W by itself; the layers are N - 1 gates
              and one vector each. Favours few rows, or columns.
            - "diagonal": each entry by itself, of a parameter of any shape. Favours few entries.
            - "circulant": each frequency of a parameter (..., k) along its last axis; the layers
              are circular convolutions of length k. Favours few frequencies. A kernel (m, n, k,
              ...) is transformed over k, ...; each frequency is an m x n matrix.

            All blocks of a parameter have one step scale, the least of theirs. Vectors take part
            where they have such blocks: "diagonal" and "circulant".
        imbalance: lambda >= 0, how much smaller one layer is than the N - 1 others. The layers have
            squared singular values t and, N - 1 times, :math:`t + \lambda`, where
            :math:`\sigma^2 = t (t + \lambda)^{N-1}`. Gradient flow conserves lambda. P of a zero
            matrix is :math:`\lambda^{N-1} G`: zero-initialised layers, and the change since an
            ``origin``, need no random start. At 0 the layers are balanced; at large lambda the rule
            is plain gradient descent. The unit is that of a singular value to the power 2 / N.
            Under "unit" and "auto" the cap counts from :math:`\sigma_r + \lambda^{N/2}`. Weight
            decay keeps lambda; solver "layers" shrinks it. See :func:`virtualdepth.depth_kernel`.
        precondition_frequency: W is decomposed at every so many steps. Between, P acts in the last
            basis: P_{W'}(G) of the W' of that step, by four matrix products. At 1 every step is
            exact. Matrices take turns, so that steps take equal time. A change of W from outside,
            or of ``depth``, is seen at once; on a device a write to ``p.data`` is not. The state
            keeps the basis. Rows, columns and numbers have none: there the option changes nothing.
        **others: the other options of a group, see :meth:`add_param_group`.

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
        step_scale: StepScaleName = "raw",
        cap: float = 0.05,
        solver: SolverName = "auto",
        rtol: float | None = None,
        origin: OriginName | None = None,
        structure: StructureName = "matrix",
        imbalance: float = 0.0,
        precondition_frequency: int = 1,
        **others: Any,
    ) -> None:
        check_names(others)
        given = {**locals(), **others}
        defaults = {name: given.get(name, option.default) for name, option in OPTIONS.items()}
        check_values(defaults)
        self._depth_session = Session()
        self._depth_counts: Counts = {}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own; a refused group leaves the optimizer as it was.

        Args:
            param_group: "params" and any of the constructor's options; also "origin_scale",
                "hidden_features" (for "layers": one width or N - 1, default min(m, n)), "scheme"
                (how parameters that lie on several processes are preconditioned: "gram", "gather",
                "owner" or "auto", the default; see :class:`virtualdepth.distributed.Scheme`), and
                the keys that :func:`virtualdepth.param_groups` writes. Keys of other libraries are
                kept.

        Raises:
            TypeError: if a key is almost an option's name, or a matrix to get depth is complex or
                sparse, or lies on processes in a way that is not supported.
            ValueError: if an option is out of range, or a matrix does not divide into blocks.
        """
        check_values({**self.defaults, **param_group})
        check_keys(param_group, known=self.defaults)  # a subclass may have some of its own
        super().add_param_group(param_group)
        group, number = self.param_groups[-1], len(self.param_groups) - 1
        learn_names(zip(group.get("param_names", ()), group["params"], strict=False))
        try:
            parts(self.param_groups)
            check_group(group, number)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        learn_counts(group, self._depth_counts)
        init_state(group, number, self.state)

    def __getstate__(self) -> dict[str, Any]:
        self._depth_session.finite.raise_pending()
        for group in self.param_groups:
            align_counts(group, self._depth_counts)
        return super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from a pickle, a copy or a checkpoint.

        Args:
            state: what torch.optim.Optimizer keeps: defaults, state and groups.
        """
        super().__setstate__(state)
        replace_removed([self.defaults, *self.param_groups])
        self.defaults.pop("differentiable", None)  # torch adds it; groups to come would have it
        before = vars(self).get("_depth_session")
        self._depth_session = Session() if before is None else Session(replicas=before.replicas)
        self._depth_counts = {}
        for group in self.param_groups:
            learn_counts(group, self._depth_counts)

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state, of plain values and tensors only.

        Returns:
            As torch.optim.Optimizer.state_dict.

        Raises:
            FloatingPointError: on a device, if the last step was refused (see the class).
        """
        self._depth_session.finite.raise_pending()
        for group in self.param_groups:
            # schedulers that count with another library leave its numbers here
            group.update({key: plain_number(value) for key, value in group.items()})
            align_counts(group, self._depth_counts)
        return even_out(super().state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint of this class or of torch.optim.SGD, as a whole or not at all.

        Options that the checkpoint does not have, like the depth in one of torch.optim.SGD, stay
        as they are.

        Args:
            state_dict: what :meth:`state_dict` returned.

        Raises:
            TypeError: if parameters lie on several processes and the loaded momenta do not, or if
                state has a dtype of another kind.
            ValueError: if the groups do not match, an option is out of range, or state has another
                shape than its parameter or is not finite.
        """
        options = [
            {key: value for key, value in group.items() if key in self.defaults}
            for group in self.param_groups
        ]
        with whole_load(self, state_dict):
            super().load_state_dict(state_dict)
            keep_precision(state_dict, self.param_groups, self.state)
            for number, (group, own) in enumerate(zip(self.param_groups, options, strict=True)):
                for key in _TORCH_ONLY:
                    group.pop(key, None)
                group.update({**own, **group})
                check_values(group)
                check_state(group, number, self.state)
                init_state(group, number, self.state)
            drop_empty(self.param_groups, self.state)

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
            FloatingPointError: if a weight, gradient, update or new weight is not finite, or the
                loss is not with step_scale="auto". At depth 1 alone nothing is checked.
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
        for group in self.param_groups:
            if "matrix_counts" in group:
                align_counts(group, self._depth_counts)
        with without_autocast(self.param_groups):
            take_step(self.param_groups, self.state, self._depth_session, loss)
        return loss
