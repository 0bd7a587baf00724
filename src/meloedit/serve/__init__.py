"""The server: the edited model over HTTP, as OpenAI's API has it, and its edits over REST.

``app`` returns the ASGI app, to mount in one's own service; ``meloedit serve`` runs it. It needs the extra ``serve``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import MeloEditError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..editor import Editor
    from .tokens import Tokens

__all__ = ["app", "need_packages"]


def need_packages(extra: str = "serve") -> None:
    """Check that the packages of an extra are there.

    Args:
        extra: the extra that is named where they are not.

    Raises:
        MeloEditError: naming the extra.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise MeloEditError(f"serving needs {error.name}: pip install 'meloedit[{extra}]'") from None


def app(editor: Editor, tokens: Tokens | None = None, **settings: Any) -> FastAPI:
    """Return the ASGI app that serves an editor.

    **It puts the model into ``eval()`` mode and freezes its weights.**
    Its threads start and stop with the app's lifespan. An app that mounts it must pass its own lifespan on.

    Args:
        editor: the edited model.
        tokens: who may do what; ``None``: every caller may do everything, so let nobody else reach it.
        settings: limits, see ``ServeSettings``.

    Raises:
        MeloEditError: if the extra ``serve`` is not installed, or the model cannot be served.
    """
    need_packages()
    from .application import make_app
    from .settings import ServeSettings

    return make_app(editor, ServeSettings(**settings), tokens)
