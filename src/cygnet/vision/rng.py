"""Random generators made from a seed and a row's own key.

Spark decides which worker handles a row, in what order and how often. Each row therefore gets a generator of its own,
which depends on the seed and the row's key only.
"""

import hashlib

import numpy as np


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """Make the generator of one row.

    Args:
        seed: The seed from the parameters.
        key: Identifies the row: `"swan/000012", "polygon", 0`.

    Returns:
        A generator that is the same for the same arguments, on every machine.
    """
    digest = hashlib.blake2b(repr((seed, *key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
