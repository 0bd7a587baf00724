"""Open a store on a model: whether both fit, and what a new store is made with."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..callers.tokenizers import tokenizer_facts
from ..config import SCOPE_SETTINGS
from ..errors import ModelError, StoreError
from ..following.blocks import check_blocks
from ..routing.calibration import BUILT_IN
from ..store import Store
from ..store.database import real_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..backbones import Backbone, Locations
    from ..config import MeloConfig
    from .engine import Engine

logger = logging.getLogger(__name__)


def check_fits(
    store: Store, settings: MeloConfig, given: MeloConfig | None, backbone: Backbone, rekey: bool = False
) -> None:
    """Refuse a store that was made for another model, or with settings other than the ``given`` ones.

    Args:
        store: the store.
        settings: its settings.
        given: the settings that the caller wants; ``None``: the store's.
        backbone: the model.
        rekey: whether the keys are made again on this model, so that it may be another copy than they were made on.

    Raises:
        StoreError: saying what differs.
    """
    if rekey and settings.mode == "paper":
        raise StoreError(f"{store.path} is in paper mode, whose clusters hold keys of one copy: --rekey cannot move it")
    if given is not None and given.mode != settings.mode:
        raise StoreError(
            f"{store.path} was made in {settings.mode} mode and cannot be opened in {given.mode} mode: open it "
            "without a config, or make another store"
        )
    if given is not None and given != settings:
        raise StoreError(f"{store.path} was made with other settings: open it without a config")
    made_in, now_in, fingerprint = store.model.get("dtype"), str(backbone.model.dtype), backbone.fingerprint()
    if rekey:
        return
    if store.fact("fingerprint") != fingerprint:
        # float16 rounds otherwise than bfloat16, to which fingerprints are rounded
        load = f"load it in {made_in}, not in {now_in}, or " if made_in != now_in else ""
        raise StoreError(
            f"{store.path} was made for {store.fact('name')} (fingerprint {store.fact('fingerprint')}), "
            f"this model is {model_name(backbone.model)} (fingerprint {fingerprint}); if it is another copy of the "
            f"same model, {load}make the keys again on it and check every edit: {REKEY}"
        )
    check_tokenizer(store, backbone.tokenizer)
    if made_in != now_in:
        logger.warning("edits were made in %s, the model is in %s: check them (meloedit check)", made_in, now_in)


REKEY = "meloedit calibrate STORE --model MODEL --rekey (in Python: Editor.from_pretrained(store, model, rekey=True))"
"""How a store is moved to another copy of its model."""


def check_tokenizer(store: Store, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that reads texts otherwise than that of the store's edits; warn of another chat template."""
    now = tokenizer_facts(tokenizer)
    made = {name: store.model.get(name, value) for name, value in now.items()}  # a store may not know
    if made["tokenizer"] != now["tokenizer"]:
        raise StoreError(
            f"{store.path} was made with another tokenizer (fingerprint {made['tokenizer']}, this one has "
            f"{now['tokenizer']}): open it with the tokenizer of {store.model['name']}"
        )
    if made["chat_template"] != now["chat_template"]:
        logger.warning("edits were made with another chat template: check them")


def check_new(path: str | Path | None) -> None:
    """Refuse the path of a new store if something is there: before a model is loaded, which takes long.

    Raises:
        StoreError: if the path is taken.
    """
    if path is not None and os.path.exists(real_path(path)):
        raise StoreError(f"{path} exists already: open it with Editor.from_pretrained, or choose another path")


def move_store(store: Store, engine: Engine, model: Mapping[str, str | None]) -> None:
    """Move a store to another copy of its model: one transaction with a calibration and the keys of every edit.

    Args:
        store: the store, which the engine does not follow yet.
        engine: the model.
        model: what the store says of its model from now on.

    Raises:
        StoreError: if its blocks do not fit the model.
    """
    check_blocks(store, engine.router.bank.sites)
    info = store.calibration_info()
    if info.get("source", BUILT_IN) != BUILT_IN:
        logger.warning("%s was calibrated on %s, and is now on the built-in prompts", store.path, info["source"])
    scope = {name: info[name] for name in SCOPE_SETTINGS if name in info}
    with store.writing():
        engine.mode.calibrate(store, None, BUILT_IN, scope, None, model)


def create_store(
    path: str | Path, backbone: Backbone, locations: Locations, config: MeloConfig, name: str | None
) -> Store:
    """Make a store for a model; ``name`` is what it calls the model.

    Raises:
        StoreError: if the path is taken.
        ModelError: if the name is blank.
    """
    if name is not None and not name.strip():
        raise ModelError("name is blank: give what the store calls the model, or leave it out")
    # The modules that were chosen are written down: a later version may choose others.
    settings = config.to_dict() | {"modules": list(locations.modules), "key_layer": locations.key_layer}
    return Store.create(path, model_facts(backbone, locations, name), settings)


def model_facts(backbone: Backbone, locations: Locations, name: str | None) -> dict[str, str | None]:
    """Return what a store knows of a model; ``name`` is what it calls the model."""
    model = backbone.model
    facts: dict[str, str | None] = {"name": name or model_name(model), "fingerprint": backbone.fingerprint()}
    task = "SEQ_CLS" if backbone.documents else "CAUSAL_LM" if backbone.answer_follows_prompt else "SEQ_2_SEQ_LM"
    facts |= {"dtype": str(model.dtype), "chosen": locations.chosen, "task": task}
    return facts | tokenizer_facts(backbone.tokenizer)


def model_name(model: PreTrainedModel) -> str:
    """Return the name that a model was loaded by, else its class."""
    return model.config._name_or_path or type(model).__name__
