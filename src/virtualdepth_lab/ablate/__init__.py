"""Studies over depth and everything else: ``virtualdepth ablate`` (extra ``studies``)."""
