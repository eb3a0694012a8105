"""HiPPO-LegS: the matrix whose states remember a signal by its Legendre coefficients (Gu et al. 2020), diagonal.

    A_nk = −√(2n+1) √(2k+1) for n > k,  −(n+1) for n = k,  0 above;   B_n = √(2n+1)

A is normal but for a matrix of rank 1: A = S − P Pᵀ with P_n = √(n + ½) and S = −½ I + a skew-symmetric matrix, so S is
diagonal in a unitary basis V. S4D (Gu et al. 2022) leaves the rank-1 part out and starts from the eigenvalues of S,
which come in conjugate pairs; one of each pair is kept, and twice the real part stands for both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def legs(pairs: int) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Return `[pairs]` eigenvalues with positive imaginary part, lowest first, and B in their basis.

    Args:
        pairs: half the number of states.
    """
    n = np.arange(2 * pairs)
    root = np.sqrt(2 * n + 1.0)
    matrix = -np.tril(np.outer(root, root), -1) - np.diag(n + 1.0)
    normal = matrix + np.outer(root, root) / 2  # P Pᵀ, for n + ½ = (2n + 1) / 2
    # i·(the skew-symmetric part) is Hermitian: its eigenvalues are real, its eigenvectors orthogonal, to rounding.
    values, vectors = np.linalg.eigh(-1j * (normal + 0.5 * np.eye(2 * pairs)))
    kept = values > 0
    return -0.5 + 1j * values[kept], vectors.conj().T[kept] @ root
