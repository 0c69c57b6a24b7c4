"""Quantiles and tails of the distributions that the tests need, in plain arithmetic."""

from __future__ import annotations

import math
from statistics import NormalDist

_STEPS = 300
_CLOSE = 1e-14
_TINY = 1e-300


def student_t_quantile(probability: float, dof: int) -> float:
    """The quantile of Student's t with `dof` degrees of freedom; infinite for none.

    Hill, G. W. (1970), Algorithm 396: Student's t-quantiles, CACM 13(10).

    Raises:
        ValueError: probability is below 0.5, or not below 1.
    """
    if not 0.5 <= probability < 1:
        raise ValueError(f"probability {probability} is not from 0.5 to below 1")
    if probability == 0.5:
        return 0.0
    if dof < 1:
        return math.inf
    tail = 2 * (1 - probability)
    if dof == 1:
        return 1 / math.tan(tail * math.pi / 2)
    if dof == 2:
        return math.sqrt(2 / (tail * (2 - tail)) - 2)
    a = 1 / (dof - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * dof
    y = (d * tail) ** (2 / dof)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(tail / 2)
        y = x**2
        if dof < 5:
            c += 0.3 * (dof - 4.5) * (x + 0.6)
        c += (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = a * y**2
        y = math.expm1(y)
    else:
        y = ((1 / (((dof + 6) / (dof * y) - 0.089 * d - 0.822) * (dof + 2) * 3) + 0.5 / (dof + 4)) * y - 1) * (
            dof + 1
        ) / (dof + 2) + 1 / y
    return math.sqrt(dof * y)


def f_tail(ratio: float, dof: int, dof_below: int) -> float:
    """The probability that Fisher's F with these degrees of freedom is above `ratio`, from 0 to 1.

    By the regularized incomplete beta function: Abramowitz and Stegun (1964), 26.6.2.
    """
    if ratio <= 0.0:
        return 1.0
    if math.isinf(ratio):
        return 0.0
    return incomplete_beta(dof_below / 2, dof / 2, dof_below / (dof_below + dof * ratio))


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function I_x(a, b).

    Its continued fraction, Abramowitz and Stegun (1964), 26.5.8, evaluated by Lentz's method (1976).
    """
    if x <= 0.0 or x >= 1.0:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )  # x**a (1-x)**b / B(a, b)
    fraction, c, d = 1.0, 1.0, 0.0
    for step in range(_STEPS):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1.0 / _off_zero(1.0 + term * d)
        c = _off_zero(1.0 + term / c)
        fraction *= c * d
        if abs(1.0 - c * d) < _CLOSE:
            break
    return min(1.0, front * (fraction - 1.0) / a)


def _off_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The quantile of the beta distribution, by bisection; the ends of Clopper and Pearson's interval (1934)."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if incomplete_beta(a, b, middle) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def share_interval(hits: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share: Clopper, C. J. and Pearson, E. S. (1934), Biometrika 26(4)."""
    if of == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else beta_quantile(tail, hits, of - hits + 1)
    high = 1.0 if hits == of else beta_quantile(1 - tail, hits + 1, of - hits)
    return low, high
