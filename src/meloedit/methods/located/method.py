"""What ROME, MEMIT and AlphaEdit share: the edited matrices, the statistics of their keys, the contexts, the state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from ...errors import EditError
from ..changed import ChangedMatrices
from ..free_memory import check_room
from ..settings import Settings
from .contexts import written_contexts
from .rows import Row, Rows, with_context
from .statistics import Statistics
from .subject import span_of, subject_of
from .target import Search, find_vector

if TYPE_CHECKING:
    from ...backbones.causal import CausalBackbone
    from ...edit import Edit
    from ...types import Prompt


@dataclass(frozen=True)
class LocatedSettings(Settings):
    """Settings of an editor that writes at the subject's last token.

    Attributes:
        depth: relative depth of the last edited layer, from 0 to 1.
        v_num_grad_steps: passes in which the target vector is looked for.
        v_lr: Adam's learning rate for it.
        v_weight_decay: weight of its length.
        clamp_norm_factor: its most length, in lengths of what it is added to.
        kl_factor: weight of the change of what follows "SUBJECT is a".
        contexts: texts that the model writes, behind each of which the prompt is learned too.
        end_token: learn the token that ends an answer, too; the authors do not, and their answers do not stop.
        text: a file of texts for the statistics of keys; empty: the built-in questions.
        tokens: most tokens of it that are read.
        statistics: folder where statistics are kept; empty: the usual cache.
    """

    shares = ("depth",)
    from_zero = ("v_weight_decay", "kl_factor", "contexts")
    files = ("text",)
    depth: float = 0.36
    v_num_grad_steps: int = 20
    v_lr: float = 0.5
    v_weight_decay: float = 0.5
    clamp_norm_factor: float = 4.0
    kl_factor: float = 0.0625
    contexts: int = 20
    end_token: bool = True
    text: str = ""
    tokens: int = 50_000
    statistics: str = ""


@dataclass(frozen=True)
class Request:
    """One wording of an edit: its prompt, the subject that it names, and the target."""

    prompt: Prompt
    subject: str
    target: str


class LocatedMethod(ChangedMatrices):
    """Writes edits into feed-forward output matrices. Other wordings of an edit count if they name its subject."""

    Settings = LocatedSettings
    causal_only = "it writes where a decoder-only model has read the subject"
    unfit = {"document": "a document has no subject whose last token a fact could be written to"}
    lengths: tuple[tuple[int, int], ...] = ()
    """How long the contexts are: tokens, and their share in parts; a method says it."""
    starts: tuple[str, ...] = ("",)
    """What the contexts begin with, in turn."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decoder = cast("CausalBackbone", self.backbone)
        self.prefix, self.last = self.layer_at(self.settings.depth)
        self.keep_matrices(self.prefix, self._numbers())
        settings = self.settings
        self._statistics = Statistics(self.decoder, settings.text, settings.tokens, settings.statistics, self.name)
        self.contexts: list[str] | None = None
        self.moments: dict[str, Tensor] = {}

    def _numbers(self) -> list[int]:
        """Return the numbers of the edited layers."""
        return [self.last]

    @classmethod
    def check_edits(cls, edits: Sequence[Edit]) -> None:
        """Raise a MeloEditError if an edit's subject is neither given nor found in its prompt."""
        for edit in edits:
            try:
                subject_of(edit)
            except EditError as error:
                raise EditError(f"method {cls.name} writes at the subject: {error}") from None

    def check(self) -> None:
        """Raise a MeloEditError if the statistics do not fit the model, or memory does not suffice."""
        count = len(self.modules)
        layers = f"the statistics of {count} layer{'s' if count > 1 else ''}"
        check_room(self.name, self._need(), layers, self.backbone.device)
        self._statistics.check(self.modules)

    matrices = 1
    """Square matrices of an edited module's inputs that are kept."""

    def _need(self) -> int:
        """Return the bytes that statistics, solving (four such matrices) and copies of the weights take, about."""
        sides = [self.shape(name)[0] for name in self.modules]
        squares = sum(self.matrices * side**2 for side in sides) + 4 * max(side**2 for side in sides)
        return 8 * squares + sum(weight.nbytes for weight in self._originals.values())

    # -- editing

    @contextmanager
    def _unedited(self) -> Iterator[None]:
        """Put the original matrices in place."""
        current = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self._put(self._originals)
        try:
            yield
        finally:
            self._put(current)

    def _ready(self) -> None:
        """Write the contexts and read the statistics, both of the unedited model, before the first edit."""
        if self.contexts is not None:
            return
        settings, contexts = self.settings, list[str]()
        parts = sum(part for _, part in self.lengths)
        with self._unedited():
            self.moments = self._statistics.moments(self.modules)
            for length, part in self.lengths:
                count = settings.contexts * part // parts
                contexts += written_contexts(self.decoder, self.starts, length, count, settings.seed)
        self.contexts = contexts

    def _edit(self, edits: Sequence[Edit]) -> None:
        self.check_edits(edits)
        self._ready()
        requests = []
        for edit in edits:
            subject = subject_of(edit).text
            wordings = [edit.prompt, *(prompt for prompt in edit.variants if span_of(prompt, subject) is not None)]
            requests += [Request(prompt, subject, edit.target) for prompt in wordings]
        self._write(requests)

    @abstractmethod
    def _write(self, requests: Sequence[Request]) -> None:
        """Change the matrices."""

    def rows(self, request: Request) -> list[Row]:
        """Return a request's rows: the prompt alone, then behind each context that leaves room for it."""
        parts = request.subject, request.target, self.settings.end_token
        rows = [Row.of(self.decoder, request.prompt, *parts)]
        for context in self.contexts or ():
            with suppress(EditError):  # too long behind it
                rows.append(Row.of(self.decoder, with_context(context, request.prompt), *parts))
        return rows

    def vector(self, request: Request, module: nn.Module, below: int) -> tuple[Tensor, Tensor]:
        """Return what a module writes at the subject, and what must be added there for the target.

        Args:
            request: the request.
            module: the module.
            below: how many layers the vector does not touch.
        """
        settings = self.settings
        search = Search(**{name: getattr(settings, name) for name in Search.__dataclass_fields__})
        essence = Row.of(self.decoder, f"{request.subject} is a", request.subject)
        return find_vector(Rows(self.decoder, [*self.rows(request), essence]), module, below, search)

    def details(self) -> dict[str, Any]:
        """Return the subjects that the edits did not give, by their ids."""
        subjects = {name: subject_of(edit) for name, edit in self.edits.items()}
        found = {name: subject.text for name, subject in subjects.items() if subject.found}
        return {"subjects_found": found} if found else {}
