"""Router: the hooks that decide a route once per prompt, during the model's forward pass, and apply its block.

There are three kinds of hooks. The hook on the model finds the prompts of a call. The hook on the key layer pools their
states, asks which blocks answer, and gathers these. The hooks on the edited modules, above the key layer, add the
blocks' outputs. The base weights are never written.

A prompt keeps its route for the whole generation. The cache object of a call carries the routes, so that threads, turns
and interleaved generations stay apart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from torch import Tensor

from ..backbones.batch import Batch
from ..backbones.contexts import Attachment, own_run
from ..callers.precision import exact
from ..errors import ModelError, RoutingError
from ..results import Route
from .bank import BlockBank
from .blocks import RowBlocks, apply_all
from .calls import EncoderCall, GenerateCall, check_lengths, open_generate, open_plain, refuse_batching, refuse_packed
from .heard import heard, remember
from .key_reader import KeyReader
from .probe import probe_model
from .prompt_batch import NO_ROUTES, Decider, PromptBatch
from .thread_state import ForwardFrame, KeyLayerRan, Lock, ThreadState

if TYPE_CHECKING:
    from ..backbones import Backbone, Locations

logger = logging.getLogger(__name__)


_EDITED = "_meloedit_router"  # the attribute of a model that names its router


def release(model: object) -> None:
    """Take the hooks of whatever editor a model has off it."""
    if isinstance(router := getattr(model, _EDITED, None), Router):
        router.detach()


class Router:
    """Routes every forward call of one model. **It hooks the model at once**; ``detach`` removes the hooks.

    Args:
        backbone: the model.
        locations: its key layer and edited modules.
        reader: knows which tokens make a key.
        decider: decides which blocks answer.
        lock: guards the decider and the blocks; other threads may be editing.

    Raises:
        ModelError: if the modules do not run as hooks need them to, or the model has an editor already.
    """

    def __init__(
        self, backbone: Backbone, locations: Locations, reader: KeyReader, decider: Decider, lock: Lock
    ) -> None:
        self.backbone = backbone
        self.locations = locations
        self.reader = reader
        self.model = backbone.model
        self._decider = decider
        self._lock = lock
        self._thread = ThreadState()
        if getattr(self.model, _EDITED, None) is not None:
            raise ModelError("this model has an editor: use it or unload it; if it is lost, Editor.release(model)")
        self._warned = False
        self._attachment = Attachment()
        sites, states = probe_model(backbone, locations)
        self.key_device, self.key_size = states.device, states.shape[-1]
        self.bank = BlockBank(sites)
        # The attribute of a cache, or of an encoder's output, that has the routed batch of its rows. Every router has
        # another name for it, since routes of another editor mean nothing here.
        self.batch_attribute = f"_meloedit_batch_{uuid4().hex}"
        self._heard = self.batch_attribute + "_heard"
        self._attach()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse to be copied or pickled, and the model with it: this router would then route the copy's calls, too."""
        raise ModelError("a model with an editor cannot be copied or pickled: unload the editor first")

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Give this thread the base model inside the context."""
        self._thread.off += 1
        try:
            yield
        finally:
            self._thread.off -= 1

    @contextmanager
    def prompt_lengths(self, lengths: Sequence[int]) -> Iterator[None]:
        """Set, for this thread's plain forward calls, how many real tokens of each row are the prompt."""
        before, self._thread.lengths = self._thread.lengths, check_lengths(lengths)
        try:
            yield
        finally:
            self._thread.lengths = before

    @contextmanager
    def use_blocks(self, blocks: list[RowBlocks]) -> Iterator[None]:
        """Use these blocks in this thread's forward calls, without any routing: for training, without a cache."""
        off, self._thread.off = self._thread.off, 0
        self._thread.blocks_in_use = blocks
        try:
            yield
        finally:
            self._thread.blocks_in_use, self._thread.off = None, off

    @property
    def last_routes(self) -> list[Route]:
        """The routes of the prompts in this thread's latest call."""
        return list(self._thread.last[0][:: self._thread.last[1]])

    @property
    def attached(self) -> bool:
        """Whether the hooks are on the model."""
        return self._attachment.attached

    def detach(self) -> None:
        """Remove every hook and wrapper, which leaves the model as it was before."""
        self._attachment.remove()

    # -- hooks

    def _attach(self) -> None:
        model, attach = self.model, self._attachment
        attach.hook(model, self._enter, self._leave, with_kwargs=True, always_call=True)
        attach.hook(model.get_submodule(self.locations.key_layer), after=self._read_key)
        for name in self.locations.modules:
            attach.hook(model.get_submodule(name), after=self._edited(name))
        attach.set(model, _EDITED, self)
        # copy.copy and pickle of the model ask for it
        attach.set(model, "__getstate__", partial(self.__reduce_ex__, 4))
        self._generate: Any = getattr(model, "generate", None)
        if self._generate is not None:
            attach.set(model, "generate", self.generate)
        for name in ("generate_batch", "init_continuous_batching", "continuous_batching_context_manager"):
            if hasattr(model, name):
                attach.set(model, name, refuse_batching)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate as the base model does, each prompt with the block of its route."""
        if self._thread.off or self._idle():
            with self.disabled():  # until the end, even if another thread adds edits meanwhile
                return self._generate(*args, **kwargs)
        call = self._open_call(args, kwargs)
        outer, self._thread.call = self._thread.call, call
        try:
            return self._generate(*args, **kwargs)
        finally:
            self._thread.call = outer

    def _open_call(self, args: Sequence[Any], kwargs: dict[str, Any]) -> GenerateCall | EncoderCall:
        return open_generate(self.reader, args, kwargs, self._reaches_all())

    def _idle(self) -> bool:
        self._decider.keep_up()
        with self._lock:
            return not len(self.bank)

    def _reaches_all(self) -> bool:
        with self._lock:
            return self.bank.reaches_all()

    def _enter(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the model runs: find the prompts of the call, or continue with the batch of its cache."""
        thread = self._thread
        thread.frame, thread.last = None, NO_ROUTES
        if thread.off or thread.blocks_in_use is not None:
            return
        inputs = dict(zip(self.backbone.forward_names, args, strict=False)) | kwargs
        tokens = inputs["input_ids"] if inputs.get("input_ids") is not None else inputs.get("inputs_embeds")
        if tokens is None:
            return  # the model raises its error about the missing input
        cache = inputs.get("past_key_values")
        routed: PromptBatch | None = getattr(cache, self.batch_attribute, None)
        if thread.call is None and routed is None and self._idle():
            return  # without edits only a route decided earlier matters: it stays even if its edit was removed
        refuse_packed(inputs)
        past = int(cache.get_seq_length()) if cache is not None else 0
        rows, columns = tokens.shape[:2]
        known = partial(heard, cache, self._heard, rows, past)
        if isinstance(thread.call, GenerateCall):
            if thread.call.batch is None:
                thread.call.batch = thread.call.open(rows, past, routed, known)
            batch = thread.call.batch
        else:
            batch = open_plain(self.reader, inputs, past, thread.lengths, routed, known)
            self._warn_once(batch)
        batch.check_rows(rows)
        if not batch.decided and past + columns < batch.length and self._reaches_all():
            raise RoutingError(
                "a prompt in chunks needs blocks with reach='answer'; this store has blocks with reach='all'"
            )
        thread.last = batch.outcome
        thread.frame = ForwardFrame(batch, past, columns, inputs.get("input_ids"))

    def _warn_once(self, batch: PromptBatch) -> None:
        if batch.boundary == "assumed" and not self._warned:
            self._warned = True
            logger.warning(
                "a plain forward call does not say where the prompt ends: all its tokens are taken as prompt; "
                "use editor.prompt_lengths([...]) or pass labels (said once)"
            )

    def _leave(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """After the model ran: attach the batch to its cache."""
        frame, self._thread.frame = self._thread.frame, None
        if frame is None or output is None:
            return
        if frame.batch.spelled:
            frame.batch.spell(output, frame.past, frame.columns)
        parts = output if isinstance(output, tuple) else (getattr(output, "past_key_values", None),)
        cache = next((part for part in parts if hasattr(part, "get_seq_length")), kwargs.get("past_key_values"))
        if cache is not None:
            setattr(cache, self.batch_attribute, frame.batch)
            remember(cache, self._heard, frame.past, frame.tokens)

    def _read_key(self, module: Any, args: Any, output: Any) -> None:
        """After the key layer: decide the routes and gather the blocks, once all columns of the prompts have run."""
        hidden = output if isinstance(output, Tensor) else output[0]
        if self._thread.keys_only:
            raise KeyLayerRan(hidden)
        frame = self._thread.active
        if frame is None or frame.batch.decided:
            return
        # the lock: or another thread could remove an edit after its route is decided, before it is gathered
        with self._lock, exact(hidden.device):
            pooled = frame.batch.collect(hidden, frame.past, self._decider.pooling)
            if pooled is not None:
                owners, routes = self._decider.decide(pooled)
                frame.batch.set_routes(owners, routes, self.bank, self._decider)

    def _edited(self, name: str) -> Callable[[Any, tuple[Any, ...], Any], Any]:
        """Return the hook of an edited module, which adds B_t A_t x to W x, row by row (Eq. 10 of the paper)."""

        def add_blocks(module: Any, args: tuple[Any, ...], output: Any) -> Any:
            thread = self._thread
            frame = thread.active
            if thread.blocks_in_use is not None and not thread.off:
                blocks, past, rows = thread.blocks_in_use, 0, len(thread.blocks_in_use[0].rows)
            elif frame is not None and frame.batch.blocks:
                blocks, past, rows = frame.batch.blocks, frame.past, len(frame.batch.acts_from)
            else:
                return None
            return apply_all(blocks, name, args[0], output, past, rows)

        return add_blocks

    def key_states(self, batch: Batch) -> Tensor:
        """Return the key layer's states (R, L, d) of a batch of prompts, without running the layers above it."""
        with own_run(self.model), self.disabled():
            run = self.backbone.key_run(batch)
            self._thread.keys_only = True
            try:
                run()
            except KeyLayerRan as ran:
                return ran.hidden
            finally:
                self._thread.keys_only = False
        raise ModelError(f"the key layer {self.locations.key_layer!r} did not run")
