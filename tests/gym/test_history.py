"""What a model is shown of a conversation, under each name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from synthkit.core.errors import ParamError
from synthkit.core.params import MlgymEvalParams
from synthkit.core.text import cut_middle
from synthkit.gym.agent.history import choose_history

Messages = list[dict[str, str]]


def converse(*observations: str) -> Messages:
    """System, the task, and a reply before each observation."""
    turns = [("assistant", "user")[at % 2] for at in range(2 * len(observations))]
    texts = [text for at, seen in enumerate(observations) for text in (f"a{at}", seen)]
    return [{"role": "system", "content": "s"}, {"role": "user", "content": "TASK"},
            *({"role": role, "content": text} for role, text in zip(turns, texts, strict=True))]


def show(name: str, *observations: str) -> list[str]:
    """The observations as a model sees them; everything else stays as it is."""
    messages = converse(*observations)
    shown = choose_history(name)(messages)
    assert messages == converse(*observations), "the conversation itself is not changed"
    assert [m["role"] for m in shown] == [m["role"] for m in messages]
    assert [m for m in shown if m["role"] != "user"] == [m for m in messages if m["role"] != "user"]
    seen = [m["content"] for m in shown if m["role"] == "user"]
    assert seen[0] == "TASK"
    return seen[1:]


def window(path: str, first: int, last: int, total: int = 50) -> str:
    lines = [f"{number}:[File: x ({number} lines total)]" for number in range(first, last + 1)]
    above = [f"({first - 1} more lines above)"] if first > 1 else []
    below = [f"({total - last} more lines below)"] if last < total else []
    return "\n".join([f"[File: {path} ({total} lines total)]", *above, *lines, *below])


def test_older_observations_are_shortened_as_mlgym_does() -> None:
    seen = [f"o{at}\nx" for at in range(8)]
    assert show("last5", *seen) == ["Old output omitted (2 lines)"] * 3 + seen[3:]
    assert show("last1", *seen) == ["Old output omitted (2 lines)"] * 7 + seen[7:]
    assert show("last100", *seen) == show("last8", *seen) == show("default", *seen) == seen


def test_a_window_closes_when_a_later_one_shows_the_file() -> None:
    first = f"(ran)\n{window('/w/a.py', 2, 4)}\nbash-$"
    other, again = window("/w/b.py", 1, 3), window("/w/a.py", 1, 50)
    closed = "(ran)\n(an older view of /w/a.py stood here: 6 lines left out)\nbash-$"
    assert show("closed_window", first, "ls", other) == [first, "ls", other]
    assert show("closed_window", first, "ls", other, again) == [closed, "ls", other, again]


def test_the_last_view_stays_whole_and_a_cut_one_closes_whole() -> None:
    both = f"{window('/w/a.py', 1, 2)}\nIt would have been:\n{window('/w/a.py', 1, 3)}"
    assert show("closed_window", both)[0] == both
    cut = cut_middle(window("/w/a.py", 1, 50) + "\nend", 200)
    assert "characters left out" in cut
    (shown, _) = show("closed_window", cut, window("/w/a.py", 1, 1))
    assert shown.startswith("(an older view of /w/a.py stood here: ") and shown.split("\n")[1:] == ["end"]


@settings(derandomize=True, deadline=None)
@given(st.lists(st.lists(st.sampled_from([window("/a", 1, 2), window("/b", 3, 4), "1:x", "", "text\r", "[File: /a"]),
                         max_size=4).map("\n".join), max_size=5))
def test_text_outside_of_windows_is_never_lost(seen: list[str]) -> None:
    shown = show("closed_window", *seen)
    for path in ("/a", "/b"):
        views = [at for at, text in enumerate(seen) if f"[File: {path} (" in text]
        assert [at for at, text in enumerate(shown) if f"[File: {path} (" in text] == views[-1:]
    assert all(("text\r" in new) == ("text\r" in old) for new, old in zip(shown, seen, strict=True))


@pytest.mark.parametrize("name", ["last0", "last", "last-1", "last05", "last5 ", "Default", "closed", ""])
def test_an_unknown_name_is_refused_everywhere(name: str) -> None:
    with pytest.raises(ParamError, match="'default', 'closed_window', or 'last<N>'"):
        choose_history(name)
    with pytest.raises(ValidationError, match="closed_window"):
        MlgymEvalParams(history=name)


@pytest.mark.parametrize("name", ["default", "last1", "last5", "last120", "closed_window"])
def test_a_known_name_is_taken_by_the_parameters_too(name: str) -> None:
    assert choose_history(MlgymEvalParams(history=name).history)(converse("x")) == converse("x")
