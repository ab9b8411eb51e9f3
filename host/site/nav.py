"""The navigation of the site: pages in order, and where the other pages go."""

import json
from collections.abc import Iterable
from typing import TypeAlias

Entry: TypeAlias = "str | dict[str, list[Entry]]"

_HOW_TO = (
    "existing-cluster",
    "this-machine",
    "kuberay",
    "share-a-cluster",
    "steps-as-tasks",
    "gpus-and-runtime-environments",
    "training-scripts",
    "values",
    "test-your-jobs",
    "remove-leftovers",
    "replace-the-backend",
    "backend-in-rust",
    "backend-in-python",
    "publish-a-backend",
)
_MORE_HOW_TO = (
    "functions",
    "training",
    "scheduling",
    "clusters",
    "services",
    "kubernetes",
    "doctor",
    "observability",
)
_REFERENCE = ("configuration", "command", "errors", "policy", "manifest", "sdk")
_EXPLANATION = (
    "what-ray-needs",
    "backends",
    "architecture",
    "isolation",
    "identity",
    "security",
    "performance",
    "reliability",
    "scale",
)
# The first pages of each section. Pages that are not listed follow, in alphabetical order.
_SECTIONS: dict[str, list[str]] = {
    "Tutorial": ["tutorial.md"],
    "How-to": [
        *(f"how-to/{name}.md" for name in _HOW_TO),
        *(f"{name}.md" for name in _MORE_HOW_TO),
    ],
    "Reference": ["features.md", *(f"reference/{name}.md" for name in _REFERENCE), "supported.md"],
    "Explanation": [f"{name}.md" for name in _EXPLANATION],
    "Migration": ["migration.md"],
    "Troubleshooting": ["troubleshooting.md"],
    "Project": ["changelog.md", "contributing.md"],
}
# The section of a page that is not listed, by the beginning of its place; the first that fits.
_OTHERS = (("how-to/", "How-to"), ("reference/", "Reference"), ("", "Explanation"))
# Parts of a section, by the beginning of a page's place.
_PARTS = (
    ("reference/api", "Reference", "Python API"),
    ("reference/contract/", "Reference", "Contract"),
    ("decisions/", "Explanation", "Decisions"),
)


def complete(places: Iterable[str]) -> list[Entry]:
    """Returns the navigation over these pages, each of which is in it once."""
    listed = {place for section in _SECTIONS.values() for place in section}
    sections: dict[str, list[Entry]] = {title: [*known] for title, known in _SECTIONS.items()}
    parts: dict[str, list[Entry]] = {}
    for place in sorted(set(places) - listed - {"index.md"}, key=_order):
        part = next((part for part in _PARTS if place.startswith(part[0])), None)
        if part is None:
            title = next(title for begin, title in _OTHERS if place.startswith(begin))
            sections[title].append(place)
            continue
        _, title, name = part
        if name not in parts:
            parts[name] = []
            sections[title].append({name: parts[name]})
        parts[name].append(place)
    return ["index.md", *({title: entries} for title, entries in sections.items())]


def toml(nav: list[Entry]) -> str:
    """Returns the navigation as a TOML value."""
    return f"[{', '.join(_entry(entry) for entry in nav)}]"


def _entry(entry: Entry) -> str:
    if isinstance(entry, str):
        return json.dumps(entry)
    [(title, entries)] = entry.items()
    # A section of one page is that page.
    value = _entry(entries[0]) if len(entries) == 1 else toml(entries)
    return f"{{ {json.dumps(title)} = {value} }}"


def _order(place: str) -> tuple[bool, str]:
    """Sorts the first page of a part before its other pages."""
    return place not in {
        "reference/api.md",
        "reference/contract/index.md",
        "decisions/README.md",
    }, place
