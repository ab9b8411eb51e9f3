"""Reads the files that a runtime environment names, as Ray's own client does before a submission.

Ray's nodes do not have the files, and components read neither YAML nor files that they do not
upload. The instance's policy must have allowed the paths.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import yaml

from dagster_ray.errors import InvalidConfigError

# As in Ray (`_private/runtime_env/validation.py`) and in the policy (`instance/rules.rs`): another
# text in `conda` is the name of an environment on Ray's nodes.
_CONDA_FILES = (".yml", ".yaml")


def with_environment_files(runtime_env: object) -> object:
    """Returns a runtime environment with the contents of the files in `pip`, `uv` and `conda`.

    Raises `InvalidConfigError` if a file cannot be read.
    """
    if not isinstance(runtime_env, Mapping):
        return runtime_env
    fields = dict(cast("Mapping[str, object]", runtime_env))
    for field, parse in _PARSERS.items():
        written = fields.get(field)
        if isinstance(written, str) and (field != "conda" or written.endswith(_CONDA_FILES)):
            fields[field] = _read(field, written, parse)
    return fields


def _read(field: str, path: str, parse: Callable[[str], object]) -> object:
    try:
        return parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        hint = "write the path of a file on this machine, or the packages as a list"
        raise InvalidConfigError(
            f"runtime_env.{field}: {path!r} cannot be read: {problem}; {hint}",
            fields=[{"path": f"runtime_env.{field}", "problem": problem or "", "hint": hint}],
        ) from error


def _requirements(text: str) -> list[str]:
    """Returns the lines of a file of requirements. Ray passes them to pip or uv in a file again."""
    return text.strip().split("\n")


def _conda(text: str) -> object:
    document: object = yaml.safe_load(text)
    if not isinstance(document, dict):
        raise ValueError(f"is {type(document).__name__}, not a conda environment")
    return cast("dict[str, object]", document)


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "pip": _requirements,
    "uv": _requirements,
    "conda": _conda,
}

__all__ = ["with_environment_files"]
