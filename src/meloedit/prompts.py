"""What a call on the edited model is about: where its prompt lies, which words make the key, and the route it got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from .blocks import BlockBank, RowBlocks
from .chat import user_words
from .errors import RoutingError

if TYPE_CHECKING:
    from .backbone import Backbone

Boundary = Literal["given", "labels", "template", "assumed"]
Reason = Literal["fired", "outside scope", "quiet", "no edits", "no prompt"]


@dataclass(frozen=True)
class Route:
    """What the index decided for one prompt.

    Attributes:
        edit: id of the edit that fires; ``None`` for the base model.
        distance: distance |u - v| of the prompt's key to the nearest edit's; ``None`` without edits or prompt.
        threshold: the distance below which an edit is in scope.
        nearest: id of the nearest edit, whether it fires or not.
        reason: why it fires or does not.
        boundary: how the end of the prompt was known.
        words_known: whether the key was pooled over the user's own words; else over the whole prompt.
    """

    edit: str | None
    distance: float | None
    threshold: float
    nearest: str | None
    reason: Reason
    boundary: Boundary = "given"
    words_known: bool = True


@dataclass
class PromptBatch:
    """The prompts of one call, and their routes once these are decided.

    Columns count over the whole padded sequence, cached part included.

    Attributes:
        length: columns of the prompt; the route is decided when this many have been seen.
        words: (B, length) true where the key is pooled.
        last_prompt: per row the column of the last prompt token.
        boundary: how the end of the prompt was known.
        words_known: per row, whether ``words`` are the user's own.
    """

    length: int
    words: Tensor
    last_prompt: list[int]
    boundary: Boundary
    words_known: list[bool]
    decided: bool = False
    routes: list[Route] = field(default_factory=list)
    blocks: list[RowBlocks] = field(default_factory=list)
    _sums: Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> PromptBatch:
        """Return itself: copies of a cache share the route, which does not change once decided."""
        return self

    def check_rows(self, rows: int) -> None:
        """Refuse a call whose rows are not this batch's."""
        if rows != len(self.last_prompt):
            raise RoutingError(
                f"this cache was routed for {len(self.last_prompt)} rows and is now used with {rows}: start from the prompts again"
            )

    def collect(self, hidden: Tensor, past: int) -> Tensor | None:
        """Add the states ``hidden`` (B, T, d) of columns ``past``.. to the pools; return the means (B, d) when complete."""
        words = self.words[:, past : past + hidden.shape[1]].to(hidden.device)
        used = hidden[:, : words.shape[1]].float()
        # where, not a product: states at padding may be anything, and inf times zero is not zero
        sums = torch.where(words[:, :, None], used, 0.0).sum(1)
        self._sums = sums if self._sums is None else self._sums + sums
        if past + hidden.shape[1] < self.length:
            return None
        return self._sums / self.words.sum(1, keepdim=True).clamp(min=1).to(hidden.device)

    def settle(self, owners: list[int], routes: list[Route], bank: BlockBank) -> None:
        """Fix the routes: rows without any words to pool over have none."""
        spoken = self.words.any(1).tolist()
        owners = [owner if heard else -1 for owner, heard in zip(owners, spoken, strict=True)]
        self.routes = [
            Route(
                edit=route.edit if heard else None,
                distance=route.distance if heard else None,
                threshold=route.threshold,
                nearest=route.nearest if heard else None,
                reason=route.reason if heard else "no prompt",
                boundary=self.boundary,
                words_known=known,
            )
            for route, heard, known in zip(routes, spoken, self.words_known, strict=True)
        ]
        self.blocks = bank.gather(owners, self.last_prompt)
        self.decided = True
        self._sums = None


