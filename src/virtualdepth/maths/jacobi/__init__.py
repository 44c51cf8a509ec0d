"""Singular vectors that follow a matrix by matrix products (level 0)."""
