"""The notebooks in a real JupyterLab, driven through headless Chromium as a person would."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from lib.pipeline import STAGES, notebooks_folder

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
QUIET = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--window-size=1400,1800",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver on the PATH"),
]


@pytest.fixture
def workplace(tmp_path, sample):
    """Notebooks beside data and outputs, as in the repository, with a training of a few iterations."""
    shutil.copytree(notebooks_folder(), tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sample").symlink_to(sample)
    path = tmp_path / "notebooks" / STAGES["train"].notebook
    path.write_text(path.read_text().replace("max_iters = None", "max_iters = 2"))
    return tmp_path


@pytest.fixture
def lab(workplace):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        f"--notebook-dir={workplace / 'notebooks'}",
        "--IdentityProvider.token=",
        "--LabApp.news_url=",
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(lambda: urllib.request.urlopen(f"{url}/api", timeout=2).status == 200, 120, "JupyterLab to start")
        yield url
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in [*QUIET, f"--user-data-dir={tmp_path / 'profile'}"]:
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def test_every_notebook_runs_in_jupyterlab(lab, browser, workplace):
    for name in (Path(stage.notebook).stem for stage in STAGES.values()):
        browser.get(f"{lab}/lab/workspaces/{name}/tree/{name}.ipynb?reset")
        _wait(lambda: _idle(browser) and _run_all(browser), 180, f"{name} to open")
        path = workplace / "notebooks" / f"{name}.ipynb"
        _wait(lambda path=path: _idle(browser) and _saved(browser) and _executed(browser, path), 300, f"{name} to run")
        assert not [o for o in _outputs(path) if o.output_type == "error"], f"{name} failed"
        assert [o for o in _outputs(path) if "image/png" in o.get("data", {})], f"{name} shows no picture"
        browser.save_screenshot(str(workplace / f"{name}.png"))
    assert (workplace / "outputs" / "demo" / "submission.csv").exists()


def _click(browser, xpath: str) -> None:
    from selenium.webdriver.support import expected_conditions
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 120).until(expected_conditions.element_to_be_clickable(("xpath", xpath))).click()


def _run_all(browser) -> bool:
    """Run > Run All; False while the menu does not offer it yet."""
    from selenium.webdriver.common.keys import Keys

    _click(browser, "//li[contains(@class,'lm-MenuBar-item')][.//div[text()='Run']]")
    time.sleep(0.5)
    offered = "//li[@data-command='runmenu:run-all' and not(contains(@class,'lm-mod-disabled'))]"
    if items := browser.find_elements("xpath", offered):
        items[0].click()
    else:
        browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    return bool(items)


def _idle(browser) -> bool:
    status = "return document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status"
    return browser.execute_script(status) == "idle"


def _saved(browser) -> bool:
    _click(browser, "//*[@data-command='docmanager:save']")
    time.sleep(2)
    return True


def _cells(path: Path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def _outputs(path: Path):
    return [output for cell in _cells(path) for output in cell.outputs]


def _executed(browser, path: Path) -> bool:
    if not any(cell.execution_count for cell in _cells(path)):
        _run_all(browser)  # a first click is lost where the kernel was not yet connected
        return False
    stopped = any(output.output_type == "error" for output in _outputs(path))
    return stopped or all(cell.execution_count for cell in _cells(path))


def _wait(condition, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(1)
    raise TimeoutError(f"waited {seconds} s for {what}")
