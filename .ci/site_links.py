"""Hook of the documentation site: links that lead out of it become plain text. In the repository they are links."""

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"\[([^\]\n]+)\]\((?!\w+:|#)([^)#\s]+)(?:#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **others: Any) -> str:
    """Keep the text alone of links to files beside ``docs/``, and to folders, which have no page."""
    site, here = Path(config.docs_dir), Path(page.file.abs_src_path).parent

    def text_or_link(link: re.Match[str]) -> str:
        target = (here / link[2]).resolve()
        outside = not target.is_relative_to(site) and target.exists()
        return link[1] if outside or target.is_dir() else link[0]

    return LINK.sub(text_or_link, markdown)
