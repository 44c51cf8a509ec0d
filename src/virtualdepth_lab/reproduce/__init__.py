"""Published experiments, rerun: ``virtualdepth reproduce`` (extra ``experiments``)."""
