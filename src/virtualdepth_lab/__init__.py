"""The laboratory: published experiments rerun, and studies over depth (extra ``experiments``).

A program on top of virtualdepth, started by ``virtualdepth reproduce`` and ``virtualdepth ablate``.
"""
