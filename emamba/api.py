"""From a trained model to an artifact in one call: `emamba.compile`, and what `emamba import` does.

A model is a module of torch (our own, of transformers, mamba_ssm or mamba.py), inside any wrapper, or a checkpoint of the last
three on disk. It is known by its tensors' names and its configuration, so that none of these packages is needed; torch is used
only where a module is run.
"""

import json
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from .artifact import Artifact, Codec
from .base.errors import EmambaError, Fault, InputError, Mismatch, SettingError, brief
from .config import DataConfig, ModelConfig, QuantizeConfig, Recipe, validate
from .datasets.tokens import executor_tokens
from .graph import Graph, build_graph
from .graph.parameters import check_tensors
from .importers.family import Head, Imported
from .importers.own import translate_own
from .importers.translate import translate
from .io.files import write_folder
from .io.tensor_files import read_checkpoint_files, to_array
from .io.wrappers import BLOCKS, check_alone, check_one, find_place, follow, peel, prefixes, unwrapped
from .quantization.quantize import CHECKPOINT_VERSION, calibration_tokens, quantize
from .run.integer import record_golden
from .run.reference import Reference

Array = np.ndarray

IMPORTED = "imported"
"""Name of the data set of a checkpoint that came without one."""
SEQUENCES = 2
"""Calibration sequences on which a module is run, to see that it computes what was imported."""
TOLERANCE = 1e-3
"""How far its outputs may lie from the float model's, in shares of their largest; half precision may lie further."""


def compile(module: Any, calibration_data: Any, *, name: str = "model", settings: QuantizeConfig | Mapping | None = None,
            head: Any = None, task: str | None = None, pool: str | None = None, codec: Codec | None = None,
            verify: bool = True) -> Artifact:
    """A trained module as an artifact: quantized, its state certified, ready for `emamba.artifact.save` and `rtl`.

    module: an `emamba.training.network.Mamba`, or a module of your own with a `config` of type ModelConfig and the same tensors;
        or Mamba-1 of transformers (MambaForCausalLM, MambaModel), mamba_ssm (MambaLMHeadModel, its backbone) or mamba.py (LM).
    calibration_data: what the module reads: token ids [n, L], sequences [n, L, features] or images [n, height, width, channels].
    settings: as of `emamba quantize`: a QuantizeConfig or a table such as {"residual_bits": 8}.
    head: for a model without a head, a Linear, or (weight [outputs, d_model], bias [outputs] or None); `task` "classification"
        (default) or "regression", `pool` over its tokens "last" (default), "mean" or "none".
    codec: scaling of the module's inputs and outputs; by default they are taken as they are.
    verify: run the module on two sequences and refuse it where it gives something else than the float model that was made of it.

    Raises EmambaError with one sentence for everything that cannot be taken over exactly; its kind Fault for a fault of this
    program, with its cause.
    """
    try:
        return _compile(module, calibration_data, name, settings, head, task, pool, codec, verify)
    except EmambaError:
        raise
    except MemoryError as error:
        raise InputError(f"not enough memory ({error}): give less data, or a smaller model") from error
    except Exception as error:
        raise Fault(f"{type(error).__name__}: {brief(' '.join(str(error).split()))}: this is a fault of eMamba and not of what "
                    "you gave it; report it with the traceback of its cause") from error


def _compile(module: Any, calibration_data: Any, name: str, settings: QuantizeConfig | Mapping | None, head: Any,
             task: str | None, pool: str | None, codec: Codec | None, verify: bool) -> Artifact:
    if not isinstance(name, str):
        raise SettingError(f"name is a text, not of the type {type(name).__name__}")
    if not isinstance(settings, QuantizeConfig | Mapping | None):
        raise SettingError(f"settings are a QuantizeConfig or a table such as {{'residual_bits': 8}}, not of the type "
                           f"{type(settings).__name__}")
    module = peel(module)
    where = f"the {type(module).__name__}"
    settings = settings if isinstance(settings, QuantizeConfig) else validate(QuantizeConfig, dict(settings or {}), "settings")
    data = to_data(calibration_data)
    if head is None and (task, pool) != (None, None):
        raise SettingError("task and pool belong to a head of your own: give one, or leave them out")
    tensors = unwrapped(_state(module, where), where)
    config = getattr(module, "config", None)
    roots = _own_roots(tensors, config) if isinstance(config, ModelConfig) else prefixes(tensors, BLOCKS)
    check_one(roots, where)
    root = roots[0] if roots else find_place(tensors, where).root
    inner = follow(module, root)
    config = getattr(inner, "config", None) or config
    if isinstance(config, ModelConfig):
        if head is not None:
            raise SettingError(f"{where} has its own head: leave head out")
        model = Imported(config, _own_weights(tensors, root, config, where), (f"{where} of this project",))
    elif roots:
        raise InputError(f"{where} has the tensors of a model of this project, but no config of the type ModelConfig: give it "
                         "one, as its attribute config")
    else:
        said = _module_settings(config, where)
        check_ids(data)
        own = None if head is None else _head(head, task or "classification", pool or "last")
        model = translate(tensors, said, data.shape[1], where, own)
    record: dict[str, Any] = {"notes": list(model.notes)}
    codec = codec or plain_codec(model.config)
    if verify:
        remedy = f"; give the model below '{root}' alone" if root else ""
        try:
            record["verified"] = _verify(module, head is not None, model, codec, data, where, remedy)
        except NotImplementedError:  # a training program without a forward of its own
            record["verified"] = _verify(inner, head is not None, model, codec, data, where, remedy)
    return calibrated(name, model.config, model.weights, codec, data, settings, {"import": record})


