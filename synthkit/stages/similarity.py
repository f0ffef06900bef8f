"""Near-duplicates among short texts: equal after normalising, or close in TF-IDF."""

import re
import unicodedata


def normalise_text(text: str) -> str:
    """Lower-case words and numbers only, accents folded."""
    folded = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return " ".join(re.findall(r"[a-z0-9]+", folded.lower()))


def find_twin(text: str, others: list[str], threshold: float) -> tuple[int | None, float]:
    """(index of the text it repeats, or None; similarity to the nearest one).

    The TF-IDF weights come from the text and those before it only, so a decision never changes later.
    """
    if not others:
        return None, 0.0
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [normalise_text(other) for other in others]
    new = normalise_text(text)
    if new in texts:
        return texts.index(new), 1.0
    weights = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+").fit_transform([*texts, new])
    closeness = (weights[:-1] @ weights[-1].T).toarray().ravel()
    nearest = int(closeness.argmax())
    similarity = float(closeness[nearest])
    return (nearest if similarity >= threshold else None), similarity
