"""The example of one measurement, <diag(0.6, 1), W> = 5, and its closed forms.

Source: the slides of 2019, pages 30 and 31.
"""

import torch

from virtualdepth.optim import EndToEndSGD

RHO, START, TARGET = (0.6, 1.0), 0.01, 5.0
# learning rates; at depth 1 the weight moves on a straight line, whatever the rate
RATES = {1: 1e-2, 2: 1e-4, 3: 1e-4, 4: 1e-4}


def solve_one_measurement(depth: int, most: float) -> tuple[float, float]:
    """Train from 0.01 I to a residual of at most ``most``; return s_1 and s_2."""
    matrix = torch.diag(torch.tensor(RHO, dtype=torch.float64))
    weight = torch.nn.Parameter(START * torch.eye(2, dtype=torch.float64))
    optimizer = EndToEndSGD([weight], lr=RATES[depth], depth=depth)
    residual = -TARGET
    while abs(residual) > most:
        residual = float((matrix * weight.detach()).sum() - TARGET)
        weight.grad = residual * matrix
        optimizer.step()
    first, second = weight.detach().diagonal().tolist()
    return first, second


def closed_form(second: float, depth: int) -> float:
    """Return s_1 as the theory's function of s_2.

    >>> closed_form(4.9443, 3)
    0.0928
    """
    alpha = RHO[0] / RHO[1]
    if depth == 1:
        return START + alpha * (second - START)
    if depth == 2:
        return float(START * (second / START) ** alpha)
    power = (depth - 2) / depth
    inverse = START**-power + alpha * (second**-power - START**-power)
    return float(inverse ** (-1 / power))
