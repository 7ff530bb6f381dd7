"""`make screenshots`: the pictures of the page in docs/images, taken of the real service.

Knows nothing of what the page must do, see test_page.py. Fonts are those of this machine. The
pictures stand inside SVG, which is text: Hugging Face refuses a push of binary files.
"""

import base64
import io
import tempfile
from pathlib import Path

from conftest import KEY, ROOT, TOKEN, Server
from fake_flowith import FakeFlowith, llm, think, words
from PIL import Image
from playwright.sync_api import ViewportSize, sync_playwright
from test_page import CHROMIUM, FLAGS

DESKTOP, PHONE = ViewportSize(width=1280, height=960), ViewportSize(width=390, height=844)
PICTURES = {"light": DESKTOP, "dark": DESKTOP, "phone": PHONE}
QUESTION = "How do I read a file line by line in Python?"
ANSWER = """\
Loop over the open file; each turn of the loop is one line:

```python
with open("notes.txt", encoding="utf-8") as notes:
    for line in notes:
        print(line.rstrip())
```"""


def to_svg(png: bytes) -> str:
    """The picture in 128 colours, a third of its size, inside SVG."""
    image, smaller = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    image.quantize(128).save(smaller, "PNG", optimize=True)
    size = f'width="{image.width}" height="{image.height}"'
    data = base64.b64encode(smaller.getvalue()).decode()
    inner = f'<image {size} href="data:image/png;base64,{data}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{inner}</svg>\n'


def main() -> None:
    with FakeFlowith() as fake, tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        thought = think("A short answer with a sample is best.")
        usage = {"prompt_tokens": 17, "completion_tokens": 64}
        fake.reply(llm(thought, *words(ANSWER, 0.03), usage=usage))
        given = {"FLOWITH_API_URL": fake.url, "FLOWITH_AUTH_TOKEN": f"{TOKEN},{TOKEN[::-1]}"}
        given["FLOWITH_API"] = "llm"
        server = Server(Path(folder) / "log", given)
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, size in PICTURES.items():
            page = browser.new_page(
                viewport=size, color_scheme="dark" if name == "dark" else "light"
            )
            page.goto(server.url)
            page.get_by_label("Key", exact=True).fill(KEY)
            page.get_by_label("Message").fill(QUESTION)
            page.get_by_role("button", name="Send").click()
            page.locator(".measured").wait_for()
            page.evaluate("scrollTo(0, 0)")
            if name == "phone":
                page.locator("#playground").evaluate("it => it.scrollIntoView()")
            picture = to_svg(page.screenshot())
            (ROOT / f"docs/images/page-{name}.svg").write_text(picture, "utf-8")
        browser.close()
        server.stop()


if __name__ == "__main__":
    main()
