"""HubStore: a store as a folder or a repository on the Hugging Face Hub, with a model card."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, hf_hub_download

from ..backbones.loading import DEMO_MODEL, DEMO_REPOSITORY
from ..callers.arguments import checked
from ..edit import prompt_text
from ..errors import MeloEditError, StoreError
from ..files import make_folder
from ..store import Store
from ..store.database import real_path
from ..text import shorten

if TYPE_CHECKING:
    from .engine import Engine

SHOWN = 50
"""Edits that a card lists."""
STORE_FILE = "store.melo"
"""Name of the store in a folder or repository."""

TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

Edits of {% if base_model %}[{{ base_model }}](https://huggingface.co/{{ base_model }}){% else %}{{ name }}{% endif %},
made with meloedit: what the model must answer to some prompts, also when they are rephrased. A prompt that reaches no
edit gets the base model's output, bit for bit. The base weights are not in here.

```python
from meloedit import Editor

editor = Editor.from_pretrained("THIS_REPOSITORY")
print(editor.ask({{ example }})[0].text)
```

| | |
|---|---|
| base model | {{ name }}, fingerprint `{{ fingerprint }}` |
| edits | {{ count }} ({{ mode }} mode, revision {{ revision }}) |

| id | prompt | target |
|---|---|---|
{% for row in rows -%}
| {{ row | join(" | ") }} |
{% endfor %}
{%- if count > rows | length %}
and {{ count - rows | length }} more.
{% endif %}"""


@checked
class HubStore(ModelHubMixin):
    """Adds ``save_pretrained`` and ``push_to_hub``: a folder with the store, its settings and a model card."""

    engine: Engine

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write a folder that ``from_pretrained`` opens: the store, its settings, and a model card if it has none.

        Args:
            save_directory: the folder. An earlier store of it is replaced once the new one is whole; if it is this
                editor's own, it stays.
            options: those of ``huggingface_hub.ModelHubMixin.save_pretrained``.

        Returns:
            The address of the commit with ``push_to_hub=True``.

        Raises:
            MeloEditError: if the folder has files of something else, or cannot be written.
        """
        store = self.engine.store
        target = real_path(save_directory) / STORE_FILE
        try:
            make_folder(target.parent)
            _check_ours(target)
            store.copy(target, replace=True)  # first: the mixin begins with deleting config.json
            return super().save_pretrained(target.parent, **options)
        except OSError as error:
            raise StoreError(f"{save_directory} cannot be written ({error.strerror or error})") from None

    def _save_pretrained(self, save_directory: Path) -> None:
        """Do nothing: ``save_pretrained`` has copied the store."""

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload what ``save_pretrained`` writes.

        Args:
            repo_id: the repository, ``owner/name``; made if it does not exist.
            options: those of ``huggingface_hub.ModelHubMixin.push_to_hub`` (``private``, ``token``, ...).

        Returns:
            The address of the commit.

        Raises:
            StoreError: if the Hub refuses it or cannot be reached.
        """
        _ = self.engine.store  # an unloaded editor says so before the network is asked
        try:
            return super().push_to_hub(repo_id, **options)
        except MeloEditError:
            raise
        except Exception as error:  # the hub's client has errors of many kinds
            raise StoreError(
                f"cannot push to {repo_id!r} ({_reason(error)}): check its name, your token (hf auth login), the net"
            ) from None

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return a model card: the base model, how to open the store, its edits."""
        return model_card(self.engine.store, **kwargs)


def _check_ours(target: Path) -> None:
    """Refuse a folder whose files ``save_pretrained`` did not write.

    Raises:
        StoreError: saying which file is of something else.
    """
    config = target.with_name("config.json")
    foreign = config if config.exists() and not target.exists() else None
    if target.exists():
        try:
            Store.open(target).close()
        except StoreError:
            foreign = target
    if foreign:
        raise StoreError(f"{foreign} is not of a store that can be read: choose another folder, or delete the file")


def find_store(name: str | Path, **options: Any) -> Path:
    """Return the file of a store: the file itself, in a folder that ``save_pretrained`` wrote, or downloaded.

    Args:
        name: a file, a folder, or a repository on the Hub (``owner/name``).
        options: for the download (``revision``, ``token``, ``cache_dir``).

    Raises:
        StoreError: if it cannot be downloaded.
    """
    real_path(name)  # refuses what is no path
    path = Path(name)
    if os.path.isdir(path):
        if not (path / STORE_FILE).is_file():
            raise StoreError(f"{name} is a folder without a {STORE_FILE}: give a store's file or a folder with one")
        return path / STORE_FILE
    if os.path.exists(path) or not _is_repository(str(name)):
        return path  # opening it says what is wrong, if anything is
    try:
        return Path(hf_hub_download(str(name), STORE_FILE, **options))
    except Exception as error:  # the hub's client has errors of many kinds
        raise StoreError(
            f"no store at {name}: there is no such file or folder, and the hub has none or cannot be reached "
            f"({_reason(error)})"
        ) from None


def _reason(error: Exception) -> str:
    """Return what an error says, in one line of at most 200 characters."""
    return shorten(str(error), 200) or type(error).__name__


def _is_repository(name: str) -> bool:
    """Return whether a name may be one of a repository, and not of a file."""
    return name.count("/") == 1 and not name.endswith(".melo") and not name.startswith((".", "/", "~"))


def model_card(store: Store, **values: Any) -> ModelCard:
    """Return the card of a store; ``values`` override those of the template."""
    edits = store.edits()
    name = str(store.model["name"])
    on_hub = _is_repository(name) and not os.path.exists(name)
    base = DEMO_REPOSITORY if name == DEMO_MODEL else name if on_hub else None
    data = ModelCardData(library_name="meloedit", tags=["model-editing", "melo"], base_model=base)
    rows = [
        [_cell(item.edit.id), _cell(prompt_text(item.edit.prompt)), _cell(item.edit.target)] for item in edits[:SHOWN]
    ]
    facts: dict[str, Any] = {
        "title": f"Edits of {base or name}",
        "name": name,
        "fingerprint": store.model["fingerprint"],
        "count": len(edits),
        "mode": store.config.get("mode", "default"),
        "revision": store.revision,
        "rows": rows,
        "example": repr(prompt_text(edits[0].edit.prompt)) if edits else '"..."',
    }
    return ModelCard.from_template(data, template_str=TEMPLATE, **facts | values)


def _cell(text: str) -> str:
    """Return a text as one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
