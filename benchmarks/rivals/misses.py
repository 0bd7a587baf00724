r"""Show why a method misses edits that it makes one at a time: what the target costs, and where that is lost.

    python -m benchmarks.rivals.misses --data counterfact-train.jsonl.gz --method rome --edits 10 \
        --set contexts=2 --set v_lr=1.0 --out misses.json

Each edit is made alone and asked with its own prompt. ``nll`` has the loss in nats of each of the target's tokens, the
last of which ends the answer. A miss is of one of these kinds:

- ``goes on``: the target is said, and the answer does not end behind it;
- ``vector``: (`rome`, `memit`, `alphaedit`) even the target vector itself, added where the subject has been read,
  does not bring the target about;
- ``update``: (the same) the vector does, and the changed matrices do not; ``arrived`` is the share of the vector that
  they add, along it;
- ``not routed``: (`wise`) the copy does not answer the prompt; ``distance`` is what its score lacks to the bound;
- ``other``: the weights have been changed, and say something else.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from meloedit.backbones.loading import DEMO_MODEL, load_model
from meloedit.evaluation.tasks.registry import load_task
from meloedit.methods import METHODS, method_class
from meloedit.methods.located.method import LocatedMethod
from meloedit.methods.located.rows import Row
from meloedit.methods.located.subject import subject_of
from meloedit.settings import parse_setting

from ..shared.options import option_parser, positive, share, write

if TYPE_CHECKING:
    from meloedit import Edit
    from meloedit.methods.base import Method


@contextmanager
def hooked(module: nn.Module, place: int, vector: Tensor | None, seen: list[Tensor]) -> Iterator[None]:
    """Keep what a module writes at a token; add a vector to it if there is one."""

    def look(_: nn.Module, args: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        seen.append(states[0, place].detach().clone())
        if vector is None:
            return output
        states = states.clone()
        states[:, place] += vector.to(states)
        return (states, *output[1:]) if isinstance(output, tuple) else states

    handle = module.register_forward_hook(look)
    try:
        yield
    finally:
        handle.remove()


class Look:
    """Looks at single edits of a method."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self._found: tuple[nn.Module, Tensor, Tensor] | None = None
        if isinstance(method, LocatedMethod):
            original = method.vector

            def vector(request: Any, module: nn.Module, below: int) -> tuple[Tensor, Tensor]:
                before, found = original(request, module, below)
                if self._found is None:  # of the prompt; other wordings follow
                    self._found = module, before, found
                return before, found

            method.vector = vector  # type: ignore[method-assign]

    def losses(self, edit: Edit) -> tuple[list[float], list[bool]]:
        """Return the loss of each of the target's tokens behind the prompt, and whether it is the likeliest."""
        encoded = self.method.backbone.encode(edit.prompt)
        target = torch.tensor(self.method.backbone.encode_target(edit.target, encoded))
        logits = self.method.logits([edit.prompt], [target.tolist()])[0].float().cpu()
        return cross_entropy(logits, target, reduction="none").tolist(), (logits.argmax(-1) == target).tolist()

    def __call__(self, edit: Edit) -> dict[str, Any]:
        """Make an edit alone; return what is seen of it."""
        method = self.method
        method.reset()
        self._found = None
        began = time.process_time()
        method.edit([edit])
        spent = time.process_time() - began
        nll, right = self.losses(edit)
        answer = method.answer([edit.prompt])[0]
        seen: dict[str, Any] = {"prompt": edit.prompt, "target": edit.target, "answer": answer.text}
        seen |= {"nll": rounded(nll), "held": answer.text.strip() == edit.target, "seconds": round(spent, 3)}
        kind = "goes on" if all(right[:-1]) else "other"
        if self._found is not None:
            of_vector, own = self._vector(edit, *self._found)
            seen |= of_vector
            kind = kind if kind == "goes on" else "update" if own else "vector"
        if answer.route is not None:
            seen |= {"distance": round(answer.route.distance, 3), "threshold": round(answer.route.threshold, 3)}
            kind = "not routed" if answer.route.edit is None else kind
        return seen | ({} if seen["held"] else {"kind": kind})

    def _vector(self, edit: Edit, module: nn.Module, before: Tensor, vector: Tensor) -> tuple[dict[str, Any], bool]:
        """Return what is seen of the target vector, and whether it brings the target about by itself."""
        method = self.method
        assert isinstance(method, LocatedMethod)
        place = Row.of(method.decoder, edit.prompt, subject_of(edit).text).place
        after, base = list[Tensor](), list[Tensor]()
        with hooked(module, place, None, after):
            self.losses(edit)
        with method._unedited(), hooked(module, place, vector, base):
            nll, right = self.losses(edit)
        arrived = (after[0] - base[0]).to(vector) @ vector / vector.square().sum()
        lengths = {"length": vector.norm(), "before": before.norm(), "arrived": arrived}
        return {"vector_nll": rounded(nll)} | {k: round(float(v), 3) for k, v in lengths.items()}, all(right)


def rounded(values: Sequence[float]) -> list[float]:
    """Return numbers with three digits behind the point."""
    return [round(value, 3) for value in values]


def main() -> None:
    """Look at the edits."""
    parser = option_parser(__doc__, out=False)
    parser.add_argument("--data", required=True, help="a file of CounterFact")
    parser.add_argument("--model", default=DEMO_MODEL)
    parser.add_argument("--method", required=True, choices=list(METHODS))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--edits", type=positive, default=10)
    parser.add_argument("--skip", type=int, default=0, help="leave out the first edits of the order")
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    args = parser.parse_args()
    settings = dict(map(parse_setting, args.set))
    items = load_task("counterfact", [args.data], protocol="single").items[args.skip :][: args.edits]
    method = method_class(args.method)(*load_model(args.model), settings)
    method.check()
    look = Look(method)
    rows = []
    for item in items:
        rows.append(look(item.edit))
        print(rows[-1], flush=True)
    method.close()
    kinds = Counter(row["kind"] for row in rows if not row["held"])
    result = {"method": args.method, "settings": settings, "edit_success": share([row["held"] for row in rows])}
    result |= {"misses": dict(kinds), "seconds_per_edit": median(row["seconds"] for row in rows)}
    write(result | {"edits": rows}, args.out, model=Path(args.model).name)


if __name__ == "__main__":
    main()
