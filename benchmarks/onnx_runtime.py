"""What onnxruntime answers to a model that was exported, beside this project's executors: `python -m benchmarks.onnx_runtime`.

Prints the table of docs/onnx.md, of the first test sequences of data sets whose test parts ship. Needs onnxruntime.
"""

from pathlib import Path

import numpy as np
import onnxruntime

from emamba import datasets
from emamba.artifact import Artifact, load
from emamba.base.door import guarded
from emamba.datasets.metrics import error_name, error_of, figures
from emamba.datasets.tokens import executor_tokens
from emamba.onnx.export import INPUT, export_float, export_integer
from emamba.run.executors import make_executor, predict

Array = np.ndarray

MODELS = {"mars": 500, "mars_int8": 500, "japanese_vowels": 370, "fashion_mnist": 200, "wikitext2": 20}
"""Artifacts in models/, and sequences."""
BATCH = 50


def answers(artifact: Artifact, model, tokens: Array) -> Array:
    """Of onnxruntime, in the user's unit."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = tokens[..., 0].astype(np.int64) if artifact.config.input == "tokens" else tokens.astype(np.float32)
    return np.concatenate([session.run(None, {INPUT: given[k:k + BATCH]})[0] for k in range(0, len(given), BATCH)])


def row(name: str, count: int) -> str:
    artifact = load(Path("models") / name)
    data, task = datasets.load(artifact.data["name"], artifact.data["split"]), artifact.config.task
    tokens, targets = executor_tokens(data.x_test[:count], artifact.config), data.y_test[:count]
    exact, integer = (predict(artifact, kind, make_executor(artifact, kind), tokens) for kind in ("float", "int"))
    real = answers(artifact, export_float(artifact.graph, artifact.weights, artifact.codec, task), tokens)
    rounded = answers(artifact, export_integer(artifact), tokens)
    size = np.sqrt((exact**2).mean())
    errors = [error_of(task, figures(task, values, targets, data.unit_scale)) for values in (exact, real, integer, rounded)]
    shares = [np.sqrt(((a - b)**2).mean()) / size for a, b in ((rounded, integer), (integer, exact))]
    return " | ".join([f"| `{name}`, {len(tokens)}", error_name(task, data.unit), *(f"{value:.4g}" for value in errors),
                       f"{np.abs(real - exact).max() / np.abs(exact).max():.1e}", *(f"{share:.2%}" for share in shares)]) + " |"


def main() -> int:
    onnxruntime.set_default_logger_severity(3)
    print("| model, sequences | error | float | onnxruntime | integer model | QDQ | onnxruntime to float, largest | QDQ to "
          "integer, RMS | integer to float, RMS |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, count in MODELS.items():
        print(row(name, count), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(guarded("benchmarks.onnx_runtime", main))
