"""Whether a dataset's card says that it holds personal data; what it does not say, nobody here can know.

The Hub's card template has a section "Personal and Sensitive Information", and some authors set tags. A heading that is
left empty, or filled with a no, flags nothing.
"""

import re

TAGS = frozenset({"pii", "personal-data", "personal-information", "personally-identifiable-information",
                  "sensitive-data"})
HEADING = re.compile(r"#{1,6}\s*(personal and sensitive information|personal data|sensitive information)", re.I)
NEGATION = re.compile(
    r"\b(no|none|not|n/?a|never|without|more information needed|anonymi[sz]ed|de-?identified)\b", re.I)


def find_personal_data(tags: list[str], card: str) -> str:
    """The words that flag personal data, at most a sentence; '' when nothing does."""
    flagged = sorted(TAGS & {tag.lower().replace("_", "-") for tag in tags})
    if flagged:
        return f"tag {flagged[0]}"
    lines = card.splitlines()
    for at, line in enumerate(lines):
        if HEADING.fullmatch(line.strip()):
            said = " ".join(read_section(lines[at + 1:]))
            return "" if not said or NEGATION.search(said) else said[:200]
    return ""


def read_section(lines: list[str]) -> list[str]:
    """The text up to the next heading, comments of the template left out."""
    end = next((at for at, line in enumerate(lines) if line.startswith("#")), len(lines))
    text = re.sub(r"<!--.*?-->", "", "\n".join(lines[:end]), flags=re.S)
    return [line.strip() for line in text.splitlines() if line.strip()]
