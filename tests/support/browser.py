"""Chromium without a window, which tests look at pages with."""

import contextlib
import json
import os
import shutil
import urllib.parse

import axe_core_python.base
from lab.conftest import unavailable
from selenium import webdriver

CHROMIUM, DRIVER = "chromium", "chromedriver"
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
_AXE = "const end = arguments[arguments.length - 1]; axe.run().then(end, error => end({error: String(error)}))"


@contextlib.contextmanager
def started():
    """Start a browser; skip, or fail where the lab is required, if there is none."""
    for program in (CHROMIUM, DRIVER):
        if shutil.which(program) is None:
            unavailable(f"{program} is not installed")
    options = webdriver.ChromeOptions()
    for option in _OPTIONS:
        options.add_argument(option)
    options.binary_location = shutil.which(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    environment = dict(os.environ, SE_OFFLINE="true")  # selenium looks for no newer driver
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which(DRIVER), env=environment))
    try:
        driver.set_page_load_timeout(60)
        driver.set_script_timeout(60)
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """One browser with one page."""

    def __init__(self, driver):
        self._driver = driver
        self.run = driver.execute_script

    def show(self, path, width, scheme):
        """Open a file at this width, in this colour scheme; returns (lines of the console, addresses asked for)."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self._driver.get("about:blank")
        self._lines("performance"), self._lines("browser")
        self._driver.get("file://" + urllib.parse.quote(str(path)))
        sent = [message["params"] for message in map(self._message, self._lines("performance")) if message]
        asked = [params["request"]["url"] for params in sent if "request" in params]
        return [entry["message"] for entry in self._lines("browser")], asked

    def _lines(self, kind):
        return self._driver.get_log(kind)

    @staticmethod
    def _message(entry):
        message = json.loads(entry["message"])["message"]
        return message if message["method"] == "Network.requestWillBeSent" else None

    def faults(self):
        """What axe-core finds on the page: rules with their impact and the elements."""
        self.run(axe_core_python.base.AXE_SCRIPT)
        found = self._driver.execute_async_script(_AXE)
        assert "violations" in found, found
        assert found["passes"]
        return [
            (each["impact"], each["id"], [node["html"][:120] for node in each["nodes"]][:3])
            for each in found["violations"]
        ]
