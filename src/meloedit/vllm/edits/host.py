"""Host: a model inside vLLM's worker as the routing sees it, and a store opened on it without any other model."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ...backbones.prompts import CausalPrompts
from ...config import MeloConfig
from ...engine.opening import check_tokenizer
from ...errors import StoreError
from ...following.live import Live
from ...hooks.bank import BlockBank, Shape
from ...hooks.blocks import Site
from ...hooks.key_reader import KeyReader
from ...routing.nearest import NearestPolicy
from ...store import Store
from ..start.fingerprint import file_fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

    from ...routing.policy import Policy

logger = logging.getLogger(__name__)


class KeptBank(BlockBank):
    """A bank that two readers of one store share: a block stays until neither of them has its edit."""

    def larger(self, rank: int, places: int) -> Shape | None:
        """Return the shape of a block of greater rank, or with more places; ``None`` if there is none."""
        return next((one for one in self.shapes if one.rank > rank or one.positions > places), None)

    def remove(self, owners: Sequence[int]) -> None:
        """Do nothing: ``sweep`` drops what nobody has."""

    def clear(self) -> None:
        """Do nothing, as ``remove``."""

    def sweep(self, used: Set[int]) -> None:
        """Drop all blocks but those of these holders."""
        super().remove(sorted(self.owners - used))


class Host:
    """The model of a worker; implements ``routing.policy.Host``.

    Args:
        backbone: how its family reads prompts.
        linears: the edited modules by name, as vLLM has them.
        key_size: numbers of a state.
        limits: the greatest rank, and the greatest number of places, of a block; ``None``: any.
    """

    def __init__(
        self,
        backbone: CausalPrompts,
        linears: Mapping[str, Any],
        key_size: int,
        limits: tuple[int, int] | None = None,
    ) -> None:
        self.backbone, self.key_size, self.limits = backbone, key_size, limits
        self.reader = KeyReader(backbone)
        sites = [
            Site(name, one.input_size, one.output_size, one.weight.dtype, one.weight.device)
            for name, one in linears.items()
        ]
        self.bank = KeptBank(sites)
        self.key_device = sites[0].device


class ServedLive(Live):
    """The edits of a store, in step with it; one of the two that take turns.

    Args:
        host: the model.
        config: the store's settings.
        path: the store.
    """

    host: Host

    def __init__(self, host: Host, config: MeloConfig, path: str) -> None:
        super().__init__(config)
        self.host = host
        self._policy = self.open_policy()
        self.follow(Store.open(path))
        self.check(self.store.model)

    def open_policy(self) -> Policy:
        """Return a policy that knows no edit yet."""
        return NearestPolicy(self.host, self.config)

    def check(self, model: Mapping[str, Any]) -> None:
        """Refuse a store of another model, edits that act while their prompt still runs, and blocks without room.

        Args:
            model: what the store whose edits answer says of its model.

        Raises:
            StoreError: saying that the store was moved, or naming such an edit.
        """
        if self.store.model != model:
            raise StoreError(f"{self.store.path} was moved to another model: start vLLM anew, with that one")
        if found := next((one for one in self.store.edits() if one.reach == "all"), None):
            raise StoreError(
                f"edit {found.edit.id!r} of {self.store.path} acts on all tokens of a prompt (reach=all), which vLLM "
                "has run and cached before its route is known: make it anew with reach=answer"
            )

        if self.host.limits is not None and (large := self.host.bank.larger(*self.host.limits)):
            rank, places = large
            raise StoreError(
                f"{self.store.path} has a block of rank {rank} with {places} places, too large for this server: "
                "start vLLM anew"
            )

    @property
    def holders(self) -> set[int]:
        """The holders of the blocks that may answer."""
        return set(self._uses)


def settings_of(store: Store, family: str) -> MeloConfig:
    """Return the settings of a store that vLLM can serve.

    Raises:
        StoreError: if it cannot.
    """
    if (mode := store.config.get("mode", MeloConfig.mode)) != MeloConfig.mode:
        raise StoreError(f"{store.path} is in {mode} mode, which vLLM does not serve: meloedit serve does")
    config = MeloConfig.from_dict(store.config).for_family(CausalPrompts.defaults, family)
    if config.modules is None or config.key_layer is None:
        raise StoreError(f"{store.path} does not name the modules that it edits: it is no store that Editor made")
    if config.reach == "all":
        raise StoreError(f"{store.path} was made with reach=all, which vLLM cannot serve: make one with reach=answer")
    return config


def read_prompts(model_config: Any) -> CausalPrompts:
    """Return the prompt reader of the model that vLLM serves."""
    from transformers import AutoTokenizer, GenerationConfig

    where = {"revision": model_config.tokenizer_revision, "trust_remote_code": model_config.trust_remote_code}
    tokenizer = AutoTokenizer.from_pretrained(model_config.tokenizer, **where)
    try:
        stops = GenerationConfig.from_pretrained(model_config.model, revision=model_config.revision).eos_token_id
    except OSError:
        stops = None
    stops = stops if stops is not None else getattr(model_config.hf_text_config, "eos_token_id", None)
    return CausalPrompts(tokenizer, stops, model_config.max_model_len)


def check_model(store: Store, model: str, revision: str | None = None) -> None:
    """Refuse a store of another base model than the one whose files vLLM loads.

    Raises:
        StoreError: saying what differs.
        ModelError: if there are no files to compare.
    """
    found = file_fingerprint(model, revision)
    if store.fact("fingerprint") != found:
        raise StoreError(
            f"{store.path} was made for {store.fact('name')} (fingerprint {store.fact('fingerprint')}), vLLM serves "
            f"{model} (fingerprint {found}): give vLLM that model"
        )


def check_reading(store: Store, model_config: Any, backbone: CausalPrompts) -> None:
    """Refuse another tokenizer than the store's; warn of another chat template, or another dtype.

    Raises:
        StoreError: if the tokenizer reads otherwise.
    """
    check_tokenizer(store, backbone.tokenizer)
    made, now = store.model.get("dtype"), str(model_config.dtype)
    if made != now:
        own, its = str(made).removeprefix("torch."), now.removeprefix("torch.")
        logger.warning(
            "edits were made in %s, vLLM computes in %s: give it --dtype %s, or ask them in %s: "
            "meloedit check %s --dtype %s", own, its, own, its, store.path, its,
        )  # fmt: skip
