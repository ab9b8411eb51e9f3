"""An application of Ray Serve. The image of the Ray cluster contains this module."""

import os

from ray import serve
from starlette.requests import Request


@serve.deployment
class Greeter:
    def __init__(self, greeting: str) -> None:
        if not greeting:
            raise ValueError("the greeting is empty")
        self._greeting = greeting

    def __call__(self, request: Request) -> str:
        return f"{self._greeting} from {os.uname().nodename}"


def build(arguments: dict[str, str]) -> serve.Application:
    return Greeter.bind(arguments["greeting"])  # pyright: ignore[reportFunctionMemberAccess]
