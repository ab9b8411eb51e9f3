"""Pages of the contract: one for each WIT interface of this project, with its comments."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_BLOCKS = ("record", "variant", "enum", "flags", "resource")
_ITEM = re.compile(r"(?:(record|variant|enum|flags|resource) )?%?([a-z][a-z0-9-]*)")


@dataclass
class Item:
    """A type or function of an interface, or a part of a type, with its comment."""

    text: str
    comment: str
    parts: list["Item"] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Returns `record`, `func` and so on."""
        first = self.text.split(" ")[0]
        return first if first in (*_BLOCKS, "type") else "func"

    @property
    def name(self) -> str:
        """Returns the item's name."""
        if self.kind == "type":
            return self.text.split(" ")[1]
        found = _ITEM.match(self.text)
        if found is None:
            raise ValueError(f"the WIT item {self.text!r} has no name")
        return found[2]


def pages(folder: Path) -> dict[str, str]:
    """Returns the page of each interface by its place in the site."""
    return {f"reference/contract/{file.stem}.md": _page(file) for file in _files(folder)}


def contents(folder: Path) -> str:
    """Returns the list of interfaces with the first sentence of each."""
    lines = ["## Interfaces", ""]
    for file in _files(folder):
        interface = _interface(file)
        package = "imported" if "dagster-ray-host" in str(file) else "exported"
        summary = interface.comment.split("\n\n")[0].replace("\n", " ")
        lines.append(f"- [`{interface.name}`]({file.stem}.md), {package}: {summary}")
    return "\n".join(lines) + "\n"


def _files(folder: Path) -> list[Path]:
    own = [file for file in sorted(folder.glob("*.wit")) if file.stem != "worlds"]
    return [*own, *sorted((folder / "deps/dagster-ray-host").glob("*.wit"))]


def _page(file: Path) -> str:
    interface = _interface(file)
    package = re.search(r"^package ([^;]+);", file.read_text(), re.MULTILINE)
    lines = [
        f"# {interface.name}",
        "",
        f"Package `{package[1] if package else ''}`.",
        "",
        interface.comment,
        "",
    ]
    for item in interface.parts:
        if item.kind == "func":
            lines += [f"## {item.name}", "", item.comment, "", "```wit", item.text, "```", ""]
    types = [item for item in interface.parts if item.kind != "func"]
    for item in types:
        lines += [f"## {item.name}", "", f"`{item.kind}`. {item.comment}", ""]
        if item.kind == "type":
            lines += ["```wit", item.text, "```", ""]
        elif item.parts:
            lines += _table(item)
    return "\n".join(lines)


def _table(item: Item) -> list[str]:
    lines = [
        f"| {'function' if item.kind == 'resource' else 'name'} | type | meaning |",
        "|---|---|---|",
    ]
    for part in item.parts:
        name, _, kind = part.text.partition(":")
        if not kind and "(" in name:
            name, _, kind = name.partition("(")
            kind = kind.removesuffix(")")
        comment = part.comment.replace("\n", " ").replace("|", "\\|")
        shown = f"`{kind.strip()}`" if kind.strip() else ""
        lines.append(f"| `{name.strip().removeprefix('%')}` | {shown} | {comment} |")
    return [*lines, ""]


def _interface(file: Path) -> Item:
    """Parses the only interface of a file."""
    lines = iter(file.read_text().splitlines())
    comment: list[str] = []
    for line in lines:
        text = line.strip()
        if text.startswith("///"):
            comment.append(text[3:].strip())
        elif text.startswith("interface "):
            return Item(text.split(" ")[1], "\n".join(comment), list(_items(lines, is_type=False)))
        else:
            comment = []
    raise ValueError(f"{file} has no interface")


def _items(lines: Iterator[str], *, is_type: bool) -> Iterator[Item]:
    """Yields the items up to the closing brace."""
    comment: list[str] = []
    end = "," if is_type else ";"
    pending = ""
    for line in lines:
        text = line.strip()
        if not pending and text.startswith("///"):
            comment.append(text[3:].strip())
            continue
        if not text or text.startswith(("//", "@")):
            continue
        if text == "}" and not pending:
            return
        pending = f"{pending} {text}".strip()
        if pending.endswith("{"):
            yield _block(pending, comment, lines)
        elif pending.endswith((end, ";")):
            if not pending.startswith("use "):
                yield Item(pending.rstrip(",;") if is_type else pending, "\n".join(comment))
        else:
            continue
        pending, comment = "", []


def _block(text: str, comment: list[str], lines: Iterator[str]) -> Item:
    item = Item(text.removesuffix("{").strip(), "\n".join(comment))
    # The functions of a resource end with a semicolon, as those of an interface do.
    item.parts = [
        Item(part.text.rstrip(";"), part.comment)
        for part in _items(lines, is_type=item.kind != "resource")
    ]
    return item