def to_data(data: Any) -> Array:
    """An array of what a user gives as data: an array, a tensor of torch of any type, or lists of equal lengths."""
    kind = type(data).__name__
    if hasattr(data, "__iter__") and not hasattr(data, "__array__") and not isinstance(data, list | tuple):
        raise InputError(f"the data is of the type {kind}: give an array or a tensor, such as torch.cat([x for x, *_ in "
                         "loader]) of a DataLoader")
    try:
        if hasattr(data, "detach"):
            data = data.detach().cpu()
            data = (data.float() if data.is_floating_point() else data).numpy()
        found = np.asarray(data)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"the data, of the type {kind}, is no array ({brief(error)}): give sequences of one length") from None
    if not found.ndim and found.dtype.kind in "biuf":
        raise InputError("the data is a single number; the model reads sequences")
    if found.dtype.kind not in "biuf":
        raise InputError(f"the data is an array of {found.dtype}; the model reads numbers")
    return found


def read_model_files(path: Path | str, length: int, layout: str | None = None) -> Imported:
    """A checkpoint on disk, of a known package or in a `layout` of the user's own, for sequences of `length` tokens."""
    tensors, settings, notes = read_checkpoint_files(path)
    if layout is not None:
        return translate_own(layout, tensors, length, str(path))
    model = translate(tensors, settings, length, str(path))
    return replace(model, notes=model.notes + notes)


def calibrated(name: str, config: ModelConfig, weights: dict[str, Array], codec: Codec, data: Array, settings: QuantizeConfig,
               record: dict, graph: Graph | None = None) -> Artifact:
    """Weights quantized on `data`, what the model reads; the first of its sequences become the artifact's golden ones."""
    check_data(data, config)
    tokens = calibration_tokens(data, config, settings)
    artifact = quantize(name, config, weights, codec, tokens, settings, {}, record, graph)
    record_golden(artifact, tokens)
    return artifact


def plain_codec(config: ModelConfig) -> Codec:
    """Inputs and outputs as the model has them."""
    mean, std = (None, None) if config.input == "tokens" else (np.zeros(config.input_width), np.ones(config.input_width))
    return Codec(mean, std, np.ones(config.outputs), np.zeros(config.outputs))


