"""The neural tangent kernel of any model, under gradient descent or under ``EndToEndSGD``.

Source: Jacot, Gabriel, Hongler, NeurIPS 2018, arXiv 1806.07572 (the kernel); arXiv 1802.06509,
Theorem 1 (what depth makes of it).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from virtualdepth.optim import EndToEndSGD, Preconditioning, preconditioners


def model_tangent_kernel(
    model: nn.Module,
    inputs: Tensor,
    others: Tensor | None = None,
    optimizer: EndToEndSGD | None = None,
) -> Tensor:
    r"""Evaluate the tangent kernel of a model: how a step on a sample moves the outputs.

    .. math:: \Theta(x, x') = \sum_p J_p(x)\, P_p\, J_p(x')^\top,
        \qquad J_p(x) = \partial f(x) / \partial p,

    over the parameters p. :math:`P_p` is :math:`P_W` of :class:`virtualdepth.EndToEndSGD`, and 1
    for a plain parameter. So a small step on a sample x' whose loss has the gradient g in the
    outputs moves f(x) by :math:`-\eta\, \Theta(x, x')\, g`. The kernel equals that of the model
    with N balanced layers in place of each matrix of depth N.

    Options of the groups that say what P is (depth, structure, imbalance, ``rtol``, origin) count.
    Learning rate, step scale, momentum and decay do not: they say how far a step goes.

    Args:
        model: maps a batch to outputs, each of one sample of the batch. Layers that join samples or
            draw at random, such as batch normalisation and dropout, must be in ``eval`` mode. It is
            not changed.
        inputs: x, (samples, ...).
        others: x', (others, ...); default: ``inputs``.
        optimizer: whose P_W to use; parameters that it does not hold do not move. Default: gradient
            descent on all parameters.

    Returns:
        (samples, others, outputs, outputs), of outputs of any shape, flattened, in the dtype of the
        parameters. Frozen parameters have no share. Memory holds every derivative: (samples +
        others) * outputs numbers for each parameter.

    Raises:
        TypeError: if the model is no module or has not one tensor of outputs, an input is no
            tensor, or the optimizer is not an EndToEndSGD.
        ValueError: if no parameter of the model is trained, or a matrix is not finite.
        torch.linalg.LinAlgError: if an SVD does not converge.

    Source: arXiv 1806.07572; arXiv 1802.06509, Theorem 1.

    >>> import virtualdepth as vd
    >>> model = torch.nn.Linear(2, 2)
    >>> _ = model.load_state_dict({"weight": torch.diag(torch.tensor([4.0, 9.0])),
    ...                            "bias": torch.zeros(2)})
    >>> x = torch.tensor([[1.0, 1.0]])
    >>> model_tangent_kernel(model, x)[0, 0]  # x.x + 1, of weight and bias
    tensor([[3., 0.],
            [0., 3.]])
    >>> optimizer = vd.EndToEndSGD(model.parameters(), depth=2)
    >>> model_tangent_kernel(model, x, optimizer=optimizer)[0, 0]  # 2 |W| + 13, and 1 of the bias
    tensor([[22.0000,  0.0000],
            [ 0.0000, 32.0000]])
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module but got {type(model).__name__}")
    for what, given in (("inputs", inputs), ("others", inputs if others is None else others)):
        if not isinstance(given, Tensor):
            raise TypeError(f"{what}: expected a tensor but got {type(given).__name__}")
    maps = None if optimizer is None else preconditioners(optimizer)
    trained = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (maps is None or parameter in maps)
    }
    if not trained:
        raise ValueError(
            "model: expected parameters that are trained but got none; unfreeze some, or give the "
            "optimizer those of this model"
        )
    first = _jacobians(model, trained, inputs)
    second = first if others is None else _jacobians(model, trained, others)
    kernel = torch.zeros(())
    for name, parameter in trained.items():
        moved = _moved(second[name], None if maps is None else maps[parameter])
        kernel = kernel + torch.einsum("iap,jbp->ijab", first[name].flatten(2), moved.flatten(2))
    return kernel


def _jacobians(
    model: nn.Module, trained: Mapping[str, Tensor], inputs: Tensor
) -> dict[str, Tensor]:
    """Differentiate the outputs of each sample, (samples, outputs, *shape) for each parameter."""
    constants = {
        name: tensor.detach()
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
        if name not in trained
    }

    def outputs(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
        found: Tensor = functional_call(model, (parameters, constants), (sample.unsqueeze(0),))
        if not isinstance(found, Tensor):
            raise TypeError(f"model: expected one tensor of outputs but got {type(found).__name__}")
        return found.reshape(-1)

    variables = {name: tensor.detach() for name, tensor in trained.items()}
    found: dict[str, Tensor] = vmap(jacrev(outputs), in_dims=(None, 0))(variables, inputs)
    return found


def _moved(jacobian: Tensor, preconditioning: Preconditioning | None) -> Tensor:
    """Apply P to the derivatives of every output, (samples, outputs, *shape)."""
    if preconditioning is None:
        return jacobian
    rows = [preconditioning(row) for row in jacobian.flatten(0, 1)]
    return torch.stack(rows).view_as(jacobian)
