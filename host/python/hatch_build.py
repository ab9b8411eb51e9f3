"""Gives the wheel the tag of the extension that `cargo xtask` has built."""

import os
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "DAGSTER_RAY_WHEEL_TAG"


class CustomBuildHook(BuildHookInterface):
    """The package holds compiled code, which hatchling does not build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Sets the tag, or says how a wheel is made."""
        tag = os.environ.get(VARIABLE)
        if tag is None:
            raise RuntimeError(
                "this package is built from its repository with `cargo xtask wheel`; "
                "a build front end alone cannot compile the extension and the components"
            )
        build_data["pure_python"] = False
        build_data["tag"] = tag
