"""How many users an experiment needs.

By the normal approximation. In each arm n = (z(1 - α/2) + z(power))² · (variance of A + variance
of B) / difference²; for a sign test n = ((z(1 - α/2) / 2 + z(power) · √(q (1 - q))) / (q - 1/2))²
users who prefer one arm, of whom a share q prefers the better one.
"""

from math import ceil, log2, sqrt
from typing import Any

from neuralrank.errors import InvalidInput, Unsupported
from neuralrank.extras import install

__all__ = ["scipy_stats", "users_for_difference", "users_for_lift", "users_for_preference"]


def users_for_difference(
    difference: float,
    variance_a: float,
    variance_b: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
) -> int:
    """Users in each arm that tell a difference of means from chance.

    Raises:
        InvalidInput: power or alpha is not between 0 and 1, or there is no difference.
        Unsupported: scipy is not installed.
    """
    if not difference:
        raise InvalidInput("The difference is 0; no number of users shows that there is none.")
    sure, strong = _z(power, alpha)
    return max(2, ceil((sure + strong) ** 2 * (variance_a + variance_b) / difference**2))


def users_for_lift(
    rate: float,
    lift: float,
    *,
    deviation: float | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
) -> int:
    """Users in each arm, where A has `rate` and B `rate` · (1 + `lift`).

    Args:
        rate: the mean over users of what is measured, such as the share of pages with a click.
        lift: 0.05 for 5 % more; below 0 for less.
        deviation: the standard deviation over users; None: each user has it or not, so that the
            variance is rate · (1 - rate), which is the most that a share can have.

    Raises:
        InvalidInput: a number is out of its range.
        Unsupported: scipy is not installed.
    """
    other = rate * (1 + lift)
    if not rate > 0 or not other > 0 or not lift:
        raise InvalidInput(
            f"The rate is {rate:g} and the lift {lift:g}; both arms need a rate above 0, and not "
            "the same."
        )
    if deviation is not None and not deviation > 0:
        raise InvalidInput(f"The deviation is {deviation:g}; allowed is above 0.")
    if deviation is None and max(rate, other) >= 1:
        raise InvalidInput(
            f"The rate is {rate:g}, with the lift {other:g}; a share of users is below 1 (0.12: 12 "
            "%). Of what is no share, give the --deviation over users too."
        )
    variances = [p * (1 - p) if deviation is None else deviation**2 for p in (rate, other)]
    return users_for_difference(other - rate, *variances, power=power, alpha=alpha)


def users_for_preference(share: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """Users who prefer one arm of interleaved pages; `share` of them prefer the same one.

    Raises:
        InvalidInput: a number is out of its range.
        Unsupported: scipy is not installed.
    """
    if not 0 <= share <= 1 or share == 0.5:
        raise InvalidInput(
            f"The share is {share:g}; allowed is 0 to 1, and not 0.5, which is chance."
        )
    sure, strong = _z(power, alpha)
    users = ((sure / 2 + strong * sqrt(share * (1 - share))) / (share - 0.5)) ** 2
    # Fewer would not be significant if all of them agreed.
    return max(ceil(users), ceil(log2(2 / alpha)))


def _z(power: float, alpha: float) -> tuple[float, float]:
    if not 0 < alpha < 1 or not 0 < power < 1:
        raise InvalidInput(f"power is {power:g} and alpha {alpha:g}; allowed is between 0 and 1.")
    norm = scipy_stats().norm
    return float(norm.ppf(1 - alpha / 2)), float(norm.ppf(power))


def scipy_stats() -> Any:
    """scipy.stats.

    Raises:
        Unsupported: it is not installed.
    """
    try:
        from scipy import stats
    except ImportError as error:
        raise Unsupported(f"Experiments need {install('evaluate')}.") from error
    return stats
