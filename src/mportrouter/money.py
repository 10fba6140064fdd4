"""Amounts of money as people read them."""

from __future__ import annotations


def dollars(amount: float) -> str:
    """
    ``$18.72``, ``$1,204.00``; below ten cents with as many places as it takes to show something: ``$0.0042``.

    :param amount: US dollars.
    """
    sign = "-" if amount < 0 else ""
    amount = abs(amount)
    places = 2 if amount >= 0.095 or amount < 5e-7 else 4 if amount >= 5e-4 else 6
    return f"{sign}${amount:,.{places}f}"
