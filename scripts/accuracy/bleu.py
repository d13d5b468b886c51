"""Corpus BLEU (Papineni et al., 2002): up to four tokens in a row, one reference, with the brevity penalty."""

import math
from collections import Counter
from collections.abc import Sequence

ORDER = 4


def count_ngrams(tokens: Sequence[str], length: int) -> Counter:
    return Counter(tuple(tokens[start : start + length]) for start in range(len(tokens) - length + 1))


def compute_bleu(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> float:
    """Returns BLEU from 0 to 100; 0 if no four tokens in a row match."""
    matches, totals = [0] * ORDER, [0] * ORDER
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        for order in range(ORDER):
            found = count_ngrams(hypothesis, order + 1)
            matches[order] += (found & count_ngrams(reference, order + 1)).total()
            totals[order] += found.total()
    if min(matches) == 0:
        return 0.0
    logarithm = sum(math.log(match / total) for match, total in zip(matches, totals, strict=True)) / ORDER
    missing = sum(map(len, references)) / sum(map(len, hypotheses)) - 1
    return 100 * math.exp(logarithm - max(0.0, missing))
