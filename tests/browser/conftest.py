"""A headless Chromium that opens files, as a reader does; tests are skipped where there is none.

def test_a_page(browser, tmp_path):
    browser.open(tmp_path / "page.html", width=380, scheme="dark")
    assert browser.errors() == []
    assert browser.overflow() == 0
    browser.keep("page-380-dark")  # a PNG in $BBB_SCREENSHOTS, where that is set
"""

import base64
import os
import shutil
import time
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)
HEIGHT = 900

CONTRASTS = """
const channels = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const light = (rgb) => {
  const [r, g, b] = rgb.slice(0, 3).map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = channels(getComputedStyle(at).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
const found = [];
for (const element of document.body.querySelectorAll("*")) {
  const texts = [...element.childNodes].filter((node) => node.nodeType === 3 && node.textContent.trim());
  if (!texts.length || !element.checkVisibility() || element.closest("script, style")) continue;
  const style = getComputedStyle(element);
  const color = channels(element.closest("svg") ? style.fill : style.color);
  const pair = [light(color), light(behind(element))].sort((a, b) => b - a);
  found.push([(pair[0] + 0.05) / (pair[1] + 0.05), texts[0].textContent.trim().slice(0, 40)]);
}
return found.sort((a, b) => a[0] - b[0]);
"""
"""The contrast of every visible text with what is behind it, the lowest first (WCAG 2.2, relative luminance)."""


class Browser:
    """A page of a headless browser: what is opened, and what is asked of it."""

    def __init__(self, driver, screenshots):
        self.driver = driver
        self.screenshots = screenshots

    def open(self, path, *, width=1000, height=HEIGHT, scheme="light", media="", ready="true"):
        """Open a file or an address of this machine, and wait until an expression is true of it.

        The window has a width in CSS pixels, and a colour scheme.
        """
        self.resize(width, height)
        self.emulate(scheme=scheme, media=media)
        self.driver.get("about:blank")
        self.driver.get_log("browser")  # what was said of the page before
        is_address = str(path).startswith("http://127.0.0.1")
        self.driver.get(str(path) if is_address else f"file://{Path(path).resolve()}")
        self.wait(f"document.readyState === 'complete' && ({ready})")

    def resize(self, width, height=HEIGHT):
        """Set the width of the page in CSS pixels: a headless window itself has a minimum."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def emulate(self, *, scheme="light", media=""):
        """Set the colour scheme, "light" or "dark", and the medium, such as "print"."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})

    def run(self, script, *arguments):
        """Run a script with arguments and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, expression, seconds=60):
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({expression})"):
            assert time.monotonic() < end, f"it never was true that {expression}: {self.errors()}"
            time.sleep(0.05)

    def errors(self):
        """Return what the console said of errors and warnings, failed requests among them."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def broken_images(self):
        """Return the addresses of the images that did not load."""
        return self.run("return [...document.images].filter((i) => !i.complete || !i.naturalWidth).map((i) => i.src)")

    def overflow(self):
        """Return by how many pixels the page is wider than its window."""
        return self.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def loaded(self):
        """Return the addresses of all that the page has loaded besides itself."""
        return self.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")

    def contrasts(self):
        """Return the contrast of each visible text and its first letters, the lowest first."""
        return self.run(CONTRASTS)

    def hover(self, x, y):
        """Move the mouse to a place of the window."""
        for step in (3, 0):  # a movement: one event alone may count as none
            where = {"type": "mouseMoved", "x": x + step, "y": y, "pointerType": "mouse"}
            self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", where)

    def press(self, key, code):
        """Press a key, such as "Tab" of code 9."""
        for kind in ("keyDown", "keyUp"):
            event = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
            self.driver.execute_cdp_cmd("Input.dispatchKeyEvent", event)

    def png(self):
        """Return a PNG of the whole page."""
        width, height = self.run("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        options = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        return base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"])

    def pdf(self):
        """Return the page as it is printed on A4."""
        options = {"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": True, "preferCSSPageSize": True}
        return base64.b64decode(self.driver.execute_cdp_cmd("Page.printToPDF", options)["data"])

    def keep(self, name, content=None, suffix="png"):
        """Write a picture of the page, or other content, to the folder $BBB_SCREENSHOTS, if that is set."""
        if self.screenshots is not None:
            self.screenshots.mkdir(parents=True, exist_ok=True)
            (self.screenshots / f"{name}.{suffix}").write_bytes(self.png() if content is None else content)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Return a headless browser; skip where selenium, Chromium or its driver is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, of the extra test")
    binary, driver = next(filter(None, map(shutil.which, BROWSERS)), None), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    folder = os.environ.get("BBB_SCREENSHOTS")
    try:
        yield Browser(made, None if not folder else Path(folder))
    finally:
        made.quit()
