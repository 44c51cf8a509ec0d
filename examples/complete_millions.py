"""Complete a table of 50,000 x 5,000 from 5 million of its 250 million entries, with noise.

The table is given as a list of entries and stays a product of factors: nothing of its size is made.
The default takes minutes of CPU time and some GiB of memory; --entries takes a smaller table.

Usage: python complete_millions.py [--entries 5000000]
"""

import argparse
import resource
from time import process_time

import numpy as np

from virtualdepth.estimators import MatrixCompletion

RANK, NOISE = 10, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=5_000_000, metavar="N")
    count = parser.parse_args().entries
    m, n = count // 100, count // 1000  # a hundred entries a row

    generator = np.random.default_rng(0)
    left = generator.normal(size=(m, RANK))
    right = generator.normal(size=(n, RANK)) / RANK**0.5
    places = np.unique(generator.integers(0, m * n, size=count))
    rows, columns = np.divmod(places, n)
    truth = np.concatenate(
        [
            np.einsum("ij,ij->i", left[i], right[j])
            for i, j in zip(*(np.array_split(k, 100) for k in (rows, columns)), strict=True)
        ]
    )
    values = truth + NOISE * generator.normal(size=truth.shape)

    begin = process_time()
    model = MatrixCompletion(random_state=0, verbose=1)
    model.fit_entries(rows, columns, values, shape=(m, n))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = process_time() - begin
    print(f"{len(values)} entries of {m} x {n}: rank {model.rank_}, {seconds:.1f} CPU s")
    print(f"peak memory {peak:.2f} GiB")
    print(f"noise {np.sqrt(np.mean(model.noise_variance_)):.4f}; the truth {NOISE}")

    # entries that nobody observed: the estimate, and how far off it says that it may be
    i, j = generator.integers(0, m, size=100_000), generator.integers(0, n, size=100_000)
    found, deviation = model.predict(i, j, return_std=True)
    error = found - np.einsum("ij,ij->i", left[i], right[j])
    ideal = NOISE * np.sqrt(RANK * (m + n - RANK) / len(values))
    print(f"relative error {np.sqrt(np.mean(error**2)):.4f}; by a count of parameters {ideal:.4f}")
    print(f"that of zeros, the column means: {np.sqrt(np.mean((found - error) ** 2)):.4f}")
    print(f"share in the 95 % intervals {np.mean(abs(error) <= 1.96 * deviation):.3f}")


if __name__ == "__main__":
    main()
