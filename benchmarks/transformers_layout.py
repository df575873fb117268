"""Models of the package transformers itself, imported: `python -m benchmarks.transformers_layout [FOLDER]`.

Builds small random MambaForCausalLM and Mamba2ForCausalLM, saves them as their users do, imports the folders, and compares: the
float outputs with transformers' on this processor, and the RTL with the integer model at every trace key. Into FOLDER, if
given, go the checkpoints and transformers' outputs: what tests/checkpoints holds, so that the tests need not install the package
(169 MB).

Needs `pip install 'emamba[layouts]'`.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

import emamba
from emamba.api import read_model_files
from emamba.base.door import guarded
from emamba.base.errors import Mismatch
from emamba.graph import build_graph
from emamba.run.integer import IntegerModel
from emamba.run.reference import Reference
from sim.executor import RtlExecutor

CASES = {
    "tied": {"hidden_size": 17, "state_size": 5, "num_hidden_layers": 2, "vocab_size": 23},
    "untied": {"hidden_size": 6, "state_size": 3, "num_hidden_layers": 3, "vocab_size": 11, "expand": 3, "conv_kernel": 3,
               "time_step_rank": 4, "use_bias": True, "use_conv_bias": False, "layer_norm_epsilon": 1e-3,
               "tie_word_embeddings": False},
    "mamba2": {"hidden_size": 14, "state_size": 5, "num_hidden_layers": 2, "vocab_size": 23, "num_heads": 7, "head_dim": 4,
               "n_groups": 1, "chunk_size": 5, "tie_word_embeddings": True},
    "mamba2-odd": {"hidden_size": 6, "state_size": 3, "num_hidden_layers": 3, "vocab_size": 11, "expand": 3, "num_heads": 6,
                   "head_dim": 3, "n_groups": 1, "conv_kernel": 3, "use_bias": True, "use_conv_bias": False,
                   "layer_norm_epsilon": 1e-3, "time_step_limit": (0.25, 1.5), "chunk_size": 4},
    "mamba2-groups": {"hidden_size": 6, "state_size": 3, "num_hidden_layers": 2, "vocab_size": 11, "expand": 3, "num_heads": 6,
                      "head_dim": 3, "n_groups": 2, "chunk_size": 4},
}
SEQUENCES, LENGTH = 24, 12
LIMIT = 1e-4
CYCLES_PER_TOKEN = 64


def make(settings: dict) -> torch.nn.Module:
    """A model whose every parameter is random: as it starts, norms, A and D are alike in all channels."""
    torch.manual_seed(0)
    second = "num_heads" in settings
    model = (Mamba2ForCausalLM(Mamba2Config(**settings)) if second else MambaForCausalLM(MambaConfig(**settings))).eval()
    with torch.no_grad():
        for parameter in {id(value): value for value in model.parameters()}.values():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def main(folder: Path | None) -> None:
    for name, settings in CASES.items():
        model = make(settings)
        ids = np.random.default_rng(1).integers(0, settings["vocab_size"], (SEQUENCES, LENGTH))
        with torch.no_grad():
            logits = model(torch.from_numpy(ids)).logits.numpy()
        with tempfile.TemporaryDirectory() as temporary:
            saved = Path(temporary) if folder is None else folder / name
            model.save_pretrained(saved)
            if folder is not None:
                (saved / "generation_config.json").unlink(missing_ok=True)
                save_file({"ids": ids, "logits": logits}, saved / "outputs.safetensors")
            imported = read_model_files(saved, LENGTH)
        head = Reference(build_graph(imported.config), imported.weights).answer(ids[..., None])
        difference = float(np.abs(head - logits).max())
        print(f"{name}: {imported.notes[0]}")
        largest = float(np.abs(logits).max())
        print(f"{name}: float outputs, of up to {largest:.3g}, differ from those of transformers by up to {difference:.2g}")
        artifact = emamba.compile(model, ids)
        tokens = artifact.codec.encode(ids[:4, :, None], artifact.input)
        expected = IntegerModel(artifact).run(tokens)
        found = RtlExecutor(artifact, CYCLES_PER_TOKEN, trace=True).run(tokens)
        wrong = sum(int((values != expected[key]).sum()) for key, values in found.items())
        print(f"{name}: RTL against integer model: {len(found)} trace keys, {wrong} mismatches", flush=True)
        if difference > LIMIT or wrong or set(found) != set(expected) - {"input"}:
            raise Mismatch(f"the model {name} of transformers is not what was imported")


if __name__ == "__main__":
    sys.exit(guarded("transformers_layout", lambda: main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)))
