"""The student before training: a Hub model, or a small Qwen3 from scratch with its own tokenizer.

Both leave here as the same pair (model, tokenizer) with the same chat template, so that the
training code does not know which one it has.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from synthkit.core.errors import EndpointError, ParamError
from synthkit.core.params import ScratchParams, SftParams
from synthkit.core.paths import locate
from synthkit.core.prompts import CHAT_TEMPLATE

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def build_student(params: SftParams, texts: Iterable[str]) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The base student that training starts from; `texts` feed the tokenizer of a from-scratch student."""
    if params.from_scratch is not None:
        tokenizer = train_tokenizer(texts, params.from_scratch.vocab_size)
        return build_scratch_model(params.from_scratch, tokenizer, params.max_length, params.seed), tokenizer
    return load_pretrained(locate(str(params.model)))


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> "PreTrainedTokenizerBase":
    """A byte-level BPE tokenizer: digits one by one, so that numbers can be copied."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.Split(Regex(r" ?[A-Za-z]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=SPECIALS, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHAT_TEMPLATE.read_text()
    return fast


def build_scratch_model(
    size: ScratchParams, tokenizer: "PreTrainedTokenizerBase", max_length: int, seed: int
) -> "PreTrainedModel":
    """A Qwen3 of the given size with random weights drawn by the seed; its context is twice `max_length`."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=size.hidden_size, intermediate_size=size.intermediate_size,
        num_hidden_layers=size.layers, num_attention_heads=size.heads, num_key_value_heads=size.kv_heads,
        head_dim=size.hidden_size // size.heads, max_position_embeddings=2 * max_length, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def load_pretrained(model: str) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """A Hub model or folder, its chat template replaced by ours. Safetensors only; no remote code is run."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        weights = AutoModelForCausalLM.from_pretrained(
            model, trust_remote_code=False, use_safetensors=True, dtype="auto"
        )
    except OSError as error:
        raise EndpointError(
            f"the student `{model}` cannot be loaded: {str(error).splitlines()[0]}",
            "check the id and the network, or download it first and give the folder",
        ) from error
    if tokenizer.convert_tokens_to_ids("<|im_end|>") in (None, tokenizer.unk_token_id):
        raise ParamError(f"`{model}` has no <|im_end|> token", "use a model of the Qwen3 family")
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    return weights, tokenizer
