"""What the kit takes from the libraries of the Hugging Face family and of OpenAI: the table that an upgrade is held to.

Which modules of the kit use an entry is found in their source and stands nowhere here.
"""

from dataclasses import dataclass

LIBRARIES = ("trl", "transformers", "peft", "openai", "huggingface_hub", "datasets", "tokenizers")


@dataclass(frozen=True)
class Use:
    """One thing that the kit leans on; `path` is `module:name`, and a name may go on with dots.

    `arguments` is how many are given by position, None for what is not called. Where a call hides its keywords behind
    `**kwargs`, `read_in` names what reads them. `attributes` are those of an instance, `strings` keys that the source
    writes, `base` a class that it must derive from, and `value` what a constant must be.
    """

    path: str
    arguments: int | None = None
    keywords: tuple[str, ...] = ()
    read_in: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    strings: tuple[str, ...] = ()
    base: str = ""
    value: str = ""

    @property
    def dotted(self) -> str:
        """The path with dots alone, as source writes it."""
        return self.path.replace(":", ".")

    @property
    def name(self) -> str:
        """The last part of the path, such as a method's name."""
        return self.dotted.rpartition(".")[2]


def call(path: str, arguments: int, keywords: str = "", read_in: str = "", strings: str = "") -> Use:
    """A call: so many arguments by position, these keywords."""
    return Use(path, arguments, tuple(keywords.split()), tuple(read_in.split()), strings=tuple(strings.split()))


def instance(path: str, attributes: str) -> Use:
    """A class whose instances the kit reads or writes these attributes of."""
    return Use(path, attributes=tuple(attributes.split()))


TRL = [
    call("trl:SFTTrainer", 0, "model args train_dataset processing_class peft_config callbacks",
         strings="mean_token_accuracy"),
    call("trl:SFTTrainer.train", 0, "resume_from_checkpoint"),
    instance("trl:SFTTrainer", "accelerator model"),
    call("trl:SFTConfig", 0,
         "output_dir max_length assistant_only_loss num_train_epochs learning_rate lr_scheduler_type warmup_steps "
         "per_device_train_batch_size gradient_accumulation_steps train_sampling_strategy max_grad_norm weight_decay "
         "adam_beta2 bf16 use_cpu activation_checkpointing save_strategy save_steps save_total_limit logging_steps "
         "logging_first_step disable_tqdm report_to seed data_seed dataloader_pin_memory"),
    call("accelerate:Accelerator.unwrap_model", 1),
]

TOKENIZER = "transformers:PreTrainedTokenizerBase"
LOADER = "transformers:AutoTokenizer.from_pretrained"
MODEL = "transformers:AutoModelForCausalLM.from_pretrained transformers:PreTrainedModel.from_pretrained"
TRANSFORMERS = [
    call(LOADER, 1, "trust_remote_code padding_side", read_in=f"{LOADER} {TOKENIZER}"),
    call("transformers:AutoModelForCausalLM.from_pretrained", 1, "trust_remote_code use_safetensors dtype",
         read_in=MODEL),
    call("transformers:PreTrainedModel.save_pretrained", 1),
    instance("transformers:Qwen3ForCausalLM", "config generation_config to eval"),
    call("transformers:Qwen3ForCausalLM", 1),
    call("transformers:Qwen3Config", 0,
         "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
         "max_position_embeddings tie_word_embeddings eos_token_id pad_token_id bos_token_id"),
    call("transformers:Qwen3ForCausalLM.generate", 0,
         "input_ids attention_mask max_new_tokens do_sample logits_processor eos_token_id pad_token_id",
         read_in="transformers:GenerationConfig transformers:Qwen3ForCausalLM.forward"),
    call("transformers:GenerationConfig", 0),
    call("transformers:LogitsProcessor.__call__", 0, "input_ids scores"),
    call("transformers:PreTrainedTokenizerFast", 0, "tokenizer_object eos_token pad_token",
         read_in=f"{TOKENIZER} transformers:PreTrainedTokenizerFast"),
    call(f"{TOKENIZER}.apply_chat_template", 1,
         "tokenize return_dict return_assistant_tokens_mask add_generation_prompt",
         strings="input_ids assistant_masks"),
    call(f"{TOKENIZER}.pad", 1, "return_tensors"),
    call("transformers:BatchEncoding.to", 1),
    call(f"{TOKENIZER}.decode", 1, "skip_special_tokens"),
    call(f"{TOKENIZER}.convert_tokens_to_ids", 1),
    call(f"{TOKENIZER}.save_pretrained", 1),
    instance(TOKENIZER, "chat_template eos_token eos_token_id pad_token_id unk_token_id"),
    call("transformers:TrainerCallback.on_log", 3, "logs",
         read_in="transformers.trainer_callback:CallbackHandler.on_log"),
    call("transformers:TrainerCallback.on_step_end", 3),
    instance("transformers:TrainerState", "global_step epoch"),
    instance("transformers.trainer_utils:TrainOutput", "global_step training_loss"),
    Use("transformers:Trainer", strings=("loss", "learning_rate")),
    Use("transformers.trainer:TRAINER_STATE_NAME", value="trainer_state.json"),
    Use("transformers.trainer_utils:PREFIX_CHECKPOINT_DIR", value="checkpoint"),
]

