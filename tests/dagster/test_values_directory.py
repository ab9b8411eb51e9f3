"""Names of value files never leave their directory."""

import os
import time
from pathlib import Path

import pytest
from dagster_ray.errors import PermissionDeniedError
from dagster_ray.io.filesystem import Directory, directory

OUTSIDE = ["../outside", "a/../../outside", "/outside", "a//b", "..", ".", "", "a\\..\\outside"]


@pytest.fixture(params=["path", "file URL", "fsspec URL"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Directory, Path]:
    folder = tmp_path / "root"
    folder.mkdir()
    location = {
        "path": str(folder),
        "file URL": f"file://{folder}",
        "fsspec URL": f"local://{folder}",
    }
    return directory(location[request.param]), folder


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_outside_of_the_directory_are_refused(
    root: tuple[Directory, Path], name: str
) -> None:
    files, folder = root
    secret = folder.parent / "outside"
    secret.write_bytes(b"secret")
    for access in (
        lambda: files.write(name, [b"changed"], True),
        lambda: files.read(name),
        lambda: files.begin(name, 100),
        lambda: files.remove(name),
    ):
        with pytest.raises(PermissionDeniedError, match="not a name inside the directory"):
            access()
    assert secret.read_bytes() == b"secret"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["outside", "root"]


@pytest.mark.parametrize("prefix", ["../", "a/../../", "a//b/"])
def test_names_outside_of_the_directory_are_not_listed(
    root: tuple[Directory, Path], prefix: str
) -> None:
    files, folder = root
    (folder.parent / "outside").write_bytes(b"secret")
    with pytest.raises(PermissionDeniedError):
        files.names(prefix)


def test_only_abandoned_writes_of_values_are_removed(tmp_path: Path) -> None:
    others, ours = tmp_path / "download.part", tmp_path / f".{'0' * 32}.part"
    long_ago = time.time() - 7 * 24 * 3600
    for file in (others, ours):
        file.write_bytes(b"half")
        os.utime(file, (long_ago, long_ago))
    assert directory(str(tmp_path)).names("") == ["download.part"]
    assert others.exists()
    assert not ours.exists()
