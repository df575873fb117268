"""`emamba export`: a model in another program's form."""

import argparse
from pathlib import Path

from emamba.artifact import load
from emamba.base.errors import SettingError, ToolMissing
from emamba.io.files import write_file
from emamba.quantization.quantize import read_checkpoint

from .arguments import Commands

FORMATS = ("onnx",)


def add(commands: Commands) -> None:
    text = "write a model as ONNX"
    sub = commands.add_parser("export", help=text, description=text,
                              epilog="example: emamba export onnx models/mars --out build/mars.onnx")
    sub.set_defaults(run=_export)
    sub.add_argument("format", choices=FORMATS)
    sub.add_argument("model", type=Path, help="folder of an artifact or of a checkpoint")
    sub.add_argument("--out", type=Path, required=True, help=".onnx file")
    sub.add_argument("--integer", action="store_true", help="the integers of an artifact as QuantizeLinear and DequantizeLinear, "
                     "instead of the float model")


def lacks_onnx(error: ImportError) -> ToolMissing:
    return ToolMissing(f"ONNX needs the extra [onnx] ({error}): pip install 'emamba[onnx]'")


def _export(options: argparse.Namespace) -> int:
    try:
        from emamba.onnx.export import export_float, export_integer
    except ImportError as error:
        raise lacks_onnx(error) from None
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
