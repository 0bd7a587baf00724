"""ROME (arXiv 2202.05262) as in its authors' code (kmeng01/rome): an update of rank one for each edit.

The update maps the key of the subject's last token to a value after which the model goes on with the target, and
disturbs other keys as little as their second moments allow. Settings have the authors' names; the defaults are theirs
for GPT-2 XL, with the layer at its relative depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .closed_form import direction, rank_one
from .method import LocatedMethod, LocatedSettings, Request
from .rows import states_at


@dataclass(frozen=True)
class RomeSettings(LocatedSettings):
    """Settings of ROME.

    Attributes:
        mean_key: write the value for the mean key over contexts, which the direction is made of. The authors' code
            writes it for the key behind no context, and a sequence of edits then breaks the model (arXiv 2403.07175).
    """

    mean_key: bool = True


class Rome(LocatedMethod):
    """Writes each edit into one matrix, one after another."""

    name = "rome"
    Settings = RomeSettings
    lengths = ((5, 1), (10, 1))

    def _write(self, requests: Sequence[Request]) -> None:
        (module,) = self.modules
        for request in requests:
            keys = states_at(self.decoder, self.rows(request), {module: True}, module)[module].double()
            u = direction(keys.mean(0), self.moments[module])
            _, vector = self.vector(request, self.model.get_submodule(module), self.last)
            key = keys.mean(0) if self.settings.mean_key else keys[0]
            self.change(module, rank_one(u, key, vector.double()))
