"""Near-duplicates among short texts: equal after normalising, or close in TF-IDF."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import numpy as np

# Words and pairs of words are counted in so many slots; two that share one add less than 0.01 to a cosine.
SLOTS = 2**16


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
        self.counts: Any = None
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        from scipy.sparse import vstack

        row = count_words(normalise_text(text))
        self.texts.append(normalise_text(text))
        self.counts = row if self.counts is None else vstack([self.counts, row], format="csr")

    def compare(self, text: str) -> np.ndarray:
        """The TF-IDF cosine with each text; 1 where both are the same after normalising."""
        if not self.texts:
            return np.zeros(0)
        from scipy.sparse import vstack
        from sklearn.feature_extraction.text import TfidfTransformer

        new = normalise_text(text)
        weights = TfidfTransformer(sublinear_tf=True).fit_transform(vstack([self.counts, count_words(new)]))
        closeness = np.asarray((weights[:-1] @ weights[-1].T).todense()).ravel()
        return np.where([old == new for old in self.texts], 1.0, closeness)

    def find_twin(self, text: str, threshold: float) -> tuple[int | None, float]:
        """(index of the text that it repeats, or None; similarity to the nearest one)."""
        closeness = self.compare(text)
        if not len(closeness):
            return None, 0.0
        nearest = int(closeness.argmax())
        return (nearest if closeness[nearest] >= threshold else None), float(closeness[nearest])


def count_words(text: str) -> Any:
    """Words and pairs of neighbouring words, as one sparse row. Nothing is learnt, so any row goes with any other."""
    from sklearn.feature_extraction.text import HashingVectorizer

    counter = HashingVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", norm=None, alternate_sign=False,
                                n_features=SLOTS)
    return counter.transform([text])
