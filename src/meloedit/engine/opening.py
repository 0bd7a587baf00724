"""Open a store on a model: whether both fit, and what a new store is made with."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StoreError
from ..store import Store
from ..store.database import real_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..backbones import Backbone, Locations
    from ..config import MeloConfig

logger = logging.getLogger(__name__)


def check_fits(store: Store, settings: MeloConfig, given: MeloConfig | None, backbone: Backbone) -> None:
    """Refuse a store that was made for another model, or with settings other than the ``given`` ones.

    Args:
        store: the store.
        settings: its settings.
        given: the settings that the caller wants; ``None``: the store's.
        backbone: the model.

    Raises:
        StoreError: saying what differs.
    """
    if given is not None and given.mode != settings.mode:
        raise StoreError(
            f"{store.path} was made in {settings.mode} mode and cannot be opened in {given.mode} mode: open it "
            "without a config, or make another store"
        )
    if given is not None and given != settings:
        raise StoreError(f"{store.path} was made with other settings: open it without a config")
    made_in, now_in, fingerprint = store.model.get("dtype"), str(backbone.model.dtype), backbone.fingerprint()
    if store.model["fingerprint"] != fingerprint:
        # float16 rounds otherwise than bfloat16, to which fingerprints are rounded
        hint = f"; if it is the same model, load it in {made_in}, not in {now_in}" if made_in != now_in else ""
        raise StoreError(
            f"{store.path} was made for {store.model['name']} (fingerprint {store.model['fingerprint']}), "
            f"this model is {model_name(backbone.model)} (fingerprint {fingerprint}){hint}"
        )
    if made_in != now_in:
        logger.warning("edits were made in %s, the model is in %s: check them", made_in, now_in)


def check_new(path: str | Path | None) -> None:
    """Refuse the path of a new store if something is there: before a model is loaded, which takes long.

    Raises:
        StoreError: if the path is taken.
    """
    if path is not None and os.path.exists(real_path(path)):
        raise StoreError(f"{path} exists already: open it with Editor.from_pretrained, or choose another path")


def create_store(
    path: str | Path, backbone: Backbone, locations: Locations, config: MeloConfig, name: str | None
) -> Store:
    """Make a store for a model; ``name`` is what it calls the model."""
    # The modules that were chosen are written down: a later version may choose others.
    settings = config.to_dict() | {"modules": list(locations.modules), "key_layer": locations.key_layer}
    model = backbone.model
    facts = {"name": name or model_name(model), "fingerprint": backbone.fingerprint(), "dtype": str(model.dtype)}
    facts["chosen"] = locations.chosen
    return Store.create(path, facts, settings)


def model_name(model: PreTrainedModel) -> str:
    """Return the name that a model was loaded by, else its class."""
    return model.config._name_or_path or type(model).__name__
