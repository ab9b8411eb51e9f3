"""The demo in Dagster's UI, in a real browser: a run is launched and followed to its Ray jobs.

`UPDATE_SCREENSHOTS=1` keeps the pictures for the documentation.
"""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Page, expect, sync_playwright
from processes import free_port, kill, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(480)]

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples/demo"
PICTURES = ROOT / "docs/images"
CHROMIUM = "/usr/bin/chromium"
# As root, and without requests of its own to the internet.
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 90_000
# Four steps, one of which is retried, each in an interpreter of its own.
RUN_MS = 300_000


@pytest.fixture
def dashboard() -> int:
    return free_port()


@pytest.fixture
def web(tmp_path: Path, dashboard: int) -> Iterator[str]:
    """Starts the web server of the demo, whose runs use a local Ray of their own."""
    settings = yaml.safe_load((DEMO / "dagster.yaml").read_text())
    local = {"dashboard_port": dashboard, "idle_seconds": 1}
    settings["run_launcher"]["config"]["backend_config"] = local
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    port = free_port()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (tmp_path / "web.log").open("wb") as log:
        server = subprocess.Popen(
            ["dagster-webserver", "-f", str(DEMO / "definitions.py"), "-p", str(port)],
            env={**os.environ, "DAGSTER_HOME": str(home), "PATH": path},
            stdout=log,
            stderr=log,
            cwd=DEMO,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert server.poll() is None, (tmp_path / "web.log").read_text()
        try:
            with urllib.request.urlopen(f"{url}/server_info", timeout=5) as response:
                return response.status == 200
        except OSError:
            return False

    try:
        wait_for("the web server", answers, 90)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            kill(server.pid)


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(WAIT_MS)
        yield page
        browser.close()


def _keep(page: Page, name: str) -> None:
    if os.environ.get("UPDATE_SCREENSHOTS"):
        PICTURES.mkdir(exist_ok=True)
        page.screenshot(path=PICTURES / f"{name}.png")


def test_a_run_is_launched_in_the_ui_and_its_events_link_to_its_ray_jobs(
    web: str, page: Page, dashboard: int
) -> None:
    page.goto(f"{web}/locations/definitions.py/jobs/primes/launchpad")
    # At the first visit, a dialog asks for the user's mail address.
    page.get_by_role("button", name="Skip").click()
    page.get_by_role("tab", name="Launchpad").or_(
        page.get_by_role("link", name="Launchpad")
    ).first.click()
    page.get_by_role("button", name="Launch run").click()
    page.wait_for_url("**/runs/*")
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=RUN_MS)
    run_id = page.url.rpartition("/")[2].partition("?")[0]
    _keep(page, "run")
    # The tag with the reference to the Ray job is for the launcher only.
    assert "dagster-ray/run" not in page.content()

    # Ray's record of a step's job is deleted at the end of a successful run; that of the run stays.
    for events, job in (
        ("Executing step", f"dagster-step-{run_id}-slices"),
        ("Ray run job created", f"dagster-run-{run_id}"),
    ):
        page.get_by_placeholder("Filter…").fill(events)
        link = page.locator(f'a[href="http://127.0.0.1:{dashboard}/#/jobs/{job}"]').first
        expect(link).to_be_visible(timeout=WAIT_MS)
        _keep(page, "events")
    link.evaluate("link => link.removeAttribute('target')")
    link.click()
    expect(page.get_by_text(job).first).to_be_visible(timeout=WAIT_MS)
    _keep(page, "ray-dashboard")