PEFT = [
    call("peft:LoraConfig", 0, "r lora_alpha lora_dropout target_modules task_type"),
    call("peft:LoraModel.merge_and_unload", 0),
]

OPENAI = [
    call("openai:OpenAI", 0, "base_url api_key timeout max_retries http_client"),
    call("openai:OpenAI.post", 1, "body cast_to"),
    Use("openai:APIStatusError", attributes=("status_code", "response"), base="openai:OpenAIError"),
    Use("openai:APIConnectionError", base="openai:OpenAIError"),
    Use("openai:APITimeoutError", base="openai:APIConnectionError"),
    call("openai.lib._pydantic:to_strict_json_schema", 1),
]

ERRORS = "huggingface_hub.errors"
HUGGINGFACE_HUB = [
    call("huggingface_hub:HfApi", 0, "endpoint token"),
    instance("huggingface_hub:HfApi", "endpoint"),
    call("huggingface_hub:HfApi.list_datasets", 0, "search limit"),
    call("huggingface_hub:HfApi.dataset_info", 1, "timeout files_metadata"),
    call("huggingface_hub:HfApi.hf_hub_download", 2, "repo_type revision etag_timeout cache_dir local_dir"),
    call("huggingface_hub:HfApi.create_repo", 1, "repo_type private exist_ok"),
    call("huggingface_hub:HfApi.upload_folder", 0, "repo_id folder_path repo_type commit_message"),
    instance("huggingface_hub:DatasetInfo",
             "id sha tags downloads card_data siblings citation gated private disabled"),
    instance("huggingface_hub.hf_api:RepoSibling", "rfilename size"),
    instance("huggingface_hub:DatasetCardData", "license"),
    call("huggingface_hub:DatasetCard", 1, "ignore_metadata_errors"),
    instance("huggingface_hub:DatasetCard", "text"),
    call("huggingface_hub.utils:disable_progress_bars", 0),
    Use(f"{ERRORS}:GatedRepoError", base="builtins:Exception"),
    Use(f"{ERRORS}:DisabledRepoError", base="builtins:Exception"),
    Use(f"{ERRORS}:RepositoryNotFoundError", base="builtins:Exception"),
    Use(f"{ERRORS}:HFValidationError", base="builtins:Exception"),
    Use(f"{ERRORS}:LocalEntryNotFoundError", base="builtins:Exception"),
    Use(f"{ERRORS}:EntryNotFoundError", base="builtins:Exception"),
    Use(f"{ERRORS}:RevisionNotFoundError", base="builtins:Exception"),
    Use(f"{ERRORS}:HfHubHTTPError", attributes=("response",), base="httpx2:HTTPError"),
]

DATASETS = [
    call("datasets:Dataset.from_list", 1),
    call("datasets:Dataset.from_parquet", 1, "cache_dir"),
    call("datasets:Dataset.from_csv", 1, "cache_dir"),
    call("datasets:Dataset.from_json", 1, "cache_dir"),
    call("datasets:Dataset.to_pandas", 0),
    instance("datasets:Dataset", "num_rows"),
    call("datasets:concatenate_datasets", 1),
    call("datasets:disable_progress_bars", 0),
]

TOKENIZERS = [
    call("tokenizers:Regex", 1),
    call("tokenizers:Tokenizer", 1),
    instance("tokenizers:Tokenizer", "pre_tokenizer decoder"),
    call("tokenizers:Tokenizer.train_from_iterator", 2),
    call("tokenizers.models:BPE", 0),
    call("tokenizers.pre_tokenizers:Sequence", 1),
    call("tokenizers.pre_tokenizers:Digits", 0, "individual_digits"),
    call("tokenizers.pre_tokenizers:Split", 2),
    call("tokenizers.pre_tokenizers:ByteLevel", 0, "add_prefix_space use_regex"),
    call("tokenizers.pre_tokenizers:ByteLevel.alphabet", 0),
    call("tokenizers.decoders:ByteLevel", 0),
    call("tokenizers.trainers:BpeTrainer", 0, "vocab_size special_tokens show_progress initial_alphabet"),
]

USES = TRL + TRANSFORMERS + PEFT + OPENAI + HUGGINGFACE_HUB + DATASETS + TOKENIZERS
