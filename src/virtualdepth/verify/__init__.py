"""The main job, ``virtualdepth verify``: one layer beside an explicit deep network (level 3)."""
