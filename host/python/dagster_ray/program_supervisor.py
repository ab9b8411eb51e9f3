"""Supervises a program that several processes of a user share, such as a Ray head.

The host starts this script with the path of the extension module. It imports nothing of the
package, to start quickly and to use little memory.
"""

import importlib.machinery
import importlib.util
import os
import sys


def main() -> None:
    """Leaves the process that started it, and runs the program until nothing uses it."""
    # This process has one thread. Its child has no parent that could wait for it or end it.
    if os.fork():
        os._exit(0)
    os.setsid()
    loader = importlib.machinery.ExtensionFileLoader("_native", sys.argv[1])
    spec = importlib.util.spec_from_loader("_native", loader)
    assert spec is not None
    native = importlib.util.module_from_spec(spec)
    loader.exec_module(native)
    native.supervise()


if __name__ == "__main__":
    main()
