"""Multi30K, German to English, in words: padded to one length, in an order that a seed and an epoch determine.

One length keeps the sizes of all layers, as a capture asks for. A source has at most `LENGTH` tokens, and so has a
target with its mark at the end. Longer pairs are left out of the training. Validation cuts longer sources and
translates up to `LENGTH` tokens.
"""

import gzip
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from cifar10 import STREAM

LENGTH = 20
# Rarer words become UNKNOWN.
MIN_COUNT = 4
PAD, UNKNOWN, BEGIN, END = range(4)
MARKS = ["<pad>", "<unk>", "<s>", "</s>"]
WORDS = re.compile(r"\w+|[^\w\s]")

Batch = tuple[torch.Tensor, torch.Tensor]


def read_sentences(folder: Path, name: str) -> list[list[str]]:
    """Returns the tokens of each line, in lower case."""
    path = folder / name
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
    else:
        lines = gzip.decompress((folder / f"{name}.gz").read_bytes()).decode("utf-8").splitlines()
    return [WORDS.findall(line.lower()) for line in lines]


class Vocabulary:
    """Words by falling count; ties in the order of the alphabet."""

    def __init__(self, sentences: list[list[str]]) -> None:
        counts = Counter(word for sentence in sentences for word in sentence)
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        self.words = MARKS + [word for word, count in ordered if count >= MIN_COUNT]
        self.numbers = {word: number for number, word in enumerate(self.words)}

    def encode(self, words: list[str], end: list[int]) -> list[int]:
        """Returns the numbers of at most `LENGTH` tokens, padded to `LENGTH`."""
        numbers = [self.numbers.get(word, UNKNOWN) for word in words[: LENGTH - len(end)]] + end
        return numbers + [PAD] * (LENGTH - len(numbers))

    def decode(self, numbers: list[int]) -> list[str]:
        """Returns the words before the first END."""
        cut = numbers[: numbers.index(END)] if END in numbers else numbers
        return [self.words[number] for number in cut]


class Multi30k:
    """Pairs of sentences as numbers, `[pairs, LENGTH]`; `references` has the words of the validation's targets."""

    def __init__(self, folder: Path) -> None:
        train = {language: read_sentences(folder, f"train.{language}") for language in ("de", "en")}
        self.source, self.target = Vocabulary(train["de"]), Vocabulary(train["en"])
        pairs = zip(train["de"], train["en"], strict=True)
        kept = [(de, en) for de, en in pairs if len(de) <= LENGTH and len(en) < LENGTH]
        self.sources = torch.tensor([self.source.encode(de, []) for de, _ in kept])
        self.targets = torch.tensor([self.target.encode(en, [END]) for _, en in kept])
        self.questions = torch.tensor([self.source.encode(de, []) for de in read_sentences(folder, "val.de")])
        self.references = read_sentences(folder, "val.en")

    def train_batches(self, size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """Yields whole batches of sources and targets in a random order."""
        random = torch.Generator().manual_seed(seed * STREAM + epoch)
        order = torch.randperm(len(self.sources), generator=random)
        for chosen in order[: len(order) // size * size].split(size):
            yield self.sources[chosen], self.targets[chosen]
