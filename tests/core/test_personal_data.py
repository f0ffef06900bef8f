"""A card that says its dataset holds personal data is believed; an empty section or a no flags nothing."""

import pytest

from synthkit.core.hub.personal_data import find_personal_data

SECTION = "# Card\n\n### Personal and Sensitive Information\n\n{}\n\n## Next\n\nNames of people.\n"


@pytest.mark.parametrize(("tags", "text", "flagged"), [
    ([], "# Card\nHeights of people.", False),
    (["license:mit", "PII"], "", True),
    (["personal_data"], "", True),
    ([], SECTION.format("Names, addresses and birthdays of patients."), True),
    ([], SECTION.format("The data contains no personal information."), False),
    ([], SECTION.format("None"), False),
    ([], SECTION.format("[More Information Needed]"), False),
    ([], SECTION.format("All records were anonymised."), False),
    ([], SECTION.format("<!-- State whether the dataset\ncontains personal data. -->"), False),
    ([], SECTION.format(""), False),
])
def test_what_a_card_says(tags: list[str], text: str, flagged: bool) -> None:
    assert bool(find_personal_data(tags, text)) is flagged
