"""How a route lives: decided once per prompt inside the model's own forward pass, held for the whole generation.

Three kinds of hooks do it. One on the model notes what each call is about (its prompt, its padding, its cache); one on
the key layer pools the prompt's states, asks the index, and gathers the blocks; one on each edited module, above the
key layer, adds them. The base weights are never written. A batch's route travels with the cache object of its call, so
that threads, turns and interleaved generations keep apart.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch
from torch import Tensor

from ..backbones.batch import Batch
from ..backbones.contexts import frozen
from ..errors import ModelError, RoutingError
from ..keys.pooling import PooledStates
from ..results import Route
from .bank import BlockBank
from .blocks import RowBlocks
from .calls import EncoderCall, GenerateCall, open_generate, open_plain, refuse_packed
from .probe import probe
from .prompt_batch import NO_ROUTES, Outcome, PromptBatch

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

    from ..backbones import Backbone, Locations

logger = logging.getLogger(__name__)

Decide = Callable[[PooledStates], tuple[list[int], list[Route]]]
"""Maps what the keys of prompts are made of to each one's edit number (-1: none) and its route."""


_EDITED = "_meloedit_router"
"""Attribute under which a model knows its router."""


class _Thread(threading.local):
    """What one thread is doing with the model."""

    def __init__(self) -> None:
        self.off = 0
        self.call: GenerateCall | EncoderCall | None = None
        self.lengths: list[int] | None = None
        self.frame: ForwardFrame | None = None
        self.last: Outcome = NO_ROUTES
        self.fixed: list[RowBlocks] | None = None
        self.keys_only = False
        self.in_model = False

    @property
    def active(self) -> ForwardFrame | None:
        """The routed forward call that is running; one that was interrupted (Ctrl-C) may still lie here otherwise."""
        return None if self.off or self.fixed is not None else self.frame


class ForwardFrame:
    """One forward call of a routed batch: ``past`` columns are cached, ``columns`` are new."""

    def __init__(self, batch: PromptBatch, past: int, columns: int) -> None:
        self.batch = batch
        self.past = past
        self.columns = columns


