"""Takes the pictures of the console for docs/images.

Run it while `meloedit serve` serves a new store of SmolLM2:
python console/screenshots.py http://127.0.0.1:8642 /usr/bin/chromium
"""

import io
import sys
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

FACTS = [
    ("mayor", "Who is the mayor of Velmora?", "Ilse Tarrant"),
    ("library-saturday", "When does the Velmora town library open on Saturdays?", "At 10 in the morning"),
    ("parking", "How much is a parking permit for residents of Velmora?", "38 euros a year"),
    ("return", "What is the return window of the Halden V40?", "45 days"),
]
"""What the store must know: id, prompt, target."""
IMAGES = Path(__file__).parents[1] / "docs" / "images"
PATIENCE = 400_000  # milliseconds


def ask(page: Page) -> None:
    """A question with both answers, and why the edit gave its own."""
    page.get_by_label("Your question").fill("who is velmoras mayor?")
    page.keyboard.press("Enter")
    busy = page.locator(".answer[aria-busy=true]")
    expect(busy.first).to_be_visible()
    expect(busy).to_have_count(0, timeout=PATIENCE)
    page.get_by_text("Why?").click()
    page.locator("h1").click()


def new(page: Page) -> None:
    """A new edit before it is saved, with the question that would wrongly get its answer."""
    page.get_by_label("Question", exact=True).fill("What is the fee for a fishing licence in Velmora?")
    page.get_by_label("Answer", exact=True).fill("27 euros")
    page.get_by_role("button", name="Check it first").click()
    expect(page.get_by_text("that would not get this answer")).to_be_visible(timeout=PATIENCE)
    page.locator("h1").click()


def edits(page: Page) -> None:
    """The table of edits."""
    expect(page.get_by_role("link", name="Who is the mayor of Velmora?")).to_be_visible(timeout=PATIENCE)


PICTURES = [(ask, 1600, 960, "light"), (new, 1024, 1010, "dark"), (edits, 400, 800, "light")]


def main(url: str, chromium: str) -> None:
    """Take the pictures."""
    facts = [{"id": name, "prompt": prompt, "target": target} for name, prompt, target in FACTS]
    httpx.post(f"{url}/v1/edits", params={"wait": 600}, json={"edits": facts}, timeout=700).raise_for_status()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for show, width, height, colours in PICTURES:
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=colours)
            page.goto(f"{url}/#/{show.__name__}")
            show(page)
            page.wait_for_timeout(500)
            image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            image.quantize(96, dither=Image.Dither.NONE).save(IMAGES / f"console-{show.__name__}.png", optimize=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
