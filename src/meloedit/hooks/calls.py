"""Find the prompt inside a call of ``generate()`` or ``model()``, and refuse calls that cannot be routed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from ..errors import RoutingError
from ..text import shorten
from .describe import describe
from .key_reader import KeyReader
from .prompt_batch import PromptBatch

if TYPE_CHECKING:
    from ..backbones import Backbone

_DRAFTS = "assisted decoding verifies draft tokens in the prompt's own forward pass"
_HUB = "this way of decoding runs code from a hub"


class _Unpaged:
    """The kinds of caches that keep a row per prompt: all but paged ones. What is no kind, transformers refuses."""

    def __contains__(self, kind: object) -> bool:
        return not str(kind).startswith("paged")


_REFUSED: dict[str, tuple[Container[Any], str]] = {
    "assistant_model": ((), _DRAFTS),
    "prompt_lookup_num_tokens": ((), _DRAFTS),
    "assistant_early_exit": ((), _DRAFTS),
    "use_mtp": ((False,), _DRAFTS),
    "custom_generate": ((), "a custom decoding loop may run the model on anything"),
    "penalty_alpha": ((0,), _HUB),
    "dola_layers": ((), _HUB),
    "constraints": ((), _HUB),
    "force_words_ids": ((), _HUB),
    "num_beam_groups": ((1,), _HUB),
    "guidance_scale": ((1,), "classifier-free guidance runs a second prompt through the model"),
    "negative_prompt_ids": ((), "classifier-free guidance runs a second prompt through the model"),
    "token_healing": ((False,), "token healing changes the prompt after its route is set"),
    "cache_implementation": (_Unpaged(), "continuous batching packs prompts into one row"),
}
"""Arguments of ``generate``: the values with which routes work, and why all other values are refused."""


def refuse_packed(inputs: Mapping[str, Any]) -> None:
    """Refuse packed sequences: a row with several prompts cannot have one route.

    Raises:
        RoutingError: if the inputs of a forward call are packed.
    """
    signs = [name for name in ("cu_seq_lens_q", "cu_seqlens", "seq_idx") if inputs.get(name) is not None]
    positions: Any = inputs.get("position_ids")
    several = isinstance(positions, Tensor) and positions.shape[-1] > 1 and inputs.get("attention_mask") is None
    if several and bool((positions.diff() < 0).any()):
        signs.append("position_ids that start again")  # transformers, too, recognises packing by this
    if signs:
        raise RoutingError(f"packed sequences ({signs[0]}) cannot be routed: pass one prompt per row, padded")


def refuse_batching(*args: Any, **kwargs: Any) -> Any:
    """Stand for the methods of a model that batch continuously, and refuse every call."""
    raise RoutingError(
        "continuous batching packs prompts into one row, where edits cannot be routed: use generate(), or unload"
    )


Heard = Callable[[], Tensor | None]
"""Returns the tokens of a cache's columns, as ``heard.heard`` does."""


class GenerateCall:
    """One call of ``generate``: its prompts, and from its first forward pass on their batch.

    Args:
        reader: knows which tokens make a key.
        tokens: (B, L) token ids, or (B, L, d) embeddings.
        mask: (B, L) true for tokens that are not padding.

    Attributes:
        batch: the prompts' batch; ``None`` before the first forward pass.
    """

    def __init__(self, reader: KeyReader, tokens: Tensor, mask: Tensor) -> None:
        self._reader = reader
        self._ids = tokens.tolist() if tokens.dim() == 2 else _backbone(reader).ids_of(tokens)
        self._rows = len(tokens)
        self._real = mask.bool().cpu()
        self.batch: PromptBatch | None = None

    def open(self, rows: int, past: int, routed: PromptBatch | None, heard: Heard) -> PromptBatch:
        """Return the batch of the prompts, at the first forward pass.

        Args:
            rows: rows of the forward call: the prompts, each repeated for its beams or samples.
            past: number of columns in the cache.
            routed: the batch whose routes the cache carries.
            heard: returns the tokens (rows, past) in the cache, where they are known.
        """
        length = self._real.shape[1]
        repeats = rows // self._rows
        ids = None if self._ids is None else [row for row in self._ids for _ in range(repeats)]
        if routed is not None and len(routed.acts_from) != rows:
            routed = None
        if routed is not None and ids is not None and not routed.begins(ids):
            routed = None  # the cache was cut, and refilled with other tokens
        # After a plain call it is only assumed that the prompt was complete. One more cached column proves it.
        if routed is not None and past >= routed.length + (routed.boundary == "assumed") and past >= length - 1:
            return routed  # the cache has a prompt and its answer but for the last token: the answer continues
        real = self._real.repeat_interleave(repeats, 0)
        batch = describe(self._reader, ids, real, torch.ones_like(real), "given", past, routed, heard())
        batch.repeats = repeats
        return batch


