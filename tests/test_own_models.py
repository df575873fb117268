"""The files of docs/add-a-block.md: a model and an operator outside the package, through every executor."""

import json
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "add-a-block.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the page's files."""
    path = tmp_path_factory.mktemp("own")
    for name, text in re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S):
        (path / name).write_text(text, encoding="utf-8")
    return path


def run(folder: Path, program: str) -> str:
    """Output of Python or of the shell in the folder, which must succeed."""
    environment = os.environ | {"PYTHONPATH": f"{PAGE.parents[1]}{os.pathsep}{folder}",
                                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", program], cwd=folder, env=environment, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shell(number: int) -> str:
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)[number]


@pytest.fixture(scope="module")
def said(folder) -> str:
    """What the model's commands say, which leave its artifact."""
    return run(folder, shell(0))


def test_a_model_is_one_file(folder, said):
    """Float equals torch, integer equals RTL, and the artifact is built without the file."""
    assert (folder / "residual_mlp.py").read_text().count("\n") <= 30
    assert float(re.search(r"float against torch: (\S+)", said)[1]) < 1e-5
    assert "0 mismatches of int and rtl\n" in said and said.count("4 cycles per token") == 0
    assert (folder / "build" / "mlp" / "top.v").is_file()


ORDERS = list(product(("accumulate", "emit"), repeat=4))
FACTS = f"""python - <<'END'
from dataclasses import replace
import json
import numpy as np, torch
from emamba.artifact import load
from emamba.graph import Graph, import_models
from emamba.training.qat import IntegerNetwork
from rtl.plan.schedule import Schedule
import_models("residual_mlp.py")
artifact = load("mlp")
network = IntegerNetwork(artifact)
network(np.array(artifact.record["golden"])).square().sum().backward()
trained = {{name: parameter.grad is not None and float(parameter.grad.abs().sum()) > 0
           for name, parameter in network.network.named_parameters()}}
def latency(orders):
    names = dict(zip(("mlp0.up", "mlp0.down", "mlp1.up", "mlp1.down"), orders))
    nodes = tuple(replace(node, order=names.get(node.name, node.order)) for node in artifact.graph)
    return Schedule(replace(artifact, graph=Graph(nodes, artifact.graph.outputs)), 16).latency
print(json.dumps({{"trained": trained, "bits": {{name: op.o.bits for name, op in artifact.operators.items()}},
                  "latency": Schedule(artifact, 16).latency, "latencies": [latency(orders) for orders in {ORDERS!r}]}}))
END"""


@pytest.fixture(scope="module")
def facts(folder, said) -> dict:
    """Of the artifact, in one process: what training reaches, widths, latencies."""
    return json.loads(run(folder, FACTS))


def test_training_reaches_every_parameter(facts):
    assert len(facts["trained"]) == 18 and all(facts["trained"].values())


def test_the_residual_keeps_its_width(facts):
    bits = facts["bits"]
    assert {bits[name] for name in ("embed", "mlp0.down", "mlp0.residual", "mlp1.down", "mlp1.residual")} == {12}
    assert {bits[name] for name in ("mlp0.up", "mlp0.silu", "mlp0.norm")} == {8} and bits["head"] == 16


def test_its_latency_is_the_least_of_all_orders(facts):
    """No choice of the order of beats by hand is faster."""
    assert facts["latency"] == min(facts["latencies"])


def test_an_operator_is_two_files(folder):
    said = run(folder, shell(1))
    assert said == "0 mismatches of int and rtl in embed, clip, norm, pool, head\n"


def test_what_lacks_its_file_is_refused(folder):
    run(folder, "python - <<'END'\nexec(open('check_clip.py').read().split('backends =')[0])\nfrom emamba.artifact import save\n"
                "save(artifact, 'clipped')\nEND")
    assert "there is no operator 'Clip'" in run(folder, "emamba build verilog --artifact clipped 2>&1 || true")
    run(folder, "emamba --model clip.py --model clip_block.py build verilog --artifact clipped --out build/clipped")
    assert (folder / "build" / "clipped" / "top.v").is_file()
