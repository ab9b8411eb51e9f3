"""Writes the sources of the documentation site: `python prepare.py FOLDER`.

They are the pages of the folder `docs`, some other Markdown files of the repository, and the
generated reference. The reference of the command and of the manifest is the output of the installed
package, whose interpreter the environment variable DAGSTER_RAY_DOCS_PYTHON names.
"""

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import api_pages
import command_pages
import links
import manifest_page
import nav
import wit_pages

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "host/python"
WIT = ROOT / "wit"
REPOSITORY = "https://github.com/dagster-ray/dagster-ray-wasm"

# Pages that are files elsewhere in the repository, by their place in the site.
OUTSIDE = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "reference/sdk.md": "components/sdk/README.md",
    "reference/contract/index.md": "wit/README.md",
}
# What the site adds to the end of pages.
APPENDED: Mapping[str, Callable[[], str]] = {
    "reference/api.md": lambda: api_pages.contents(PYTHON),
    "reference/command.md": command_pages.options,
    "reference/configuration.md": command_pages.explained,
    "reference/contract/index.md": lambda: wit_pages.contents(WIT),
    "reference/manifest.md": manifest_page.keys,
}


def main(folder: Path) -> None:
    """Writes the pages and the settings of the site into an empty folder."""
    written = {**_pages(), **api_pages.pages(PYTHON), **wit_pages.pages(WIT)}
    for place, text in written.items():
        file = folder / "pages" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for file in (ROOT / "docs").rglob("*"):
        if file.is_file() and file.suffix != ".md":
            to = folder / "pages" / file.relative_to(ROOT / "docs")
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, to)
    settings = Path(__file__).with_name("zensical.toml").read_text()
    settings = settings.replace("nav = []", f"nav = {nav.toml(nav.complete(written))}")
    (folder / "zensical.toml").write_text(settings.replace("@PYTHON@", str(PYTHON)))


def _pages() -> dict[str, str]:
    """Returns the pages that are files, by their place in the site."""
    docs = ROOT / "docs"
    sources = {
        str(file.relative_to(docs)): f"docs/{file.relative_to(docs)}" for file in docs.rglob("*.md")
    }
    places = {file: place for place, file in OUTSIDE.items()}
    pages: dict[str, str] = {}
    for place, source in {**sources, **OUTSIDE}.items():
        text = (ROOT / source).read_text()
        text = links.resolve(text, source, place, places, ROOT, REPOSITORY)
        added = APPENDED[place]() if place in APPENDED else ""
        pages[place] = f"{text.rstrip()}\n\n{added}" if added else text
    return pages


if __name__ == "__main__":
    main(Path(sys.argv[1]))
