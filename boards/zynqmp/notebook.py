"""The notebook for PYNQ in `host/`."""

import json

TEXT = """\
# An accelerator on the {title}

Under PYNQ, in the folder `host`, which `build.tcl` gave `emamba.bit` and `emamba.hwh`. {unrun}."""

CELLS = (
    """\
from pynq import Overlay

from boards.driver.accelerator import Accelerator
from boards.driver.pynq import PynqTransport

accelerator = Accelerator(".", PynqTransport(Overlay("emamba.bit")))
{stream}print(accelerator.description.name, accelerator.self_test(), "golden frames are right")""",
    """\
frames, answers = accelerator.description.golden
if accelerator.description.classes:
    print(accelerator.description.named(answers))
assert (accelerator.run(frames) == answers).all()""",
    """\
import time

batch = frames[[k % len(frames) for k in range(256)]]
accelerator.clear_counters()
start = time.perf_counter()
accelerator.run(batch)
print(f"{len(batch) / (time.perf_counter() - start):.0f} frames a second with this driver")""",
    """\
counters = accelerator.counters()
for stage, found in counters["stages"].items():
    print(f"{stage:20}{found['busy'] / max(1, counters['cycles']):8.1%} busy")
print("the bottleneck is", accelerator.bottleneck())""",
    """\
# Your own sequences, in the user's unit: [n, tokens, features]
# accelerator.predict(x), or accelerator.classify(x) for names""",
)


def notebook(title: str, unrun: str, streamed: str = "") -> str:
    """The file, in version 4 of nbformat; without the artifact's name, which may be anything. `streamed`: the file of weights
    that are read from memory."""
    cells: list[dict] = [{"cell_type": "markdown", "metadata": {}, "source": TEXT.format(title=title, unrun=unrun)}]
    cells += [{"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [],
               "source": cell.replace("{stream}", f'accelerator.stream("{streamed}")\n' if streamed else "")} for cell in CELLS]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}, indent=1) + "\n"
