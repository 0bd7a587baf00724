"""The router in front of another server: it names the adapter of each prompt's edit, and that server answers.

``app`` returns the ASGI app, ``meloedit route-proxy`` runs it. It is the server of ``meloedit serve`` with other
answers: ``answers`` has the endpoints, ``service`` decides which adapter answers, ``upstream`` is the other server,
``relaying`` brings its answers back. It needs the extra ``proxy``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import MeloEditError
from .. import need_packages

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ...editor import Editor
    from ..tokens import Tokens
    from .upstream import Upstream

__all__ = ["app", "need_proxy"]


def need_proxy() -> None:
    """Check that the packages of the extra are there.

    Raises:
        MeloEditError: naming the extra.
    """
    need_packages("proxy")
    try:
        import httpx  # noqa: F401
    except ModuleNotFoundError as error:
        raise MeloEditError(f"the proxy needs {error.name}: pip install 'meloedit[proxy]'") from None


def app(
    editor: Editor, upstream: Upstream, tokens: Tokens | None = None, adapters: str | None = None, **settings: Any
) -> FastAPI:
    """Return the ASGI app that routes prompts to the adapters of another server.

    Args:
        editor: a store whose edits were exported, on its model: the layers up to the key layer are run.
        upstream: the server that has the adapters.
        tokens: who may do what; ``None``: every caller may do everything, so let nobody else reach it.
        adapters: the folder of the adapters, as both servers see it: adapters of new edits are written there, and the
            other server is told to load them; ``None``: that is done by hand.
        settings: limits, see ``ServeSettings``.

    Raises:
        MeloEditError: if the extra is not installed, or the store's blocks are no adapters.
    """
    need_proxy()
    from ..application import app_of
    from ..settings import ServeSettings
    from ..tokens import Tokens
    from .answers import router
    from .service import ProxyService

    return app_of(ProxyService(editor, ServeSettings(**settings), tokens or Tokens(), upstream, adapters), router)
