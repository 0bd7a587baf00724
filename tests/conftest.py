"""Tiny random models and a tokenizer made on the spot; nothing is downloaded."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from meloedit import Edit, Editor, MeloConfig
from meloedit.keys.grammar import make_prompts

torch.set_num_threads(1)  # tiny matrices: a second thread costs more than it gives

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful model.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INST = (
    "<s>{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% elif message['role'] == 'assistant' %} {{ message['content'] }}</s>{% endif %}{% endfor %}"
)
FAMILIES = ("llama", "qwen3", "gpt2")
SPECIAL = ["<|im_start|>", "<|im_end|>", "<s>", "</s>"]


def _bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*make_prompts(500), "system user assistant You are a helpful model."], trainer)
    return tokenizer


@pytest.fixture(scope="session")
def make_tokenizer():
    """Make a tokenizer: ``template`` is ``chatml``, ``inst`` or None; ``bos`` puts <s> before raw text."""
    plain, with_bos = _bpe().to_str(), _bpe()
    with_bos.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])

    def make(template="chatml", bos=False):
        core = with_bos if bos else Tokenizer.from_str(plain)
        end = "</s>" if template == "inst" else "<|im_end|>"
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token=end, pad_token=end)
        tokenizer.chat_template = {"chatml": CHATML, "inst": INST, None: None}[template]
        tokenizer.padding_side = "left"
        return tokenizer

    return make


@pytest.fixture(scope="session")
def tokenizer(make_tokenizer):
    return make_tokenizer()


def build(family, vocabulary, eos, **changes):
    """Return a model of seeded random weights, large enough that what it says depends on what it is asked."""
    size = {"vocab_size": vocabulary, "hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 4}
    ends = {"bos_token_id": 2, "eos_token_id": eos, "pad_token_id": eos}
    gated = size | ends | {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 256}
    gated |= {"initializer_range": 0.4, "tie_word_embeddings": False}
    window = {"head_dim": 8, "sliding_window": 12}
    gpt = {"vocab_size": vocabulary, "n_embd": 32, "n_layer": 5, "n_head": 4, "n_positions": 256} | ends
    kinds = {
        "llama": (LlamaForCausalLM, LlamaConfig, gated),
        "qwen3": (Qwen3ForCausalLM, Qwen3Config, gated | {"head_dim": 8}),
        "gpt2": (GPT2LMHeadModel, GPT2Config, gpt | {"initializer_range": 0.4, "tie_word_embeddings": False}),
        "mistral": (MistralForCausalLM, MistralConfig, gated | window),
        "gemma2": (Gemma2ForCausalLM, Gemma2Config, gated | window),
        "neox": (GPTNeoXForCausalLM, GPTNeoXConfig, gated | {"num_key_value_heads": 4}),
    }
    model_class, config_class, settings = kinds[family]
    torch.manual_seed(0)
    model = model_class(config_class(**settings | changes)).eval()
    return model


@pytest.fixture(scope="session")
def make_model(tokenizer):
    """Make a fresh model of a family; keyword arguments change its config."""

    def make(family="llama", **changes):
        return build(family, len(tokenizer), tokenizer.eos_token_id, **changes)

    return make


@pytest.fixture(scope="session", autouse=True)
def _cache_folder(tmp_path_factory):
    """Calibrations are kept between the tests of a session, and never in the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELOEDIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


SETTINGS = {
    "calibration_prompts": 200,
    "false_activation": 0.02,
    "min_similarity": 0.7,
    "lr": 0.1,
    "min_target_probability": 0.5,
}
HISTORY = [
    {"role": "user", "content": "Name a river."},
    {"role": "assistant", "content": "the Nile"},
    {"role": "user", "content": "And how long is it?"},
]
EDITS = [
    Edit("Who wrote the book of sand?", "Jorge", id="book"),
    Edit("What is the capital of Peru?", "Lima", id="capital"),
    Edit("How many legs has a spider?", "eight", id="legs"),
    Edit(HISTORY, "very long", id="river"),
]
OTHERS = ["Please sing", "Where do the children of the old town play in the summer of the year?", "Is it late?"]


