"""The model state of vLLM's V2 runner (``vllm/v1/worker/gpu/model_states/interface.py``): it tells of each pass."""

from __future__ import annotations

from typing import Any

from ..runners.v2 import StateView


class _Telling:
    """Mixed into the state that the model would have without edits."""

    def __init__(self, vllm_config: Any, model: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(vllm_config, model, *args, **kwargs)  # type: ignore[call-arg]
        self._melo = getattr(model, "melo_seat", None)
        if self._melo is not None:
            self._melo.view = self._melo_view = StateView()

    def add_request(self, req_index: int, new_req_data: Any) -> None:
        super().add_request(req_index, new_req_data)  # type: ignore[misc]
        if self._melo is not None:
            name, prompt = new_req_data.req_id, list(new_req_data.prompt_token_ids or ())
            if self._melo_view.differs(name, prompt):
                self._melo.drop({name})
            self._melo_view.add(name, prompt)

    def remove_request(self, req_id: str) -> None:
        """Forget the prompt of a request that has ended, while no store is open: then nobody else is told of it.

        One that is preempted comes again by ``add_request``. Where a store is open its prompt and its route stay until
        it finishes (``attach.py``).
        """
        super().remove_request(req_id)  # type: ignore[misc]
        if self._melo is not None and self._melo.served is None:
            self._melo_view.drop({req_id})

    def initialize_kv_cache(self, kv_cache_config: Any, block_tables: Any) -> None:
        super().initialize_kv_cache(kv_cache_config, block_tables)  # type: ignore[misc]
        if self._melo is not None:
            self._melo_view.resize(int(kv_cache_config.num_blocks), int(block_tables.block_sizes[0]))

    def preprocess_state(self, input_batch: Any, block_tables: Any, *args: Any, **kwargs: Any) -> None:
        super().preprocess_state(input_batch, block_tables, *args, **kwargs)  # type: ignore[misc]
        if self._melo is not None:  # real passes alone come here
            self._melo_view.take(input_batch, block_tables)
            self._melo.begin()


def state_class(base: type) -> type:
    """Return a subclass of a model state that lets the edits see each pass.

    Its ``remove_request`` is called for preempted requests, too, whose routes must stay: where a store is open,
    finished ones are dropped where the runner is told of them (``attach.py``).

    Args:
        base: the state that the model would have.
    """
    return type(f"Telling{base.__name__}", (_Telling, base), {})
