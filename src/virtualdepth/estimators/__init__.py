"""Scikit-learn estimators on the end-to-end rule (level 2, extra ``estimators``)."""

from virtualdepth._extras import missing

try:
    import numpy  # noqa: F401
    import scipy  # noqa: F401
    import sklearn  # noqa: F401
    import tqdm  # noqa: F401
except ModuleNotFoundError as error:
    raise missing("virtualdepth.estimators", error, "estimators") from error

from virtualdepth.estimators._matrix_completion import MatrixCompletion

__all__ = ["MatrixCompletion"]