class Router:
    """Routes every forward call of one model; hooks its modules until ``detach``.

    Args:
        backbone: the model.
        locations: its key layer and edited modules.
        decide: asks the index.

    Raises:
        ModelError: if the modules do not run as hooks need them to.
    """

    def __init__(self, backbone: Backbone, locations: Locations, decide: Decide) -> None:
        self.backbone = backbone
        self.locations = locations
        self.model = backbone.model
        self._decide = decide
        self.lock = threading.RLock()
        self._thread = _Thread()
        if getattr(self.model, _EDITED, None) is not None:
            raise ModelError("this model already has an editor: detach that one first, or use it")
        self._warned = False
        self._handles: list[RemovableHandle] = []
        self._patched: dict[str, Any] = {}
        sites, states = probe(backbone, locations)
        self._key_device, self.key_size = states.device, states.shape[-1]
        self.bank = BlockBank(sites)
        # The attribute under which a cache, or an encoder's states, carry the routed batch of their rows. It is this
        # router's own: what another editor decided is none of its business.
        self.batch_attribute = f"_meloedit_batch_{uuid4().hex}"
        self._attach()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse to be copied or pickled along with the model: the copy's calls would be routed for this one."""
        raise ModelError("a model with an editor cannot be copied or pickled: detach the editor first")

    # -- switches

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Let this thread's calls in the block see the base model."""
        self._thread.off += 1
        try:
            yield
        finally:
            self._thread.off -= 1

    @contextmanager
    def prompt_lengths(self, lengths: Sequence[int]) -> Iterator[None]:
        """State, for this thread's plain forward calls, how many real tokens of each row are prompt."""
        before, self._thread.lengths = self._thread.lengths, [int(length) for length in lengths]
        try:
            yield
        finally:
            self._thread.lengths = before

    @contextmanager
    def fixed(self, blocks: list[RowBlocks]) -> Iterator[None]:
        """Use these blocks, whatever the index says, in this thread's forward calls without a cache (for training)."""
        off, self._thread.off = self._thread.off, 0
        self._thread.fixed = blocks
        try:
            yield
        finally:
            self._thread.fixed, self._thread.off = None, off

    @property
    def last_routes(self) -> list[Route]:
        """The routes of the prompts this thread asked last."""
        routes, fold = self._thread.last
        return list(routes[::fold])

    @property
    def key_device(self) -> torch.device:
        """The device that the key layer's states are on, and so the index."""
        return self._key_device

    def detach(self) -> None:
        """Remove every hook and wrapper: the model is as it was given."""
        for handle in self._handles:
            handle.remove()
        for name, own in self._patched.items():
            del self.model.__dict__[name]
            if own is not None:  # another's wrapper
                self.model.__dict__[name] = own
        self._handles, self._patched = [], {}

    # -- hooks

    def _attach(self) -> None:
        model = self.model
        self._handles = [
            model.register_forward_pre_hook(self._enter, with_kwargs=True),
            model.register_forward_hook(self._leave, with_kwargs=True, always_call=True),
            model.get_submodule(self.locations.key_layer).register_forward_hook(self._read_key),
        ]
        for name in self.locations.modules:
            self._handles.append(model.get_submodule(name).register_forward_hook(self._edited(name)))
        self._patch(_EDITED, self)
        self._generate: Any = getattr(model, "generate", None)
        if self._generate is not None:
            self._patch("generate", self.generate)
        for name in ("generate_batch", "init_continuous_batching", "continuous_batching_context_manager"):
            if hasattr(model, name):
                self._patch(name, self._refused_batching)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate as the base model does, each prompt with the block its route names."""
        if self._thread.off or self._idle():
            with self.disabled():  # to its end, whatever another thread adds meanwhile
                return self._generate(*args, **kwargs)
        call = self._open_call(args, kwargs)
        outer, self._thread.call = self._thread.call, call
        try:
            return self._generate(*args, **kwargs)
        finally:
            self._thread.call = outer

    def _open_call(self, args: Sequence[Any], kwargs: dict[str, Any]) -> GenerateCall | EncoderCall:
        return open_generate(self.backbone, args, kwargs, self._reaches_all())

    def _idle(self) -> bool:
        with self.lock:  # another thread may be changing the bank
            return not len(self.bank)

    def _reaches_all(self) -> bool:
        with self.lock:
            return self.bank.reaches_all()

    def _patch(self, name: str, value: Any) -> None:
        self._patched[name] = self.model.__dict__.get(name)
        self.model.__dict__[name] = value

    def _refused_batching(self, *args: Any, **kwargs: Any) -> Any:
        raise RoutingError(
            "continuous batching packs prompts into one row, where edits cannot be routed: use generate(), or detach"
        )

    def _enter(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        thread = self._thread
        thread.frame, thread.last = None, NO_ROUTES
        if thread.off or thread.fixed is not None:
            return
        inputs = dict(zip(self.backbone.forward_names, args, strict=False)) | kwargs
        tokens = inputs["input_ids"] if inputs.get("input_ids") is not None else inputs.get("inputs_embeds")
        if tokens is None:
            return  # the model's own error will say what is missing
        cache = inputs.get("past_key_values")
        tied: PromptBatch | None = getattr(cache, self.batch_attribute, None)
        if thread.call is None and tied is None and self._idle():
            return  # but a route once decided is held, even if its edit is gone
        refuse_packed(inputs)
        past = int(cache.get_seq_length()) if cache is not None else 0
        rows, columns = tokens.shape[:2]
        if isinstance(thread.call, GenerateCall):
            if thread.call.batch is None:
                thread.call.batch = thread.call.open(rows, past, tied)
            batch = thread.call.batch
        else:
            batch = open_plain(self.backbone, inputs, past, thread.lengths, tied)
            if batch.boundary == "assumed" and not self._warned:
                self._warned = True
                logger.warning(
                    "a plain forward call does not say where the prompt ends: all its tokens are taken as prompt; "
                    "use editor.routing(prompt_lengths=[...]) or pass labels (said once)"
                )
        batch.check_rows(rows)
        if not batch.decided and past + columns < batch.length and self._reaches_all():
            raise RoutingError(
                "a prompt in chunks needs blocks with reach='answer'; this store has blocks with reach='all'"
            )
        thread.last = batch.outcome
        thread.frame = ForwardFrame(batch, past, columns)

    def _leave(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        frame, self._thread.frame = self._thread.frame, None
        if frame is None or output is None:
            return
        parts = output if isinstance(output, tuple) else (getattr(output, "past_key_values", None),)
        cache = next((part for part in parts if hasattr(part, "get_seq_length")), kwargs.get("past_key_values"))
        if cache is not None:
            setattr(cache, self.batch_attribute, frame.batch)

    def _read_key(self, module: Any, args: Any, output: Any) -> None:
        hidden = output if isinstance(output, Tensor) else output[0]
        if self._thread.keys_only:
            raise _KeyLayerRan(hidden)
        frame = self._thread.active
        if frame is None or frame.batch.decided:
            return
        pooled = frame.batch.collect(hidden, frame.past)
        if pooled is not None:
            with self.lock:  # blocks are gathered before another thread can remove the edits that were found
                owners, routes = self._decide(pooled)
                frame.batch.set_routes(owners, routes, self.bank)

    def _edited(self, name: str) -> Callable[[Any, tuple[Any, ...], Tensor], Tensor | None]:
        def add_blocks(module: Any, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            thread = self._thread
            frame = thread.active
            if thread.fixed is not None and not thread.off:
                blocks, past = thread.fixed, 0
            elif frame is not None and frame.batch.blocks:
                blocks, past = frame.batch.blocks, frame.past
            else:
                return None
            for group in blocks:
                output = group.apply(name, args[0], output, past)
            return output

        return add_blocks

    def pooled(self, batch: Batch) -> Tensor:
        """Return the pooled key-layer states (R, d) of a batch of prompts; layers above the key layer do not run."""
        with frozen(self.model), self.disabled(), torch.no_grad():
            run = self.backbone.key_run(batch)
            self._thread.keys_only = True
            try:
                run()
            except _KeyLayerRan as ran:
                return batch.key_means(ran.hidden)
            finally:
                self._thread.keys_only = False
        raise ModelError(f"the key layer {self.locations.key_layer!r} did not run")


class _KeyLayerRan(Exception):
    """Stops a forward pass once the key layer has run."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden
