"""Worker: the methods that vLLM mixes into its worker (``--worker-extension-cls meloedit.vllm.Worker``).

``LLM.collective_rpc`` and ``EngineClient.collective_rpc`` reach them. They return what JSON can hold.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..errors import MeloEditError, ModelError
from ..store import Store
from .eager.hooks import Hooks
from .eager.served import Served
from .edits.follower import EVERY, Follower
from .edits.host import Host, ServedLive, check_model, check_reading, read_prompts, settings_of
from .graphs.attach import GraphHooks
from .graphs.served import GraphServed
from .graphs.shards import Crew, ranks
from .runners.v1 import RunnerView
from .start import checks

if TYPE_CHECKING:
    from .graphs.seat import Seat


class Attached:
    """All that the plugin has in one worker. Nothing is changed in vLLM before ``start``.

    Args:
        worker: vLLM's worker.
        path: the store.
        every: seconds between two looks at it.

    Raises:
        MeloEditError: if edits could not answer, or not rightly.
    """

    served: Served | GraphServed

    def __init__(self, worker: Any, path: str, every: float) -> None:
        config, runner = worker.vllm_config, worker.model_runner
        seat: Seat | None = getattr(runner.get_model(), "melo_seat", None)
        checks.check_version()
        checks.check_class(seat is not None)
        checks.check_config(config, seat is not None)
        checks.check_runner(runner, seat is not None)
        checks.check_cache(runner)
        store = Store.open(path)
        settings = settings_of(store, type(runner.get_model()).__name__)
        layers = config.model_config.hf_text_config.num_hidden_layers
        checks.check_scheduler(config, checks.touches_kv(settings.modules or (), layers))
        backbone = read_prompts(config.model_config)
        check_model(store, config.model_config.model, config.model_config.revision)
        check_reading(store, config.model_config, backbone)
        self.path = str(store.path.absolute())
        self._runner, self._seat = runner, seat
        self.hooks: Hooks | GraphHooks
        self._crew: Crew | None = None
        if seat is None:
            self.hooks = own = Hooks(runner, str(settings.key_layer), settings.modules or ())
            linears, limits = own.linears, None
        else:
            checks.check_split(config)
            seat.check(settings)
            self.hooks, self._crew = GraphHooks(runner, seat), seat.crew(ranks(config))
            linears, limits = seat.linears, seat.limits
        self.host = Host(backbone, linears, config.model_config.get_hidden_size(), limits)
        reads = self._crew is None or self._crew.first  # one of the ranks reads the store
        self.follower = Follower(lambda: ServedLive(self.host, settings, self.path), every) if reads else None

    def start(self) -> None:
        """Let the edits answer.

        Raises:
            ModelError: if vLLM's passes run past them; all is taken off again then.
        """
        if isinstance(self.hooks, Hooks):
            assert self.follower is not None
            eager = self.served = Served(RunnerView(self._runner), self.host, self.follower)
            self.hooks.attach(eager)
        else:
            assert self._seat is not None and self._crew is not None
            view = self._seat.view or RunnerView(self._runner)
            graphs = self.served = GraphServed(view, self._seat.wide, self._crew, self.host, self.follower)
            self.hooks.attach(graphs)
        try:
            self.hooks.probe()
        except BaseException:
            self.close()
            raise
        if self.follower is not None:
            self.follower.start()

    def close(self) -> None:
        """Take the hooks off, and follow the store no longer."""
        if self.follower is not None:
            self.follower.stop()
        self.hooks.detach()


class Worker:
    """Mixed into vLLM's worker class; no name here is one of its own."""

    def melo_open(self, path: str | None = None, every: float = EVERY) -> dict[str, Any]:
        """Let the edits of a store answer; if they cannot, what answered before goes on.

        Open it before the first request, or empty the prefix cache after (``reset_prefix_cache``): the states of what
        ran before were not kept. A prompt that lacks some is told as ``failed``.

        Args:
            path: the store; ``None``: the one that ``--additional-config`` names.
            every: seconds between two looks at what changed in it.
        """
        config: Any = self.vllm_config  # type: ignore[attr-defined]
        path = path or dict(config.additional_config or {}).get(checks.STORE)
        if not path:
            raise ModelError(f'no store is named: add --additional-config \'{{"{checks.STORE}": "FILE"}}\'')
        opened = Attached(self, path, every)
        self.melo_close()
        opened.start()
        self._melo = opened
        return self.melo_facts()

    def melo_start(self) -> dict[str, Any]:
        """Let the edits answer of the store that ``--additional-config`` names, unless one is open.

        Each of vLLM's API servers calls it; a second opening would forget the states of what has run.
        """
        return self.melo_open() if getattr(self, "_melo", None) is None else self.melo_facts()

    def melo_close(self) -> None:
        """Let the base model answer, as if there were no plugin."""
        attached: Attached | None = getattr(self, "_melo", None)
        if attached is not None:
            attached.close()
            self._melo = None  # type: ignore[assignment]

    def melo_follow(self) -> int:
        """Follow the store now, and return the revision that answers from the next pass on; -1 where none is read."""
        follower = _attached(self).follower
        return -1 if follower is None else follower.look()

    def melo_wake(self) -> None:
        """Let the thread look at the store at once."""
        if (follower := _attached(self).follower) is not None:
            follower.wake()

    def melo_facts(self) -> dict[str, Any]:
        """Return which revision answers, how many edits it has, and what the plugin did so far."""
        return _plain(_attached(self).served.facts())

    def melo_routes(self, name: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the latest routes by request; with a ``name``, of the requests whose name begins so."""
        return _plain(_attached(self).served.requests.told(name))

    def melo_forget(self) -> None:
        """Forget the routes that were told, and what was counted."""
        served = _attached(self).served
        served.requests.clear()
        served.passes, served.seconds = 0, 0.0


def _attached(worker: Any) -> Attached:
    attached: Attached | None = getattr(worker, "_melo", None)
    if attached is None:
        raise MeloEditError("no store is open in this worker: call melo_open first")
    return attached


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: no infinities."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
