"""A Pipes script with irregular output, and the check that all of it arrives."""

from typing import Any

# The script writes as C programs and progress bars do: blocks cut at any byte, unfinished lines
# before a message, lines of a mebibyte, bytes that are not UTF-8.
IRREGULAR_OUTPUT = """
    import os, sys, time
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as context:
        for number in range({messages}):
            if number % 10 == 0:
                os.write(2, b"\\rprogress %d%%" % number)
            context.report_custom_message(number)
            time.sleep({pause})
            for plain in range({lines}):
                os.write(1, b"line %d.%d\\n" % (number, plain))
        os.write(1, b"\\xff\\xfe broken\\n" + b"x" * (1 << 20) + b"\\n")
        context.report_custom_message("last")
        os.write(1, b"no line end")
"""


def assert_complete(custom: list[Any], out: bytes, messages: int, lines: int) -> None:
    assert custom == [*range(messages), "last"]
    found = [line for line in out.split(b"\n") if line.startswith(b"line ")]
    assert found == [b"line %d.%d" % (n, p) for n in range(messages) for p in range(lines)]
    assert b"\xff\xfe broken\n" in out and b"x" * (1 << 20) in out
    assert b"no line end" in out
