"""Scikit-learn estimators on the end-to-end rule (level 2, extra ``estimators``)."""

from virtualdepth.estimators._matrix_completion import MatrixCompletion

__all__ = ["MatrixCompletion"]
