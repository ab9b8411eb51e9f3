"""Resolves links between files of the repository to links of the site."""

import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_FENCE = "```"


def resolve(
    markdown: str,
    source: str,
    place: str,
    pages: Mapping[str, str],
    root: Path,
    repository: str,
) -> str:
    """Returns a page whose links lead to pages of the site, or to files in the repository.

    `source` is the page's file in the repository, and `place` its place in the site. `pages` has
    the places of files outside the folder `docs`.

    Raises `LookupError` for a link to a file that does not exist.
    """

    def target(found: re.Match[str]) -> str:
        link = found[1]
        path, hash_, anchor = link.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return link
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        to = pages.get(file)
        if to is None and file.startswith("docs/"):
            # The builder of the site checks links between pages.
            to = file.removeprefix("docs/")
        if to is not None:
            return _relative(to, place) + hash_ + anchor
        if not (root / file).exists():
            raise LookupError(f"{source}: the link {link} leads to no file")
        kind = "tree" if (root / file).is_dir() else "blob"
        return f"{repository.rstrip('/')}/{kind}/main/{file}{hash_}{anchor}"

    lines, is_code = [], False
    for line in markdown.split("\n"):
        if line.lstrip().startswith(_FENCE):
            is_code = not is_code
        lines.append(line if is_code else _LINK.sub(target, line))
    return "\n".join(lines)


def _relative(to: str, place: str) -> str:
    return os.path.relpath(to, posixpath.dirname(place) or ".")