def write_imported(model: Imported, folder: Path) -> None:
    """Writes a checkpoint folder as `emamba.training.loop` does, with the model's graph where that is its own."""
    recipe = Recipe(data=DataConfig(name=IMPORTED), model=model.config)
    codec = model.codec or plain_codec(model.config)
    record = {
        "format_version": CHECKPOINT_VERSION,
        "recipe": recipe.model_dump(mode="json", exclude_none=True, exclude={"train"}),
        "input": None if codec.mean is None or codec.std is None else {"mean": codec.mean.tolist(), "std": codec.std.tolist()},
        "output": {"scale": codec.scale.tolist(), "offset": codec.offset.tolist()},
        "parameters": sum(value.size for value in model.weights.values()),
        "import": {"notes": list(model.notes)},
    } | ({} if model.graph is None else {"graph": model.graph.to_json()})
    with write_folder(folder, "checkpoint.json") as temporary:
        save_file(model.weights, temporary / "checkpoint.safetensors")
        (temporary / "checkpoint.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _state(module: Any, where: str) -> dict:
    if not callable(getattr(module, "state_dict", None)):
        told = ", or the path of a checkpoint to emamba import" if isinstance(module, str | Path) else ""
        raise InputError(f"{where} has no state_dict(): give a module of torch{told}")
    return dict(module.state_dict())


def _own_roots(tensors: dict, config: ModelConfig) -> list[str]:
    """Prefixes below which the tensors of the model of `config` lie."""
    first = next(iter(build_graph(config).tensors))
    found = {name.removesuffix(first) for name in tensors if name.endswith(first)}
    return sorted(prefix for prefix in found if not prefix or prefix.endswith("."))


def _own_weights(tensors: dict, root: str, config: ModelConfig, where: str) -> dict[str, Array]:
    check_alone(tensors, root, where)
    weights = {name.removeprefix(root): to_array(name, value, where).astype(np.float32) for name, value in tensors.items()}
    check_tensors(build_graph(config), weights, where)
    return weights


def _module_settings(config: Any, where: str) -> dict | None:
    """The settings of a module of transformers or mamba_ssm, None where it has none."""
    if config is None or isinstance(config, dict):
        return config
    if isinstance(config, Mapping | Namespace | SimpleNamespace):
        return dict(config if isinstance(config, Mapping) else vars(config))
    if callable(getattr(config, "to_dict", None)):
        return config.to_dict()
    if is_dataclass(config) and not isinstance(config, type):
        return asdict(config)
    raise InputError(f"{where} has a config of the type {type(config).__name__}, which is not known: give it as a table")


def _head(head: Any, task: str, pool: str) -> Head:
    pair = head if isinstance(head, tuple) else (getattr(head, "weight", None), getattr(head, "bias", None))
    weight, bias = pair if len(pair) == 2 else (None, None)
    if len(getattr(weight, "shape", ())) != 2:
        raise InputError("the head must be a Linear, or a tuple of its weight [outputs, d_model] and its bias or None")
    return Head(to_array("weight", weight, "the head"), None if bias is None else to_array("bias", bias, "the head"), task, pool)


def check_data(data: Array, config: ModelConfig) -> None:
    """Refuses what the model cannot read; its shape apart, which `executor_tokens` checks."""
    if not len(data):
        raise InputError("there is no data; give at least one sequence")
    if config.input == "tokens":
        check_ids(data, config.vocabulary)
    elif data.dtype.kind not in "fiu":
        raise InputError(f"the data is an array of {data.dtype}; the model reads numbers")


def check_ids(ids: Array, vocabulary: int | None = None) -> None:
    """Refuses what is no array of token ids [n, L]."""
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise InputError(f"the data is an array of {ids.dtype} of the shape {list(ids.shape)}; the model reads token ids: "
                         "integers [sequences, tokens]")
    if vocabulary is not None and ids.size and not 0 <= ids.min() <= ids.max() < vocabulary:
        wrong = int(ids.min() if ids.min() < 0 else ids.max())
        raise InputError(f"the data holds the token id {wrong}, outside 0..{vocabulary - 1} of the vocabulary")


def _verify(module: Any, without_head: bool, model: Imported, codec: Codec, data: Array, where: str,
            remedy: str) -> dict:
    """Runs `module` on the first sequences and compares what it gives, or what its head would read; returns what is recorded."""
    import torch

    config = model.config
    check_data(data, config)
    inputs = codec.standardize(executor_tokens(data[:SEQUENCES], config))
    given = torch.from_numpy(inputs[..., 0].astype(np.int64) if config.input == "tokens" else inputs.astype(np.float32))
    parameter, training = next(module.parameters()), module.training
    module.eval()
    try:
        with torch.no_grad():
            output = module(given.to(parameter.device, parameter.dtype if given.is_floating_point() else None))
    except NotImplementedError:
        raise
    except Exception as error:  # whatever a module of another package raises
        raise SettingError(f"{where} cannot be run to compare it ({type(error).__name__}: {error}): give verify = False to "
                           "compile it without that") from None
    finally:
        module.train(training)
    found = next((value for key in ("logits", "last_hidden_state") if (value := getattr(output, key, None)) is not None), output)
    if isinstance(found, tuple) and found and config.input == "tokens":  # as transformers gives it without return_dict
        found = found[0]
    if not isinstance(found, torch.Tensor):
        raise SettingError(f"{where} gives a {type(output).__name__} and no tensor: give verify = False to compile it without "
                           "comparing its outputs")
    found = found.double().cpu().numpy()
    reference = Reference(build_graph(config), model.weights)
    if without_head:
        norm = reference.graph[reference.graph.output.norm]
        bias = model.weights[norm.parameters["bias"]] if "bias" in norm.parameters else 0.0
        expected = reference.run(inputs, [norm.name])[norm.name] * model.weights[norm.parameters["weight"]] + bias
    else:
        expected = reference.answer(inputs)
        expected = expected if config.pool == "none" else expected[:, 0]
    if found.shape != expected.shape:
        raise Mismatch(f"{where} gives outputs of the shape {list(found.shape)}, the float model made of it "
                       f"{list(expected.shape)}: its forward computes something else{remedy}")
    limit = max(TOLERANCE, 16 * torch.finfo(parameter.dtype).eps) * float(np.abs(expected).max())
    largest = float(np.abs(found - expected).max())
    if not largest <= limit:
        raise Mismatch(f"{where} gives outputs that differ by up to {largest:.3g} from those of the float model made of it, "
                       f"more than {limit:.3g}: its forward computes something else{remedy}")
    return {"sequences": len(inputs), "largest_difference": largest}
