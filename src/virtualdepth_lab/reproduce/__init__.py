"""Published experiments, rerun: one folder each, listed here by the name that the command takes.

A folder holds problem.py (what is solved), run.py (TITLE and ``run``), claims.py (the published
numbers, and what the rerun has to bear out) and figures.py (``draw``). Its ``__init__`` is the
door.
"""

from typing import NamedTuple


class Listed(NamedTuple):
    """What the list of experiments says of one."""

    line: str  # what is rerun, in a few words
    duration: str  # CPU time of the whole run with its seeds, on one thread
    data: str = ""  # the folder under --data-dir that it needs: data that do not ship
    one_seed: bool = False  # whether it uses one seed, the first


EXPERIMENTS = {
    "connectivity": Listed(
        "paths between trained networks on which the loss stays low",
        "3 min",
    ),
    "convergence": Listed(
        "the convergence theorem, and starts further and further from zero",
        "40 s",
        data="ethanol/",
    ),
    "image-inpainting": Listed(
        "an image from a fifth of its pixels, by depth and by two convex methods",
        "1 min",
        data="images/",
        one_seed=True,
    ),
    "kernels": Listed(
        "tangent kernels of wide networks and of depth, and digits by kernel regression", "80 s"
    ),
    "lp-regression": Listed(
        "where depth accelerates regression, and where it does not",
        "20 min",
        data="ethanol/",
    ),
    "margin": Listed("which margin depth enlarges: vectors, matrices, structures", "10 min"),
    "matrix-completion": Listed(
        "low-rank completion by depth, beside nuclear norm minimisation", "15 min"
    ),
    "mnist": Listed(
        "depth in the dense layers of a convolutional network", "20 min", data="mnist/"
    ),
    "no-regulariser": Listed("no regulariser gives the rule: its curl and its work", "5 s"),
    "norms": Listed("the norm that depth minimises where measurements commute", "20 s"),
    "schatten-decay": Listed("weight decay at a depth as a penalty on the rank", "8 min"),
    "singular-values": Listed(
        "singular values over a run, beside the theory's equation", "5 min", one_seed=True
    ),
    "structures": Listed(
        "rows, columns, entries and frequencies, and layers of unequal size", "10 min"
    ),
    "tensor-factorization": Listed(
        "tensors from a fifth of their entries: components grow one by one",
        "2 min",
    ),
}
