"""HubStore: a store as a folder or a repository on the Hugging Face Hub, with a model card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, hf_hub_download

from ..edit import prompt_text
from ..errors import StoreError

if TYPE_CHECKING:
    from ..store import Store
    from .engine import Engine

SHOWN = 50
"""Edits that a card lists."""
STORE_FILE = "store.melo"
"""Name of the store in a folder or repository."""

TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

Edits of [{{ base_model }}](https://huggingface.co/{{ base_model }}), made with meloedit: what the model must answer
to some prompts, in any wording. Every other prompt gets the base model's output, bit for bit. The base weights are not
in here.

```python
from meloedit import Editor

editor = Editor.from_pretrained("THIS_REPOSITORY")
print(editor.ask({{ example }}))
```

| | |
|---|---|
| base model | {{ base_model }}, fingerprint `{{ fingerprint }}` |
| edits | {{ count }} ({{ mode }} mode, revision {{ revision }}) |

| id | prompt | target |
|---|---|---|
{% for row in rows -%}
| {{ row | join(" | ") }} |
{% endfor %}
{%- if count > rows | length %}
and {{ count - rows | length }} more.
{% endif %}"""


class HubStore(ModelHubMixin):
    """Adds ``save_pretrained`` and ``push_to_hub``: a folder with the store, its settings and a model card."""

    engine: Engine

    def _save_pretrained(self, save_directory: Path) -> None:
        """Copy the store into a folder, in place of one that is there."""
        (save_directory / STORE_FILE).unlink(missing_ok=True)
        self.engine.store.copy(save_directory / STORE_FILE)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return a model card: the base model, how to open the store, its edits."""
        return model_card(self.engine.store, **kwargs)


def find_store(name: str | Path, **options: Any) -> Path:
    """Return the file of a store: the file itself, in a folder that ``save_pretrained`` wrote, or downloaded.

    Args:
        name: a file, a folder, or a repository on the Hub (``owner/name``).
        options: for the download (``revision``, ``token``, ``cache_dir``).

    Raises:
        StoreError: if it cannot be downloaded.
    """
    path = Path(name)
    if path.is_dir() and (path / STORE_FILE).is_file():
        return path / STORE_FILE
    if path.exists() or not _is_repository(str(name)):
        return path  # opening it says what is wrong, if anything is
    try:
        return Path(hf_hub_download(str(name), STORE_FILE, **options))
    except Exception as error:  # the hub's client has errors of many kinds
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise StoreError(
            f"no store at {name}: there is no such file or folder, and the hub has none or cannot be reached ({reason})"
        ) from None


def _is_repository(name: str) -> bool:
    """Return whether a name may be one of a repository, and not of a file."""
    return name.count("/") == 1 and not name.endswith(".melo") and not name.startswith((".", "/", "~"))


def model_card(store: Store, **values: Any) -> ModelCard:
    """Return the card of a store; ``values`` override those of the template."""
    edits = store.edits()
    base = str(store.model["name"])
    data = ModelCardData(library_name="meloedit", tags=["model-editing", "melo"], base_model=base)
    rows = [
        [_cell(item.edit.id), _cell(prompt_text(item.edit.prompt)), _cell(item.edit.target)] for item in edits[:SHOWN]
    ]
    facts: dict[str, Any] = {
        "title": f"Edits of {base}",
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
