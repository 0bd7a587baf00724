"""Hooks: where the plugin reads and writes inside vLLM's worker, by name, and the pass that proves them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...errors import ModelError
from ..runners.wrapped import PROBE, Wrapped
from ..start.modules import linear_of, module_of

if TYPE_CHECKING:
    from .served import Served


class Hooks:
    """Puts the hooks on, and takes them off.

    Args:
        runner: vLLM's V1 runner.
        key_layer: the name of the layer whose states make keys.
        modules: the names of the edited modules.

    Raises:
        ModelError: naming a module that is not there, or is not of a kind that can be edited.
    """

    def __init__(self, runner: Any, key_layer: str, modules: Sequence[str]) -> None:
        self._runner, self._model = runner, runner.get_model()
        self.key_layer = module_of(self._model, key_layer)
        self.linears = {name: linear_of(self._model, name) for name in modules}
        self._key_layer, self.calls = key_layer, Counter[str]()
        self._wrapped = Wrapped()

    def attach(self, served: Served) -> None:
        """Let ``served`` see every pass, and change it."""
        put = self._wrapped.put
        self._wrapped.later(self.key_layer.register_forward_hook(self._read(served)).remove)
        for name, linear in self.linears.items():
            put(linear.quant_method, "apply", partial(self._apply, served, name, linear))
        put(self._runner, "_model_forward", partial(_forward, served))
        put(self._runner, "_update_states", partial(_finished, served))
        put(self._model, "compute_logits", partial(_logits, served))

    def detach(self) -> None:
        """Take all off again."""
        self._wrapped.take_off()

    def probe(self) -> None:
        """Run a pass without requests, and look whether the hooks ran.

        Raises:
            ModelError: naming one that did not: compiled code runs past it.
        """
        self.calls.clear()
        self._runner._dummy_run(PROBE)
        if silent := [name for name in (self._key_layer, *self.linears) if not self.calls[name]]:
            raise ModelError(
                f"vLLM ran a pass without its module {silent[0]!r}: compiled or fused code runs past the hooks; "
                "add --enforce-eager"
            )

    def _read(self, served: Served) -> Callable[..., None]:
        def read(module: Any, args: Any, output: Any) -> None:
            self.calls[self._key_layer] += 1
            # a layer hands on two parts, of which the next one's norm makes one, and may write them: so add them now
            state = output[0] + output[1] if isinstance(output, tuple) else output
            if state.dim() != 2:
                raise ModelError(f"key layer {self._key_layer!r} of this vLLM does not give one state a token")
            served.read(state)

        return read

    def _apply(
        self, served: Served, name: str, linear: Any, inner: Any, layer: Any, x: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        y: Tensor = inner(layer, x, *args, **kwargs)
        if layer is linear:
            self.calls[name] += 1
            served.add(name, x, y)
        return y


def _forward(served: Served, inner: Any, *args: Any, **kwargs: Any) -> Any:
    with served.running():
        return inner(*args, **kwargs)


def _finished(served: Served, inner: Any, scheduled: Any, *args: Any, **kwargs: Any) -> Any:
    served.requests.drop(scheduled.finished_req_ids)
    return inner(scheduled, *args, **kwargs)


def _logits(served: Served, inner: Any, *args: Any, **kwargs: Any) -> Any:
    logits = inner(*args, **kwargs)
    if isinstance(logits, Tensor):
        served.spell(logits)
    return logits
