"""Sets the wheel's tag to that of the extension module that `cargo xtask` has built."""

import os
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
