"""What an editor does with adapters: writes its edits as such, takes them in again, fuses several into one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..callers.arguments import checked
from .checking import Compared, compare_with_peft, expected, need_peft
from .exporting import Exported, check_format, choose, export_store
from .fusing import Fused, export_fused
from .importing import Imported, import_adapters
from .index import read_index
from .invocation import invocation_token

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..types import Progress


@checked
class AdapterView:
    """Writes the edits of an engine as adapters, and reads them."""

    engine: Engine

    def export(
        self,
        folder: str | Path,
        format: str = "peft",
        ids: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> Exported:
        """Write edits as adapters that PEFT and engines that read its files load: a folder for each, and an index.

        The store must be made with ``MeloConfig(reach="all", answer_positions=0)``; for ``alora`` with
        ``MeloConfig(answer_positions=0)``.

        Args:
            folder: where to; made if it is missing. An earlier export there is brought up to date.
            format: ``peft``: LoRAs; ``alora``: activated LoRAs of PEFT's, which act from the end of a chat's prompt on.
            ids: the edits; ``None``: all that are enabled.
            progress: told how many edits are done.

        Raises:
            StoreError: if the store's blocks are no such LoRAs, naming the settings to use.
            ModelError: if there is no such format, or no activated LoRA is exact for this model.
        """
        check_format(format)
        store, invocation = self.engine.store, None
        if format == "alora":
            chosen, _ = choose(store, ids)
            invocation = invocation_token(self.engine.backbone, [stored.edit for stored in chosen])
        return export_store(store, folder, ids, invocation, progress)

    def export_fused(
        self, folder: str | Path, rank: int, ids: Sequence[str] | None = None, progress: Progress | None = None
    ) -> Fused:
        """Write edits as one adapter that is always on, and measure what that loses against the routed edits.

        Args:
            folder: where to; made if it is missing.
            rank: the adapter's rank: the sum of the edits' changes is cut off there.
            ids: the edits; ``None``: all that are enabled.
            progress: told how many prompts are asked.
        """
        return export_fused(self.engine, folder, rank, ids, progress)

    def import_adapters(
        self,
        folder: str | Path,
        replace: bool = False,
        keep_both: bool = False,
        progress: Progress | None = None,
    ) -> Imported:
        """Put edits that ``export`` wrote into the store, in one transaction; nothing is trained.

        Args:
            folder: the adapters; if anything there was changed by hand, all of it is refused.
            replace: let an edit take the place of one with its id, or that may ask the same.
            keep_both: keep stored edits that ask the same in other words.
            progress: told how far a first calibration is.
        """
        self.prepare(progress)  # type: ignore[attr-defined]
        return import_adapters(self.engine, folder, replace, keep_both)

    def check_adapters(self, folder: str | Path, progress: Progress | None = None) -> Compared:
        """Ask exported adapters through PEFT, and compare the answers with the editor's.

        **This unloads the editor.** Every wording of every edit is asked, raw and in a chat (activated LoRAs: in a chat
        alone), and prompts that concern no edit.

        Args:
            folder: the adapters, as ``export`` wrote them.
            progress: told how many prompts are asked.
        """
        need_peft()
        forms = ("chat",) if read_index(Path(folder)).kind == "alora" else ("raw", "chat")
        wanted, backbone = expected(self.engine, forms, progress), self.engine.backbone
        self.unload()  # type: ignore[attr-defined]
        return compare_with_peft(backbone, folder, wanted, progress)