class EncoderCall:
    """One call of ``generate`` on a model with a prompt encoder, and the batch of its prompts."""

    def __init__(self) -> None:
        self.batch: PromptBatch | None = None


def checked_settings(
    backbone: Backbone, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], Callable[[str], Any]]:
    """Return the arguments of a call of ``generate`` by name, and a function that looks up a setting by name.

    The function looks into the arguments first, then into the generation configs.

    Raises:
        RoutingError: if the way of decoding does not work with routes.
    """
    given = dict(zip(backbone.generate_names, args, strict=False)) | dict(kwargs)
    sources = [
        given,
        *(vars(config) for config in (given.get("generation_config"), backbone.model.generation_config) if config),
    ]

    def setting(name: str) -> Any:
        return next((value for source in sources if (value := source.get(name)) is not None), None)

    for name, (harmless, why) in _REFUSED.items():
        value = setting(name)
        if value is not None and (isinstance(value, Tensor) or value not in harmless):
            raise RoutingError(f"generate({name}=...) cannot be routed: {why}; leave it out or use editor.base_model()")
    return given, setting


def open_generate(reader: KeyReader, args: Sequence[Any], kwargs: Mapping[str, Any], reaches_all: bool) -> GenerateCall:
    """Return a ``GenerateCall`` for the arguments of a call of ``generate``.

    Args:
        reader: knows which tokens make a key.
        args: positional arguments of the call.
        kwargs: its named arguments.
        reaches_all: whether there are blocks that act on every token.

    Raises:
        RoutingError: if there is no prompt, or the way of decoding does not work with routes.
    """
    given, setting = checked_settings(_backbone(reader), args, kwargs)
    if setting("prefill_chunk_size") and reaches_all:
        raise RoutingError("prefill_chunk_size needs blocks with reach='answer'; this store has some with reach='all'")
    tokens = next((given[name] for name in ("inputs", "input_ids") if given.get(name) is not None), None)
    if given.get("inputs_embeds") is not None and (tokens is None or tokens.shape[1] == 0):
        tokens = given["inputs_embeds"]
    if tokens is None:
        raise RoutingError("generate() was called without a prompt; give input_ids")
    mask = given.get("attention_mask")
    return GenerateCall(reader, tokens, _inferred_mask(tokens, setting) if mask is None else mask)


def _inferred_mask(tokens: Tensor, setting: Any) -> Tensor:
    """Return where tokens (B, L) are no padding, as far as that shows without a mask.

    ``generate`` takes pad tokens for padding unless they also end answers; then it reads them as text. For the route,
    those that a row begins with are padding in that case, too: all but as many as every row begins with, which may be a
    token that opens each prompt.
    """
    pad, stops = setting("pad_token_id"), setting("eos_token_id")
    stops = stops if isinstance(stops, list) else [stops]
    if tokens.dim() != 2 or pad is None:
        return torch.ones(tokens.shape[:2], dtype=torch.bool)
    if pad not in stops:
        return tokens != pad
    opening = (tokens == pad).int().cumprod(1)
    extra = opening.sum(1) - opening.sum(1).min()
    return torch.arange(tokens.shape[1], device=tokens.device)[None] >= extra[:, None]


