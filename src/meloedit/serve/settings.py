"""ServeSettings: the limits of a server, and what it shows and keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import MeloEditError


@dataclass(frozen=True)
class ServeSettings:
    """What a server allows, shows and keeps.

    Attributes:
        max_batch: the most answers that are made at once.
        max_waiting: the most answers that wait; more are refused with 429.
        max_tokens: the most tokens of an answer, and how many it has if the client does not say.
        max_prompt: the most tokens of a prompt.
        max_body: the most bytes of a request.
        max_edits: the most edits of one request.
        max_jobs: the most jobs that wait.
        timeout: the most seconds of an answer, waiting included.
        body_timeout: the most seconds in which a request's head, and then its body, must have come.
        max_connections: the most connections at once; more are closed.
        edits_at_once: how many edits of a job train before other changes get their turn.
        show_edits: whether answers say which edit gave them.
        keep_prompts: how many days prompts are kept beside the store; ``None``: no prompt is kept.
        origins: the web pages of other servers that may ask, by ``CORS``.
        console: whether the console is shown at ``/``.
        hosts: the names by which clients may call the server; empty: any.

    Raises:
        MeloEditError: if a limit is no positive number.
    """

    max_batch: int = 16
    max_waiting: int = 128
    max_tokens: int = 512
    max_prompt: int = 4096
    max_body: int = 4_000_000
    max_edits: int = 10_000
    max_jobs: int = 100
    timeout: float = 120.0
    body_timeout: float = 20.0
    max_connections: int = 2048
    edits_at_once: int = 8
    show_edits: bool = True
    keep_prompts: float | None = None
    origins: tuple[str, ...] = field(default_factory=tuple)
    console: bool = True
    hosts: tuple[str, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise MeloEditError(f"{name} must be more than 0, not {value}")
