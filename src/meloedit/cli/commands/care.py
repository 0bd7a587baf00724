"""The commands that look after a store's file: verify, repair. Torch is imported only where answers are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import MeloEditError
from ...text import counted, join_names, plain
from ..loading import open_editor, open_store
from ..options import Json, StoreOptions, StorePath, with_options
from ..show import check_sound
from ..terminal import progress_display, put, put_json, quoted


@with_options(StoreOptions)
def verify(
    options: StoreOptions,
    answers: Annotated[
        int, typer.Option(metavar="N", min=0, help="Ask so many edits, spread over all; 0: the file alone, no model.")
    ] = 10,
) -> None:
    """Check a store's file, and ask a sample of its edits.

    Every page, reference, bound and checksum of the file is checked. Exit code 1 if anything is wrong.

    Example: meloedit verify facts.melo --answers 0
    """
    from ...store import verify as problems_of

    problems = problems_of(options.store)
    result: dict[str, Any] = {"problems": problems, "edits": None, "revision": None, "asked": 0, "broken": []}
    if not problems:
        with open_store(options.store) as opened:
            result |= {"edits": len(opened.edits()), "revision": opened.revision}
        if not options.as_json:
            put(f"{options.store} is sound: {counted(result['edits'], 'edit')}, revision {result['revision']}")
        if answers and result["edits"]:
            with progress_display() as progress, open_editor(options, progress) as editor:
                check = editor.check(progress=progress, sample=answers)
            result |= {"asked": check.checked, "broken": check.to_dict()["broken"]}
    if options.as_json:
        put_json(result)
    else:
        for line in problems:
            put(f"  {plain(line)}")
    check_sound(options.store, problems)
    if result["broken"]:
        ids = list(dict.fromkeys(item["id"] for item in result["broken"]))
        raise MeloEditError(f"{len(ids)} of {counted(result['asked'], 'edit')} asked do not hold: {join_names(ids)}")
    if result["asked"] and not options.as_json:
        put(f"{counted(result['asked'], 'edit')} asked, in every wording and form: all hold")


def repair(
    store: StorePath,
    to: Annotated[Path, typer.Option("--to", metavar="NEW", help="The new store's file; the old one stays as it is.")],
    as_json: Json = False,
) -> None:
    """Save what is whole in a damaged store into a new one.

    Says by name what was lost. It also brings a store of format 3, the one before, to today's. Edits whose text is
    whole, and the rest is not, come as NEW.again.jsonl: make them again with meloedit edit NEW NEW.again.jsonl.

    Example: meloedit repair facts.melo --to saved.melo
    """
    from ...store import repair as repaired

    found = repaired(store, to)
    if as_json:
        again = None if found.again is None else str(found.again)
        put_json({"store": str(to), "edits": found.edits, "whole": found.whole, "lost": found.lost, "again": again})
        return
    put(f"{counted(found.edits, 'edit')} saved in {to}" + (" with the history: nothing is lost" if found.whole else ""))
    for line in found.lost:
        put(f"  lost: {plain(line)}")
    if found.again is not None:
        put(f"make the edits in {found.again} again: meloedit edit {quoted(to)} {quoted(found.again)}")
