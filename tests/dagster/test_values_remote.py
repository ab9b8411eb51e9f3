"""Values at URLs: partial uploads stay invisible, replaced files are noticed, memory is bounded."""

import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from dagster_ray.errors import UnavailableError
from dagster_ray.io.directory_store import DirectoryStore
from dagster_ray.io.frames import Frames, pack, unpack
from dagster_ray.io.remote_directory import RemoteDirectory

# More than the parts in which a value is sent and received.
_LARGE = 40 << 20


@pytest.fixture(params=["memory", "local"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{uuid.uuid4()}" if request.param == "memory" else f"local://{tmp_path}/values"


@pytest.mark.parametrize("size", [100, _LARGE, _LARGE + 1])
def test_values_of_every_size_are_loaded_unchanged_and_read_only(url: str, size: int) -> None:
    store = DirectoryStore(url)
    array = np.arange(size, dtype=np.uint8)
    for shift in (0, 1):
        store.put("asset/a/=", pack({"a": array, "b": array + shift}), True, None, {})
    loaded = unpack(store.get("asset/a/="))
    assert (loaded["a"] == array).all() and (loaded["b"] == array + 1).all()
    assert not loaded["a"].flags.writeable


def test_a_failed_upload_leaves_the_previous_value_and_no_file(tmp_path: Path) -> None:
    """The client `memory` shows a part of a file, so a value is sent to it in one call."""
    store = DirectoryStore(f"local://{tmp_path}/values")
    store.put("asset/kept/=", pack("whole"), True, None, {})
    files = store._files
    assert isinstance(files, RemoteDirectory)
    before = files.names("")
    broken = memoryview(bytes(_LARGE))
    real = files._files.open

    def failing(*arguments: Any, **options: Any) -> Any:
        file = real(*arguments, **options)
        write = file.write
        sent: list[int] = []

        def limited(chunk: Any) -> Any:
            sent.append(len(chunk))
            if len(sent) > 2:
                raise OSError("the connection broke")
            return write(chunk)

        file.write = limited
        return file

    files._files.open = failing
    try:
        with pytest.raises(OSError, match="the connection broke"):
            store.put("asset/kept/=", Frames("bytes", [b"", broken]), True, None, {})
    finally:
        del files._files.open
    assert unpack(store.get("asset/kept/=")) == "whole"
    assert files.names("") == before


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(url: str) -> None:
    store = DirectoryStore(url)
    values = [np.full(_LARGE, digit, dtype=np.uint8) for digit in (1, 2)]
    store.put("asset/a/=", pack(values[0]), True, None, {})
    files = cast(RemoteDirectory, store._files)
    real = files._files.cat_file
    replaced: list[bool] = []

    def replacing(path: str, **options: Any) -> Any:
        if not replaced and (options.get("start") or 0) > _LARGE // 2:
            replaced.append(True)
            DirectoryStore(url).put("asset/a/=", pack(values[1]), True, None, {})
        return real(path, **options)

    files._files.cat_file = replacing
    try:
        loaded = unpack(store.get("asset/a/="))
    finally:
        del files._files.cat_file
    assert replaced and (loaded == 2).all()


def test_a_file_that_changes_all_the_time_is_an_error(url: str) -> None:
    store = DirectoryStore(url)
    store.put("asset/a/=", pack(np.zeros(_LARGE, dtype=np.uint8)), True, None, {})
    files = cast(RemoteDirectory, store._files)
    real = files._files.cat_file
    files._files.cat_file = lambda path, **options: real(path, **options)[:-1]
    try:
        with pytest.raises(UnavailableError, match="written faster"):
            store.get("asset/a/=")
    finally:
        del files._files.cat_file


MEASURE = textwrap.dedent("""
    import sys
    import numpy as np
    from dagster_ray.io.directory_store import DirectoryStore
    from dagster_ray.io.frames import pack, unpack

    def high_water() -> int:
        status = open("/proc/self/status").read()
        return int(status.split("VmHWM:")[1].split()[0]) << 10

    def reset() -> None:
        open("/proc/self/clear_refs", "w").write("5")

    size = 256 << 20
    store = DirectoryStore(sys.argv[1])
    store.put("asset/warm/=", pack(np.ones(10 << 20)), True, None, {})
    store.get("asset/warm/=")
    reset()
    empty = high_water()
    value = np.full(size, 7, dtype=np.uint8)
    reset()
    store.put("asset/a/=", pack(value), True, None, {})
    stored = high_water() - empty - size
    del value
    reset()
    before = high_water()
    loaded = unpack(store.get("asset/a/="))
    # Every page, without an array of the comparison's results.
    assert (loaded[:: 1 << 12] == 7).all()
    print(stored >> 20, (high_water() - before - size) >> 20)
""")


@pytest.mark.parametrize("scheme", ["", "local://"])
def test_a_value_needs_at_most_64_mib_beside_itself(scheme: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, f"{scheme}{tmp_path}"],
        capture_output=True,
        text=True,
        check=True,
    )
    stored, loaded = map(int, done.stdout.split())
    assert stored <= 64 and loaded <= 64, (stored, loaded)