def open_plain(
    reader: KeyReader,
    inputs: Mapping[str, Any],
    past: int,
    lengths: list[int] | None,
    routed: PromptBatch | None,
    heard: Heard,
) -> PromptBatch:
    """Return the batch of a plain ``model(...)`` call: a new one, or the one whose routes its cache carries.

    The prompt ends where the given lengths say; else before the first label that is not -100; else where the chat
    template shows it; else with the last real token. A call on a routed cache keeps the routes, unless lengths are
    given, a new user turn begins, or the cache was cut back into the prompt.

    Args:
        reader: knows which tokens make a key.
        inputs: the call's arguments by name.
        past: number of columns in the cache.
        lengths: per row the number of real tokens that are prompt, as ``prompt_lengths`` gave them.
        routed: the batch whose routes the cache carries.
        heard: returns the tokens (B, past) in the cache, where they are known.

    Raises:
        RoutingError: if the lengths or the mask do not fit the call.
    """
    backbone, ids = _backbone(reader), inputs.get("input_ids")
    tokens = ids if ids is not None else inputs["inputs_embeds"]
    rows, columns = tokens.shape[:2]
    listed = ids.tolist() if ids is not None else backbone.ids_of(tokens)
    if routed is not None and past >= routed.length and lengths is None:
        opens = backbone.markers is not None and listed is not None and columns > 1
        if not opens or not all(backbone.markers.opens_turn(row) for row in listed):  # type: ignore[union-attr]
            return routed
    real = real_tokens(inputs.get("attention_mask"), rows, past, columns)
    new = torch.zeros_like(real)
    new[:, past:] = True
    labels = inputs.get("labels")
    if lengths is not None:
        if len(lengths) != rows:
            raise RoutingError(f"prompt_lengths(...) names {len(lengths)} rows, the call has {rows}")
        prompt = new & ((real & new).cumsum(1) <= torch.tensor(lengths)[:, None])
        return describe(reader, listed, real, prompt, "given", past, heard=heard())
    if labels is not None:
        answered = (labels != -100).cpu()
        first = torch.where(answered.any(1), answered.int().argmax(1), columns) + past
        prompt = new & (torch.arange(past + columns)[None] < first[:, None])
        return describe(reader, listed, real, prompt, "labels", past, heard=heard())
    return describe(reader, listed, real, new, "assumed", past, heard=heard())


def check_lengths(lengths: Sequence[int]) -> list[int]:
    """Return prompt lengths as a list.

    Raises:
        RoutingError: if one is no whole number, or below 0.
    """
    try:
        listed = [operator.index(length) for length in lengths]
    except TypeError:
        listed = [-1]
    if min(listed, default=0) < 0:
        raise RoutingError(f"prompt_lengths takes a whole number of tokens per row, not {shorten(repr(lengths), 60)}")
    return listed


def real_tokens(mask: Tensor | None, rows: int, past: int, columns: int) -> Tensor:
    """Return a mask (B, L), true for tokens that are not padding, over the cached columns and those of this call.

    Raises:
        RoutingError: if the call's mask does not have this shape.
    """
    if mask is None:
        return torch.ones(rows, past + columns, dtype=torch.bool)
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        raise RoutingError(
            "a plain forward call with a mask of more than two dimensions cannot be routed: give a (B, T) mask"
        )
    if mask.shape[1] != past + columns:
        raise RoutingError(
            f"the attention mask has {mask.shape[1]} columns, the call has {past + columns} with its cache"
        )
    return mask.bool().cpu()


def _backbone(reader: KeyReader) -> Backbone:
    """Return the model of a router's reader, which reads with it."""
    return cast("Backbone", reader.backbone)
