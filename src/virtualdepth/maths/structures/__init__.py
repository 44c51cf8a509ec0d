r"""The structures by name: no other module knows the names.

A structure says which blocks a parameter consists of. Layers constrained to a set of matrices that
is closed under sums, products and transposition move their product by the rule of each block:
transform to blocks, apply P_W there, transform back. Sources: arXiv 1806.00468, 2010.02501,
2002.09277, 2108.01538.
"""

from collections.abc import Mapping
from typing import Literal

from virtualdepth.maths.structures._circulant import Circulant
from virtualdepth.maths.structures._columns import Columns
from virtualdepth.maths.structures._diagonal import Diagonal
from virtualdepth.maths.structures._matrix import Matrix
from virtualdepth.maths.structures._protocol import Form, Structure
from virtualdepth.maths.structures._rows import Rows

__all__ = ["STRUCTURES", "Form", "Structure", "StructureName", "check_structure"]

StructureName = Literal["matrix", "rows", "columns", "diagonal", "circulant"]

STRUCTURES: Mapping[StructureName, Structure] = {
    "matrix": Matrix(),
    "rows": Rows(),
    "columns": Columns(),
    "diagonal": Diagonal(),
    "circulant": Circulant(),
}


def check_structure(structure: object, option: str = "structure") -> StructureName:
    """Return a valid name of a structure; refuse anything else by the name of the ``option``."""
    for name in STRUCTURES:
        if structure == name:
            return name
    raise ValueError(f"{option}: expected one of {', '.join(STRUCTURES)} but got {structure!r}")
