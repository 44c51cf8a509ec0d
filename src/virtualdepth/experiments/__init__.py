"""Experiments on real data, each a function of its arguments (level 3; extra ``experiments``)."""
