"""EncoderRouter: the router of encoder-decoders and classifiers, whose encoder reads the prompt alone.

In one pass of the encoder, a hook on it describes the prompts and the hook on the key layer decides their routes. The
encoder's output then carries the routes, because ``generate`` calls the encoder once, expands its output for beams, and
passes that to every forward call of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import RoutingError
from .calls import EncoderCall, checked_settings, real_tokens, refuse_packed
from .describe import describe_encoded
from .prompt_batch import NO_ROUTES, PromptBatch
from .router import Router
from .thread_state import ForwardFrame

if TYPE_CHECKING:
    from ..backbones import EncoderBackbone


class EncoderRouter(Router):
    """Routes every forward call of an encoder-decoder or a classifier."""

    backbone: EncoderBackbone

    def _attach(self) -> None:
        super()._attach()
        encoder = self.backbone.prompt_encoder
        if encoder is not self.model:
            self._attachment.hook(encoder, self._enter_encoder, self._leave_encoder, always_call=True)

    def _open_call(self, args: Sequence[Any], kwargs: dict[str, Any]) -> EncoderCall:
        given, _ = checked_settings(self.backbone, args, kwargs)
        call = EncoderCall()
        if given.get("encoder_outputs") is not None:  # generate repeats them for beams, in new tensors
            call.batch = getattr(given["encoder_outputs"][0], self.batch_attribute, None)
        return call

    def _enter(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        thread = self._thread
        thread.frame, thread.last = None, NO_ROUTES
        if self.backbone.prompt_encoder is self.model:
            self._enter_encoder(module, args, kwargs)
            return
        thread.in_model = True
        if thread.off or thread.blocks_in_use is not None:
            return
        inputs = dict(zip(self.backbone.forward_names, args, strict=False)) | kwargs
        states = inputs.get("encoder_outputs")
        if states is None:
            return  # the encoder runs inside this call, and its hook sees the prompt
        hidden: Tensor = states[0]
        batch = thread.call.batch if isinstance(thread.call, EncoderCall) else None
        batch = batch or getattr(hidden, self.batch_attribute, None)
        if batch is None:
            if self._idle():
                return
            raise RoutingError(
                "these encoder_outputs were not made by the edited model: pass input_ids, or use editor.base_model()"
            )
        self._begin(self._for_rows(batch, len(hidden)))

    def _for_rows(self, batch: PromptBatch, rows: int) -> PromptBatch:
        """Return the batch with its rows repeated to ``rows``, as ``generate`` does for beams and samples."""
        routed_rows = len(batch.acts_from)
        if rows != routed_rows and rows % routed_rows == 0 and isinstance(self._thread.call, EncoderCall):
            batch = self._thread.call.batch = batch.repeated(rows // routed_rows)
        batch.check_rows(rows)
        return batch

    def _begin(self, batch: PromptBatch) -> None:
        self._thread.last = batch.outcome
        self._thread.frame = ForwardFrame(batch, 0, batch.length)

    def _leave(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        self._thread.frame, self._thread.in_model = None, False

    def _enter_encoder(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Describe the prompts of a call of the prompt encoder."""
        thread = self._thread
        thread.frame = None
        if thread.off or thread.blocks_in_use is not None or self._idle():
            return
        names = self.backbone.encoder_forward_names
        inputs = dict(zip(names, args, strict=False)) | kwargs
        ids = inputs.get("input_ids")
        tokens = ids if ids is not None else inputs.get("inputs_embeds")
        if tokens is None:
            return  # the model raises its error about the missing input
        refuse_packed(inputs)
        real = real_tokens(inputs.get("attention_mask"), len(tokens), 0, tokens.shape[1])
        batch = describe_encoded(self.reader, ids, real)
        if isinstance(thread.call, EncoderCall):
            thread.call.batch = batch
        self._begin(batch)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate as the base model does, each prompt with the block of its route."""
        try:
            return super().generate(*args, **kwargs)
        finally:  # hooks do not run after Ctrl-C
            self._thread.frame, self._thread.in_model = None, False

    def _leave_encoder(self, module: Any, args: tuple[Any, ...], output: Any) -> None:
        """Attach the routes of the prompts to the encoder's output."""
        frame = self._thread.frame
        if not self._thread.in_model:
            self._thread.frame = None  # the decoder's calls come one by one
        if frame is not None and output is not None:
            setattr(output[0], self.batch_attribute, frame.batch)