def describe(
    backbone: Backbone,
    ids: list[list[int]] | None,
    real: Tensor,
    prompt: Tensor,
    boundary: Boundary,
    seen_from: int = 0,
) -> PromptBatch:
    """Find words and last tokens of a batch of prompts.

    Args:
        backbone: the model.
        ids: per row the token ids of the last columns of ``real``; ``None`` if the model was given embeddings.
        real: (B, L) true for tokens that are not padding.
        prompt: (B, L) true for tokens of the prompt.
        boundary: how ``prompt`` was known; ``assumed`` becomes ``template`` where a chat template shows the end.
        seen_from: first column that this call will run (the columns before it are cached, their states are gone).
    """
    rows, length = real.shape
    words = torch.zeros(rows, length, dtype=torch.bool)
    last, known, ends = [], [], []
    for row in range(rows):
        columns = torch.nonzero(real[row] & prompt[row]).flatten().tolist()
        if ids is None or not columns:
            words[row, columns] = True
            known.append(False)
            last.append(columns[-1] if columns else length)
            continue
        offset = length - len(ids[row])
        columns = [column for column in columns if column >= offset]
        tokens = [ids[row][column - offset] for column in columns]
        span = user_words(tokens, backbone.markers)
        stop = backbone.markers.prompt_end(tokens, span.stop) if backbone.markers and boundary == "assumed" else None
        if stop is not None:
            columns = columns[:stop]
            ends.append(row)
        words[row, columns[span.start : span.stop]] = True
        known.append(span.known)
        last.append(columns[-1] if columns else length)
    unseen = words.clone()
    unseen[:, seen_from:] = False
    words[:, :seen_from] = False
    # Where the turn's words were all in the cache, what is new is all there is to go by.
    for row in torch.nonzero(unseen.any(1) & ~words.any(1)).flatten().tolist():
        words[row, seen_from:] = (real & prompt)[row, seen_from:]
        known[row] = False
    if boundary == "assumed" and len(ends) == rows:
        boundary = "template"
    return PromptBatch(length, words, last, boundary, known)


# -- generate ------------------------------------------------------------------------------------------------------------

_REFUSED: dict[str, str] = {
    "assistant_model": "assisted decoding verifies draft tokens in the prompt's own forward pass",
    "prompt_lookup_num_tokens": "assisted decoding verifies draft tokens in the prompt's own forward pass",
    "assistant_early_exit": "assisted decoding verifies draft tokens in the prompt's own forward pass",
    "use_mtp": "assisted decoding verifies draft tokens in the prompt's own forward pass",
    "custom_generate": "a custom decoding loop may run the model on anything",
    "penalty_alpha": "contrastive search runs candidate tokens as extra rows",
    "dola_layers": "DoLa reads logits from layers below the edited ones",
    "constraints": "constrained beam search runs code from a hub",
    "force_words_ids": "constrained beam search runs code from a hub",
    "negative_prompt_ids": "classifier-free guidance runs a second prompt through the model",
    "token_healing": "token healing changes the prompt after its route is set",
}


def refuse_packed(inputs: Mapping[str, Any]) -> None:
    """Refuse packed sequences: several prompts in one row cannot be routed row by row."""
    for name in ("cu_seq_lens_q", "cu_seqlens", "seq_idx"):
        if inputs.get(name) is not None:
            raise RoutingError(f"packed sequences ({name}) cannot be routed: pass one prompt per row, padded")


class GenerateCall:
    """One call of ``generate``: its prompts as they were passed in, and the batch made of them at the first forward."""

    def __init__(self, backbone: Backbone, tokens: Tensor, mask: Tensor) -> None:
        self._backbone = backbone
        self._ids = tokens.tolist() if tokens.dim() == 2 else None
        self._rows = len(tokens)
        self._real = mask.bool().cpu()
        self.batch: PromptBatch | None = None

    def open(self, rows: int, past: int, columns: int, tied: PromptBatch | None) -> PromptBatch:
        """Describe the prompts at the first forward; ``rows`` may be a multiple of the prompts (beams, several samples)."""
        length = self._real.shape[1]
        fold = rows // self._rows
        if tied is not None and past >= length - 1 and past > 0 and len(tied.last_prompt) == rows:
            return tied  # the cache holds all but the last token: the same answer goes on, no new turn
        real = self._real.repeat_interleave(fold, 0)
        ids = None if self._ids is None else [row for row in self._ids for _ in range(fold)]
        return describe(self._backbone, ids, real, torch.ones_like(real), "given", seen_from=past)


