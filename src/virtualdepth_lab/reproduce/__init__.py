"""Published experiments, rerun: one folder each, listed here by the name that the command takes.

A folder holds problem.py (what is solved), run.py (TITLE and ``run``), claims.py (the published
numbers, and what the rerun has to bear out) and figures.py (``draw``). Its ``__init__`` is the
door.
"""

EXPERIMENTS = (
    "convergence",
    "image-inpainting",
    "lp-regression",
    "margin",
    "matrix-completion",
    "mnist",
    "no-regulariser",
    "norms",
    "schatten-decay",
    "singular-values",
    "structures",
)
ONE_SEED = ("image-inpainting", "singular-values")  # they use one seed, the first
