"""Copies of component files, which a test may change."""

import shutil
from pathlib import Path

BUILT_IN = Path(__file__).parents[2] / "host/python/dagster_ray/components"
FIXTURES = Path(__file__).parents[2] / "target/fixtures"


def put(source: Path, target: Path) -> Path:
    """Copies a component and its manifest, without the digest that would reject a changed file."""
    shutil.copy(source, target.with_suffix(".new"))
    manifest = source.with_suffix(".toml")
    lines = manifest.read_text().splitlines(keepends=True) if manifest.exists() else []
    text = "".join(line for line in lines if not line.startswith("sha256"))
    target.with_suffix(".toml").write_text(text or 'id = "mine"\n')
    target.with_suffix(".new").rename(target)
    return target


def built_in(name: str, target: Path) -> Path:
    return put(BUILT_IN / f"{name}.wasm", target)
