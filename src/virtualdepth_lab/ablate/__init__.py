"""Studies over depth and everything else: ``virtualdepth ablate`` (extra ``studies``).

- command: study_file makes a study, cells lists it, queue keeps it (storage, sampling), workers run
- worker: takes a cell; problems runs it: built_in (options, matrix) or lightning_cell, multi_device
- report: from the table, by summary and figures
"""
