"""What of an example carries loss: its tokens by turn, and the mask of the assistant's own."""

from typing import TYPE_CHECKING

from synthkit.core.errors import StageError
from synthkit.records import SftExample

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase


def show_row(row: SftExample, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> "pd.DataFrame":
    """One training row by turn: tokens, and how many of them carry loss. What the model is taught, exactly."""
    import pandas as pd

    coded = encode(row.to_chat(), tokenizer)
    kept = coded["mask"][:max_length]
    turns, start = [], 0
    for k, message in enumerate(row.messages):
        end = len(encode(row.to_chat()[: k + 1], tokenizer)["ids"])
        turns.append({
            "turn": k, "role": message.role, "tokens": end - start,
            "trained": sum(kept[start:end]), "begins": message.content[:60],
        })
        start = end
    return pd.DataFrame(turns)


def encode(messages: list[dict[str, str]], tokenizer: "PreTrainedTokenizerBase") -> dict[str, list[int]]:
    """Token ids of a conversation and the mask of those inside assistant turns."""
    out = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return {"ids": out["input_ids"], "mask": out["assistant_masks"]}


def check_mask(rows: list[SftExample], tokenizer: "PreTrainedTokenizerBase", max_length: int) -> None:
    """Raises StageError for a row of which nothing would be trained once it is cut to `max_length` tokens."""
    for row in rows:
        coded = encode(row.to_chat(), tokenizer)
        if not any(coded["mask"][:max_length]):
            raise StageError(
                f"06_sft: row {row.id} has no assistant token within max_length={max_length}",
                "raise sft.max_length above the length of the task's first message",
            )
