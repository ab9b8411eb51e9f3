"""Sets the wheel's tag to that of the extension module, and compresses the wheel."""

import os
import struct
import zipfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "DAGSTER_RAY_WHEEL_TAG"


class CustomBuildHook(BuildHookInterface):
    """Marks the wheel as platform-specific, because hatchling does not build the extension."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Sets the tag, or raises if the wheel is not built by `cargo xtask wheel`."""
        tag = os.environ.get(VARIABLE)
        if tag is None:
            raise RuntimeError(
                f"{VARIABLE} is not set: a build front end cannot compile the extension and the "
                "components; build the wheel from the repository with `cargo xtask wheel`"
            )
        build_data["pure_python"] = False
        build_data["tag"] = tag

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Packs the finished wheel again."""
        if version == "standard":
            compress(Path(artifact_path))


def compress(wheel: Path) -> None:
    """Compresses the files of a wheel again, which takes seconds and removes some 3 % of its size.

    Python's `zipfile` cannot store what another library compressed, so this writes the records of
    the archive: local headers with the data, then the central directory and its end (PKWARE's
    APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16).
    """
    # A front end without it gets the error of `initialize`.
    from deflate import deflate_compress

    with zipfile.ZipFile(wheel) as archive:
        files = [(info, archive.read(info)) for info in archive.infolist()]
    directory = b""
    with wheel.open("wb") as output:
        for info, content in files:
            data = bytes(deflate_compress(content, _LEVEL))
            info.compress_type, info.compress_size = zipfile.ZIP_DEFLATED, len(data)
            # The header contains the sizes, so none follow the data.
            info.flag_bits, info.extra = 0, b""
            info.header_offset = output.tell()
            output.write(info.FileHeader(zip64=False) + data)
            directory += _directory_entry(info)
        offset, count = output.tell(), len(files)
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), offset, 0)
        output.write(directory + end)


# The highest level of libdeflate.
_LEVEL = 12


def _directory_entry(info: zipfile.ZipInfo) -> bytes:
    year, month, day, hour, minute, second = info.date_time
    name = info.filename.encode("ascii")
    fixed = struct.pack(
        "<4s4B4H3L5H2L",
        b"PK\1\2",
        info.create_version,
        info.create_system,
        info.extract_version,
        0,
        info.flag_bits,
        info.compress_type,
        hour << 11 | minute << 5 | second // 2,
        (year - 1980) << 9 | month << 5 | day,
        info.CRC,
        info.compress_size,
        info.file_size,
        len(name),
        0,
        0,
        0,
        info.internal_attr,
        info.external_attr,
        info.header_offset,
    )
    return fixed + name
