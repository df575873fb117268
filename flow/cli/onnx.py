"""`emamba export onnx`, and `emamba import` of a file of ONNX."""

import argparse
from pathlib import Path

from emamba.artifact import load
from emamba.base.errors import SettingError, ToolMissing, extra
from emamba.io.files import check_replaceable, write_file
from emamba.io.tensor_files import read_array
from emamba.quantization.quantize import read_checkpoint

from ..artifacts import agreement
from .arguments import Commands, check_artifact_folder, command
from .inputs import settings
from .output import save_artifact

FORMATS = ("onnx",)


def add(commands: Commands) -> None:
    sub = command(commands, "export", _export, "emamba export onnx models/mars --out build/mars.onnx", data=False)
    sub.add_argument("format", choices=FORMATS)
    sub.add_argument("model", type=Path, help="folder of an artifact or of a checkpoint")
    sub.add_argument("--out", type=Path, required=True, help=".onnx file")
    sub.add_argument("--integer", action="store_true", help="the integers of an artifact as QuantizeLinear and DequantizeLinear, "
                     "instead of the float model")


def _lacks_onnx(error: ImportError) -> ToolMissing:
    return ToolMissing(f"ONNX needs the extra [onnx] ({error}): {extra('onnx')}")


def _export(options: argparse.Namespace) -> int:
    try:
        from emamba.onnx.export import export_float, export_integer
    except ImportError as error:
        raise _lacks_onnx(error) from None
    if not (options.model / "manifest.json").is_file():
        if options.integer:
            raise SettingError(f"--integer needs an artifact, and {options.model} is none: quantize the checkpoint first")
        known = read_checkpoint(options.model)
        model = export_float(known.graph, known.weights, known.codec, known.recipe.model.task)
    elif options.integer:
        model = export_integer(load(options.model))
    else:
        known = load(options.model)
        model = export_float(known.graph, known.weights, known.codec, known.config.task)
    content = model.SerializeToString()
    write_file(options.out, lambda temporary: temporary.write_bytes(content))
    print(f"{options.out}: {len(model.graph.node)} nodes, {len(content)} bytes, opset {model.opset_import[0].version}")
    return 0


def import_onnx(options: argparse.Namespace) -> int:
    """A file of ONNX as an artifact, or without sequences to calibrate on as a checkpoint."""
    from emamba.api import calibrated, write_imported

    try:
        from emamba.onnx.importer import read_onnx
    except ImportError as error:
        raise _lacks_onnx(error) from None
    if options.norm != "keep" or options.layout is not None:
        raise SettingError(f"--norm range and --layout are for checkpoints; {options.checkpoint} says by itself what it computes")
    check_artifact_folder(options.out, "manifest.json" if options.calibration else None)
    check_replaceable(options.out, "manifest.json" if options.calibration else "checkpoint.json")
    data, length, wanted = None, options.length, settings(options)
    if options.calibration:
        data = read_array(options.calibration)
        length = data.shape[1] if length is None and data.ndim > 1 else length
    model = read_onnx(options.checkpoint, length, options.task)
    print("\n".join(model.notes))
    if data is None:
        write_imported(model, options.out)
        print(f"{options.out}: a checkpoint of {sum(value.size for value in model.weights.values())} weights")
        return 0
    if model.config.image and data.shape[1:] != model.config.image and data.ndim == 4 and (
            data.shape[2:], data.shape[1]) == (model.config.image[:2], model.config.image[2]):
        data = data.transpose(0, 2, 3, 1)  # as the file itself reads them
    record = {"import": {"notes": list(model.notes)}}
    artifact = calibrated(options.out.name, model.config, model.weights, model.codec, data, wanted, record, model.graph)
    return save_artifact(artifact, options.out, agreement=agreement(artifact, data))