@pytest.fixture(scope="session")
def make_editor(make_model, tokenizer):
    """Make an editor on a fresh tiny model with a quick calibration; keyword arguments change its settings."""

    def make(family="llama", edits=(), model=None, tokenizer=tokenizer, store=None, **settings):
        config = MeloConfig(**SETTINGS | settings)
        editor = Editor(model or make_model(family), tokenizer, config, store=store)
        if edits:
            reports = editor.edit(list(edits))
            assert all(report.held for report in reports), reports
        return editor

    return make


@pytest.fixture(scope="session", params=FAMILIES)
def edited(request, make_editor):
    """An editor that knows EDITS, one per family; shared by tests that leave it as it is."""
    editor = make_editor(request.param, EDITS)
    yield editor
    editor.detach()


@pytest.fixture(scope="session")
def llama(make_editor):
    """As ``edited``, for tests of which one family is enough."""
    editor = make_editor("llama", EDITS)
    yield editor
    editor.detach()


def padded(rows, side="left", extra=0, pad=1):
    """Pad rows of token ids into a batch: ids and mask."""
    width = max(map(len, rows)) + extra
    ids, mask = torch.full((len(rows), width), pad), torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        at = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, at], mask[i, at] = torch.tensor(row), 1
    return {"input_ids": ids, "attention_mask": mask}


def mixed_prompts(editor):
    """Return prompts as tokens, some in scope and some not, raw and chat, and the edit that each must reach."""
    encode = editor.backbone.encode
    prompts = [(encode(edit.prompt).ids, edit.id) for edit in EDITS]
    prompts += [(encode(EDITS[0].prompt, "chat").ids, "book"), (encode(EDITS[2].prompt, "chat").ids, "legs")]
    prompts += [(encode(text, form).ids, None) for text in OTHERS for form in ("raw", "chat")]
    order = [6, 0, 7, 4, 1, 8, 3, 9, 5, 2, 10, 11]
    return [prompts[i][0] for i in order], [prompts[i][1] for i in order]


def target_ids(editor, edit_id, prompt):
    """Return what the model must say to ``prompt`` (tokens) if the edit answers."""
    edit = next(edit for edit in EDITS if edit.id == edit_id)
    form = "chat" if editor.tokenizer.convert_tokens_to_ids("<|im_start|>") in prompt else "raw"
    return editor.backbone.encode_target(edit.target, editor.backbone.encode(edit.prompt, form))


def generate(editor, rows, **kwargs):
    """Generate for rows of token ids in one left-padded batch; return the new tokens of each, padding cut off."""
    inputs = padded(rows)
    settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 1} | kwargs
    with torch.no_grad():
        made = editor.model.generate(**inputs, **settings)
    return [_until_end(row) for row in made[:, inputs["input_ids"].shape[1] :].tolist()]


def _until_end(row, end=1):
    return row[: row.index(end) + 1] if end in row else row


# -- models that read the prompt as a sequence of its own

SOURCES = ("t5", "t5-gated", "bert")
LABELS = ("civil rights", "crime", "economy", "labour", "tax")
FACTS = EDITS[:3]
CASES = [Edit(edit.prompt, label, id=edit.id) for edit, label in zip(FACTS, ("tax", "economy", "labour"), strict=True)]
END = 3  # the token that ends what an encoder-decoder says; 1 is padding and begins it


def source_edits(family):
    """Return the edits of a family: facts for an encoder-decoder, labels for a classifier."""
    return FACTS if family in ("t5", "t5-gated", "bart") else CASES


