"""Near-duplicates among short texts: equal after normalising, or close in TF-IDF.

The weights are scikit-learn's (smooth idf, sublinear tf, words and pairs of words); its vectorizer would count all
texts anew for each one that comes, which takes minutes for a thousand.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

import numpy as np


def normalise_text(text: str) -> str:
    """Lower-case words and numbers only, accents folded."""
    folded = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return " ".join(re.findall(r"[a-z0-9]+", folded.lower()))


class TextIndex:
    """Texts in the order in which they were added, and how close a new one is to each.

    The weights come from the texts so far and the new one only, so a decision never changes later.
    """

    def __init__(self, texts: Iterable[str] = ()):
        self.texts: list[str] = []
        self.numbers: dict[str, int] = {}
        # One entry for each term of each text: the text it is of, the term's number, and 1 + log of its count.
        self.owners, self.terms, self.counts = np.zeros(0, int), np.zeros(0, int), np.zeros(0)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Take in a text; later ones are compared with it."""
        terms, counts = self.count_terms(normalise_text(text))
        self.owners = np.concatenate([self.owners, np.full(len(terms), len(self.texts))])
        self.terms, self.counts = np.concatenate([self.terms, terms]), np.concatenate([self.counts, counts])
        self.texts.append(normalise_text(text))

    def compare(self, text: str) -> np.ndarray:
        """The TF-IDF cosine with each text; 1 where both are the same after normalising."""
        new, n = normalise_text(text), len(self.texts)
        terms, counts = self.count_terms(new)
        frequency = np.bincount(np.concatenate([self.terms, terms]), minlength=len(self.numbers))
        rarity = np.log((n + 2) / (frequency + 1)) + 1
        wanted = np.zeros(len(self.numbers))
        wanted[terms] = counts * rarity[terms]
        weights = self.counts * rarity[self.terms]
        lengths = np.sqrt(np.bincount(self.owners, weights**2, minlength=n) * (wanted**2).sum())
        products = np.bincount(self.owners, weights * wanted[self.terms], minlength=n)
        closeness = np.divide(products, lengths, out=np.zeros(n), where=lengths > 0)
        return np.where([old == new for old in self.texts], 1.0, closeness)

    def find_near_duplicate(self, text: str, threshold: float) -> tuple[int | None, float]:
        """(index of the text that it repeats, or None; similarity to the nearest one)."""
        closeness = self.compare(text)
        if not len(closeness):
            return None, 0.0
        nearest = int(closeness.argmax())
        return (nearest if closeness[nearest] >= threshold else None), float(closeness[nearest])

    def count_terms(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of a text's words and pairs of neighbouring words, and 1 + log of how often each stands there."""
        words = text.split()
        terms = Counter([*words, *map(" ".join, zip(words, words[1:], strict=False))])
        numbers = [self.numbers.setdefault(term, len(self.numbers)) for term in terms]
        return np.array(numbers, int), 1 + np.log(np.array(list(terms.values()), float))
