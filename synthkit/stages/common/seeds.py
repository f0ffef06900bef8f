"""Chance and names that depend on the run's seed and an item's id, never on the order in which threads finish."""

import hashlib
import random
import re


def derive_seed(seed: int, *parts: str | int) -> int:
    """A seed of 31 bits from sha256 over the run's seed and what names the item."""
    text = "\x1f".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def derive_random(seed: int, *parts: str | int) -> random.Random:
    """A generator of its own for an item, from `derive_seed`."""
    return random.Random(derive_seed(seed, *parts))


def make_slug(text: str, limit: int = 40) -> str:
    """Lower-case letters and digits joined by hyphens, cut at a word; fit for a file name."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    slug = ""
    for word in words:
        if len(slug) + len(word) + 1 > limit:
            break
        slug = f"{slug}-{word}" if slug else word
    return slug or "item"