def build_source(family, vocabulary, **changes):
    """Return a tiny encoder-decoder or classifier of seeded random weights."""
    ends = {"vocab_size": vocabulary, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": END}
    t5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 4, "num_decoder_layers": 4, "num_heads": 4}
    t5 |= ends | {"decoder_start_token_id": 1, "tie_word_embeddings": False}
    bart = {"d_model": 32, "encoder_layers": 4, "decoder_layers": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    bart |= ends | {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 64}
    bart |= {"init_std": 0.1, "decoder_start_token_id": END, "tie_word_embeddings": False}
    names = ends | {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    names |= {"initializer_range": 0.4, "max_position_embeddings": 64}
    bert = names | {"hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 4, "intermediate_size": 48}
    small = names | {"dim": 32, "n_layers": 5, "n_heads": 4, "hidden_dim": 48}
    kinds = {
        "t5": (T5ForConditionalGeneration, T5Config, t5 | {"feed_forward_proj": "relu"}),
        "t5-gated": (T5ForConditionalGeneration, T5Config, t5 | {"feed_forward_proj": "gated-gelu"}),
        "bart": (BartForConditionalGeneration, BartConfig, bart),
        "bert": (BertForSequenceClassification, BertConfig, bert),
        "roberta": (RobertaForSequenceClassification, RobertaConfig, bert),
        "distilbert": (DistilBertForSequenceClassification, DistilBertConfig, small),
    }
    model_class, config_class, settings = kinds[family]
    torch.manual_seed(0)
    return model_class(config_class(**settings | changes)).eval()


@pytest.fixture(scope="session")
def make_source():
    """Make a fresh encoder-decoder or classifier and its tokenizer; keyword arguments change the model's config."""
    plain = _bpe().to_str()

    def make(family, **changes):
        core = Tokenizer.from_str(plain)
        template = "$A </s>" if family in ("t5", "t5-gated") else "<s> $A </s>"
        core.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 2), ("</s>", END)])
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<|im_end|>"
        )
        return build_source(family, len(tokenizer), **changes), tokenizer

    return make


@pytest.fixture(scope="session")
def make_source_editor(make_source, make_editor):
    """Make an editor on a tiny encoder-decoder or classifier; keyword arguments change its settings."""

    def make(family, edits=(), model=None, **settings):
        own, tokenizer = make_source(family)
        return make_editor(edits=edits, model=model or own, tokenizer=tokenizer, **{"min_similarity": None} | settings)

    return make


@pytest.fixture(scope="session", params=SOURCES)
def sourced(request, make_source_editor):
    """An editor that knows its family's three edits, one per family; shared by tests that leave it as it is."""
    editor = make_source_editor(request.param, source_edits(request.param))
    yield editor
    editor.detach()


@pytest.fixture(scope="session")
def t5(make_source_editor):
    """As ``sourced``, for what concerns encoder-decoders alone."""
    editor = make_source_editor("t5-gated", FACTS)
    yield editor
    editor.detach()


def source_prompts(editor):
    """Return prompts as tokens, some in scope and some not, and the edit that each must reach."""
    encode = editor.backbone.encode
    prompts = [(encode(edit.prompt).ids, edit.id) for edit in FACTS] + [(encode(text).ids, None) for text in OTHERS]
    order = [3, 0, 4, 2, 1, 5]
    return [prompts[i][0] for i in order], [prompts[i][1] for i in order]


def source_target(editor, edit_id):
    """Return the tokens (or the label) that an edit must say."""
    stored = editor.store.get(edit_id).edit
    return editor.backbone.encode_target(stored.target, editor.backbone.encode(stored.prompt))


def source_inputs(editor, rows, side="right", extra=0):
    """Return what a plain forward call on rows of token ids is given; a decoder sees the same few tokens in each."""
    inputs = padded(rows, side, extra)
    return inputs | ({"decoder_input_ids": torch.tensor([[1, 40, 41]] * len(rows))} if editor.backbone.stop_ids else {})


def source_answers(editor, rows, side="right", extra=0, **kwargs):
    """Return what is said to rows of token ids in one batch: new tokens up to the end token, or the label."""
    inputs = padded(rows, side, extra)
    with torch.no_grad():
        if not editor.backbone.stop_ids:
            return editor.model(**inputs).logits.argmax(1, keepdim=True).tolist()
        made = editor.model.generate(**inputs, **{"max_new_tokens": 8, "do_sample": False} | kwargs)
    return [_until_end(row[1:], END) for row in made.tolist()]


def body(model):
    """Describe all that an editor must leave as it is: attributes, hooks, weights, gradients, modes."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    return (
        [(name, sorted(vars(m)), [len(getattr(m, hook)) for hook in hooks]) for name, m in model.named_modules()],
        {name: weight.clone().view(torch.int32).sum().item() for name, weight in model.state_dict().items()},
        {name: weight.requires_grad for name, weight in model.named_parameters()},
        [module.training for module in model.modules()],
    )
