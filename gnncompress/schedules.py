"""How sparsity grows over steps and rounds; imports nothing."""


def cubic(step: int, steps: int) -> float:
    """Return the part of the final sparsity that is reached at a step: 1 - (1 - step / steps)^3.

    Source: Zhu and Gupta, To Prune or Not to Prune, 2017, equation 1, from 0 and from the first step on.
    """
    return 1 - (1 - step / steps) ** 3


def after_rounds(rounds: int, rate: float) -> float:
    """Return the sparsity after so many rounds that each remove ``rate`` of what remains: 1 - (1 - rate)^rounds.

    Source: Frankle and Carbin, The Lottery Ticket Hypothesis, ICLR 2019, section 2.
    """
    return round(1 - (1 - rate) ** rounds, 10)