def open_generate(backbone: Backbone, args: Sequence[Any], kwargs: Mapping[str, Any], reaches_all: bool) -> GenerateCall:
    """Note what ``generate`` was called with.

    Raises:
        RoutingError: for a way of decoding in which a route cannot be held.
    """
    names = ("inputs", "generation_config", "logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn")
    names += ("synced_gpus", "assistant_model", "streamer", "negative_prompt_ids")
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    configs = [given.get("generation_config"), backbone.model.generation_config]

    def setting(name: str) -> Any:
        if given.get(name) is not None:
            return given[name]
        return next((value for config in configs if (value := getattr(config, name, None)) is not None), None)

    for name, why in _REFUSED.items():
        if setting(name):
            raise RoutingError(f"generate({name}=...) cannot be routed: {why}; leave it out or use editor.disabled()")
    if setting("cache_implementation") == "paged":
        raise RoutingError("continuous batching (cache_implementation='paged') cannot be routed; use another cache")
    if setting("guidance_scale") not in (None, 1, 1.0):
        raise RoutingError("classifier-free guidance (guidance_scale) runs a second prompt; it cannot be routed")
    if (setting("num_beam_groups") or 1) > 1:
        raise RoutingError("group beam search runs code from a hub; it cannot be routed")
    if setting("prefill_chunk_size") and reaches_all:
        raise RoutingError("prefill_chunk_size needs blocks with reach='answer'; this store has blocks with reach='all'")
    tokens = next((given[name] for name in ("inputs", "input_ids") if given.get(name) is not None), None)
    if given.get("inputs_embeds") is not None and (tokens is None or tokens.shape[1] == 0):
        tokens = given["inputs_embeds"]
    if tokens is None:
        raise RoutingError("generate() was called without a prompt; give input_ids")
    mask = given.get("attention_mask")
    return GenerateCall(backbone, tokens, _inferred_mask(tokens, setting) if mask is None else mask)


def _inferred_mask(tokens: Tensor, setting: Any) -> Tensor:
    """Return the mask that ``generate`` itself infers: padding shows only where its id cannot also end an answer."""
    pad, stops = setting("pad_token_id"), setting("eos_token_id")
    stops = stops if isinstance(stops, list) else [stops]
    if tokens.dim() != 2 or pad is None or pad in stops:
        return torch.ones(tokens.shape[:2], dtype=torch.bool)
    return tokens != pad


# -- plain forward -------------------------------------------------------------------------------------------------------


def open_plain(
    backbone: Backbone, inputs: Mapping[str, Any], past: int, lengths: list[int] | None, tied: PromptBatch | None
) -> PromptBatch:
    """Describe a plain ``model(...)`` call, or take up the batch that its cache was routed for.

    The end of the prompt is, in this order: the stated lengths, the first label that is not -100, the chat template, the last
    real token. A call on a routed cache goes on with its route, unless lengths are stated or a new user turn is opened.
    """
    ids = inputs.get("input_ids")
    tokens = ids if ids is not None else inputs["inputs_embeds"]
    rows, columns = tokens.shape[:2]
    listed = ids.tolist() if ids is not None else None
    if tied is not None and past and lengths is None:
        opens = backbone.markers is not None and listed is not None and columns > 1
        if not opens or not all(backbone.markers.last_user_turn(row) for row in listed):  # type: ignore[union-attr]
            return tied
    real = _real_tokens(inputs.get("attention_mask"), rows, past, columns)
    new = torch.zeros_like(real)
    new[:, past:] = True
    labels = inputs.get("labels")
    if lengths is not None:
        if len(lengths) != rows:
            raise RoutingError(f"routing(prompt_lengths=...) names {len(lengths)} rows, the call has {rows}")
        prompt = new & ((real & new).cumsum(1) <= torch.tensor(lengths)[:, None])
        return describe(backbone, listed, real, prompt, "given", past)
    if labels is not None:
        answered = (labels != -100).cpu()
        first = torch.where(answered.any(1), answered.int().argmax(1), columns) + past
        prompt = new & (torch.arange(past + columns)[None] < first[:, None])
        return describe(backbone, listed, real, prompt, "labels", past)
    return describe(backbone, listed, real, new, "assumed", past)


def _real_tokens(mask: Tensor | None, rows: int, past: int, columns: int) -> Tensor:
    if mask is None:
        return torch.ones(rows, past + columns, dtype=torch.bool)
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        raise RoutingError("a plain forward call with a mask of more than two dimensions cannot be routed: give a (B, T) mask")
    if mask.shape[1] != past + columns:
        raise RoutingError(f"the attention mask has {mask.shape[1]} columns, the call has {past + columns} with its cache")
    return mask.bool().cpu()
