"""Sends numbered messages. Arguments: how many, and the pause between them in seconds."""

import sys
import time

from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as context:
    for number in range(int(sys.argv[1])):
        context.report_custom_message({"number": number})
        time.sleep(float(sys.argv[2]))
