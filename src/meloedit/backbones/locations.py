"""Locations: which layer gives the keys and which modules are edited, by the settings or by the model's structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ModelError
from ..text import counted
from .feed_forward import FeedForward, feed_forwards
from .layers import compressed, linear_names

if TYPE_CHECKING:
    from ..config import MeloConfig
    from .base import Backbone


@dataclass(frozen=True)
class Locations:
    """The modules that an editor uses, by name.

    Attributes:
        key_layer: the module whose output gives the keys.
        modules: the edited modules: linear ones, or whole feed-forwards.
        first_edited_layer: index of the first edited layer in its stack.
        first_edited_stack: number of the stack that has the first edited layer.
        chosen: why these modules, in a sentence.
    """

    key_layer: str
    modules: tuple[str, ...]
    first_edited_layer: int
    first_edited_stack: int = 0
    chosen: str = ""


def locate(backbone: Backbone, config: MeloConfig) -> Locations:
    """Choose the key layer and the edited modules: those that ``config`` names, else by the model's structure.

    Raises:
        ModelError: if a module does not exist (the message lists those that do), or the key layer is not below the
            edited modules, or no layer has a feed-forward.
    """
    if config.modules is not None:
        modules, chosen = _existing(backbone, config.modules), "named by the settings"
    else:
        modules, chosen = _last_feed_forwards(backbone, config.layers)
    first = min(backbone.layer_of(name) for name in modules)
    key_layer = _key_layer(backbone, config, first)
    encoder_edited = not backbone.answer_follows_prompt and first[0] < len(backbone.stacks) - 1
    if encoder_edited and config.reach == "answer":
        raise ModelError("blocks in the encoder act on the prompt: edit decoder modules, or set reach to 'all'")
    return Locations(key_layer, modules, first[1], first[0], chosen)


def _last_feed_forwards(backbone: Backbone, count: int) -> tuple[tuple[str, ...], str]:
    """Return the modules at which the last ``count`` layers that have a feed-forward are edited, and why these."""
    prefix, layers = backbone.stacks[-1]
    found: list[FeedForward] = []
    without: list[int] = []
    top = len(layers)
    while top and len(found) < count:
        numbers = last_layers(top, count - len(found))
        places = feed_forwards(backbone, [f"{prefix}.{i}" for i in numbers])
        found = [place for place in places if place is not None] + found
        without = [i for i, place in zip(numbers, places, strict=True) if place is None] + without
        top = numbers[0]
    if not found:
        raise ModelError(
            f"{type(backbone.model).__name__} has no feed-forward in its layers, where each part mixes tokens: "
            "name the modules to edit"
        )
    reasons = {place.why: [other.module for other in found if other.why == place.why] for place in found}
    whys = [f"{', '.join(names)}: {why}" if len(reasons) > 1 else why for why, names in reasons.items()]
    sentence = f"in the last {counted(len(found), 'layer')} with a feed-forward, {'; '.join(whys)}"
    if without:
        sentence += f"; {prefix}.{', .'.join(map(str, without))} {'have' if len(without) > 1 else 'has'} none"
    return tuple(place.module for place in found), sentence


def _existing(backbone: Backbone, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the modules with these names, linear ones or whole feed-forwards; one that ends in ``?`` may be absent."""
    names, family = linear_names(backbone.model), type(backbone.model).__name__
    for name in wanted:
        if not name.endswith("?") and name not in names:
            if _is_whole(backbone, name):
                names.append(name)
                continue
            raise ModelError(f"no linear module {name!r} in {family}; it has: {', '.join(compressed(names))}")
    existing = [name.rstrip("?") for name in wanted if name.rstrip("?") in names]
    if not existing:
        raise ModelError(f"none of the modules {', '.join(wanted)} is in {family}")
    return tuple(existing)


def _is_whole(backbone: Backbone, name: str) -> bool:
    """Return whether a name is that of a whole feed-forward at which its layer is edited."""
    if name not in dict(backbone.model.named_modules()):
        return False
    try:
        stack, layer = backbone.layer_of(name)
    except ModelError:  # outside the layers
        return False
    (found,) = feed_forwards(backbone, [f"{backbone.stacks[stack][0]}.{layer}"])
    return found is not None and found.module == name


def _key_layer(backbone: Backbone, config: MeloConfig, first: tuple[int, int]) -> str:
    """Return the key layer, which must lie where the prompt is read and below the first edited layer."""
    prefix, layers = backbone.stacks[0]
    span = f"{prefix}.0 to .{len(layers) - 1}"
    key_layer = config.key_layer
    if key_layer is None:
        top = first[1] if first[0] == 0 else len(layers)
        key_layer = f"{prefix}.{key_layer_index(len(layers), config.key_depth, top)}"
    elif key_layer not in dict(backbone.model.named_modules()):
        raise ModelError(f"no module {key_layer!r} to take keys from; layers: {span}")
    place = backbone.layer_of(key_layer)
    if place[0] != 0:
        raise ModelError(f"key_layer {key_layer!r} must lie where the prompt is read, in {span}")
    if place >= first:
        below = f"{backbone.stacks[first[0]][0]}.{first[1]}"
        raise ModelError(f"key_layer {key_layer!r} must lie below the first edited layer, {below}")
    return key_layer


def last_layers(total: int, count: int) -> list[int]:
    """Return the indices of the last ``count`` of ``total`` layers; of all layers if there are fewer."""
    return list(range(max(0, total - count), total))


def key_layer_index(total: int, depth: float, first_edited: int) -> int:
    """Return the index of the key layer: the share ``depth`` of the way up, but below the first edited layer.

    Raises:
        ModelError: if the first edited layer is the lowest.
    """
    index = min(round(depth * total), first_edited - 1)
    if index < 0:
        raise ModelError(
            f"the first edited layer is layer {first_edited}: edit later layers, keys are taken below them"
        )
    return index
