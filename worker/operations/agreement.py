"""How often something holds, with the interval that so few cases allow. Pure."""

from __future__ import annotations

from math import sqrt

#: Standard normal quantile of 0.975, for an interval that covers 95 %.
Z95 = 1.959963984540054


def wilson_interval(hits: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's score interval of a share: it stays within [0, 1] and holds for few cases, too.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, J. Am. Stat. Assoc. 22
    (1927) 209-212; recommended for small n by Brown, Cai and DasGupta, Statist. Sci. 16 (2001) 101-133.

    Args:
        hits: cases in which it holds, 0 to `n`.
        n: cases, at least 1.
        z: standard normal quantile.

    Raises:
        ValueError: there are no cases, or more hits than cases.
    """
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"{hits} of {n} is no share: there must be a case, and no more hits than cases")
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the formula gives 0 and 1 but for rounding.
    return (0.0 if hits == 0 else middle - half, 1.0 if hits == n else middle + half)
