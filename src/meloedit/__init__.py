"""Correct what a deployed language model says: one low-rank block per edit, routed by an index of hidden states.

Names are imported when they are first used, so that the command line starts without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import MeloConfig as MeloConfig
    from .edit import Edit as Edit
    from .editor import Editor as Editor
    from .errors import MeloEditError as MeloEditError
    from .keys.similarity import Evidence as Evidence
    from .readers import read_edits as read_edits
    from .results import Answer as Answer
    from .results import EditReport as EditReport
    from .results import Route as Route
    from .settings import PaperConfig as PaperConfig

__version__ = "0.1.0"

_HOME = {
    "Answer": "results",
    "Edit": "edit",
    "EditReport": "results",
    "Evidence": "keys.similarity",
    "Editor": "editor",
    "MeloConfig": "config",
    "MeloEditError": "errors",
    "PaperConfig": "settings",
    "Route": "results",
    "read_edits": "readers",
}
__all__ = [
    "Answer",
    "Edit",
    "EditReport",
    "Editor",
    "Evidence",
    "MeloConfig",
    "MeloEditError",
    "PaperConfig",
    "Route",
    "read_edits",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'meloedit' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
