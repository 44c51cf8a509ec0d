"""Find the files of a data set; nothing is downloaded."""

import os
from pathlib import Path

from virtualdepth.runs import UnusableError

DATA_VARIABLE = "VIRTUALDEPTH_DATA"


def find_file(data_dir: str | None, *names: str, source: str) -> Path:
    """Return the first of ``names`` that is a file under the folder of the data.

    That folder is ``data_dir``, by default the environment variable VIRTUALDEPTH_DATA.
    ``source`` says in an error where the file is from.
    """
    wanted = " or ".join(names)
    folder = data_dir or os.environ.get(DATA_VARIABLE)
    if not folder:
        raise UnusableError(
            "data_dir",
            f"expected the folder that holds {wanted} but got none; name it, or set "
            f"{DATA_VARIABLE}",
        )
    for name in names:
        if (path := Path(folder, name)).is_file():
            return path
    raise UnusableError(
        "data_dir",
        f"expected a folder with the file {wanted} ({source}) but got no such file in {folder}; "
        "put it there by python -m virtualdepth_lab.prepare_data",
    )
