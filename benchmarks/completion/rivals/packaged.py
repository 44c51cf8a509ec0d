"""Packages of others, measured where they are installed: cmfrec.

cmfrec (Cortes, arXiv 1809.00366) factorises with biases of rows and columns, by alternating least
squares in C. It is built from source: `pip install cmfrec` needs a C compiler.
"""

from importlib.util import find_spec
from itertools import product

import numpy as np
from benchmarks.completion.draws import Floats
from benchmarks.completion.rivals.held_out import Answer, choose

HAS_CMFREC = find_spec("cmfrec") is not None
RANKS, PENALTIES = (2, 5, 10), (0.3, 3.0, 10.0)


def cmfrec_fill(known: Floats, setting: tuple[int, float]) -> Floats:
    from cmfrec import CMF
    from scipy.sparse import coo_matrix

    rows, columns = np.nonzero(~np.isnan(known))
    rank, penalty = setting
    model = CMF(k=rank, lambda_=penalty, nthreads=1, verbose=False, random_state=0)
    values = known[rows, columns]
    model.fit(coo_matrix((values, (rows, columns)), shape=known.shape))
    all_rows, all_columns = (place.ravel() for place in np.indices(known.shape))
    return np.asarray(model.predict(all_rows, all_columns)).reshape(known.shape)


def cmfrec_held_out(known: Floats, rank: int | None, seed: int) -> Answer:
    """Rank and penalty by held-out entries."""
    settings = [s for s in product(RANKS, PENALTIES) if s[0] < min(known.shape)]
    chosen = choose(known, seed, settings, cmfrec_fill)
    return Answer(cmfrec_fill(known, chosen), note=f"{chosen}")
