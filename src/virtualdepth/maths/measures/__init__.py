"""Measures of matrices: spectrum, alignment, gap, completion, margin (level 0)."""
