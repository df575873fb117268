"""`emamba import | quantize | sensitivity`: artifacts of trained models, and where their bits matter."""

import argparse
import re
from pathlib import Path

from emamba.base.errors import SettingError
from emamba.base.options import at_least, real
from emamba.base.progress import meter
from emamba.config import QuantizeConfig, TrainConfig, validate
from emamba.io.files import check_replaceable

from .arguments import LARGE, Commands, add_judges, add_settings, check_artifact_folder, command
from .designs import add_cycles
from .inputs import settings
from .onnx import import_onnx
from .output import measure_and_save, save_artifact, write_json


def add(commands: Commands) -> None:
    sub = command(commands, "import", _import, "emamba import downloads/mamba-130m --calibration ids.npy --out models/mamba")
    sub.add_argument("checkpoint", type=Path, help="folder with model.safetensors (or pytorch_model.bin) and config.json, or "
                     "the file, or a file of ONNX")
    sub.add_argument("--out", type=Path, required=True, help="folder of the artifact, or without --calibration of the checkpoint")
    sub.add_argument("--calibration", type=Path, metavar="FILE", help="token ids [sequences, tokens] in a .npy file, or what an "
                     "ONNX model reads")
    sub.add_argument("--length", **at_least(1, 1 << 20), help="tokens per sequence (default: those of --calibration)")
    sub.add_argument("--layout", metavar="NAME", help="names and settings as a file of your own knows them (--model)")
    sub.add_argument("--task", choices=("classification", "regression", "next_token"), help="what the outputs of an ONNX model "
                     "are for (default: as the file says, else next_token for token ids and regression for numbers)")
    sub.add_argument("--norm", choices=("keep", "range"), default="keep", help="keep the norms, or exchange them for RangeNorm "
                     "and train on the sequences of --calibration (default: keep)")
    sub.add_argument("--run", type=Path, dest="run_folder", help="folder of that training; an interrupted one in it goes on")
    sub.add_argument("--epochs", **at_least(1, LARGE), default=5, help="of that training (default: 5)")
    sub.add_argument("--peak-lr", **real(above=0, most=1000),
                     default=1e-3, help="learning rate of that training (default: 0.001)")
    add_settings(sub)

    sub = command(commands, "quantize", _quantize, "emamba quantize runs/mars --out models/mars --set residual_bits=8")
    sub.add_argument("checkpoint", type=Path, help="folder that `emamba train` wrote, or an artifact to quantize again")
    sub.add_argument("--out", type=Path, required=True, help="folder of the artifact")
    add_settings(sub)
    sub.add_argument("--calibration", type=Path, metavar="FILE", help="inputs of the model in a .npy file, to calibrate on "
                     "instead of the data set; then no figures are measured")
    sub.add_argument("--fold", action="store_true", help="two Linears in a row become one, such as those of the step size")
    sub.add_argument("--auto-width", action="store_true", help="choose the bits of every tensor: the cheapest within --tolerance")
    sub.add_argument("--tolerance", **real(least=0, most=1e9),
                     default=0.05, help="how far the integer model's figure may lie above the float "
                     "model's, in the figure's unit, on the validation part (default: 0.05)")
    sub.add_argument("--device", default="zcu102", help="device of the verdict, whose shares are the cost (default: zcu102)")
    add_cycles(sub, "of the design of the verdict, whose cost counts")
    add_judges(sub)

    sub = command(commands, "sensitivity", _sensitivity, "emamba sensitivity models/mars --widths 6,8,12,16")
    sub.add_argument("checkpoint", type=Path, help="folder of a checkpoint or of an artifact")
    sub.add_argument("--widths", default="6,8,12,16", help="bits that each tensor gets alone (default: 6,8,12,16)")
    sub.add_argument("--json", type=Path, help="also write the result to this file")
    add_settings(sub)
    add_judges(sub)


def _import(options: argparse.Namespace) -> int:
    if options.checkpoint.suffix == ".onnx":
        return import_onnx(options)
    if options.task is not None:
        raise SettingError("--task is for ONNX models: a checkpoint of a language model predicts the next token")
    from emamba.api import calibrated, check_ids, plain_codec, read_model_files, write_imported
    from emamba.io.tensor_files import read_array

    check_artifact_folder(options.out, None)
    length, ids = options.length, None
    if options.calibration:
        ids = read_array(options.calibration)
        if options.layout is None:
            check_ids(ids)
        if length not in (None, ids.shape[1]):
            raise SettingError(f"--length {length}, but the sequences of {options.calibration} have {ids.shape[1]} tokens: "
                               "leave out --length")
        length = ids.shape[1]
    elif options.norm == "range":
        raise SettingError("--norm range needs --calibration with token ids to train on: no weights make RangeNorm equal to "
                           "RMSNorm")
    elif length is None:
        raise SettingError("a checkpoint does not say how long its sequences are: give --length, or --calibration with token ids")
    if options.norm == "range" and options.run_folder is None:
        raise SettingError("--norm range needs --run with a folder for its training")
    check_replaceable(options.out, "checkpoint.json" if ids is None else "manifest.json")
    wanted = settings(options)
    model = read_model_files(options.checkpoint, length, options.layout)
    if options.norm == "range":
        from emamba.training.range_norms import exchange_norms

        train = validate(TrainConfig, {"epochs": options.epochs, "peak_lr": options.peak_lr}, "command line")
        model = exchange_norms(model, ids, train, options.run_folder)
    print("\n".join(model.notes))
    if ids is None:
        write_imported(model, options.out)
        print(f"{options.out}: a checkpoint of {sum(value.size for value in model.weights.values())} weights")
        return 0
    record = {"import": {"notes": list(model.notes)}}
    codec = plain_codec(model.config)
    from ..artifacts import agreement

    artifact = calibrated(options.out.name, model.config, model.weights, codec, ids, wanted, record)
    return save_artifact(artifact, options.out, agreement=agreement(artifact, ids))


def _quantize(options: argparse.Namespace) -> int:
    from emamba.io.tensor_files import read_array
    from rtl.plan.devices import find

    from ..artifacts import agreement, known_settings, quantized, quantized_on

    check_artifact_folder(options.out)
    wanted = settings(options, known_settings(options.checkpoint))
    name = getattr(options, "titled", options.out.name)
    weighed = {"device": find(options.device).name, "cycles_per_token": options.cycles_per_token}
    if options.calibration and options.auto_width:
        raise SettingError("--auto-width judges widths on a data set: leave out --calibration, or --auto-width")
    if options.fold and options.auto_width:
        raise SettingError("--auto-width judges the model as it is: quantize with --fold first, then that artifact with "
                           "--auto-width")
    if options.calibration:
        artifact = quantized_on(name, options.checkpoint, wanted, options.calibration, options.fold)
        return save_artifact(artifact, options.out, agreement=agreement(artifact, read_array(options.calibration)), **weighed)
    if options.auto_width:
        wanted = _chosen_widths(options, wanted)
    return measure_and_save(*quantized(name, options.checkpoint, wanted, options.data, options.fold), options.out, **weighed)


def _chosen_widths(options: argparse.Namespace, wanted: QuantizeConfig) -> QuantizeConfig:
    from rtl.plan.devices import find

    from ..sensitivity import area, choose_widths, narrowed, open_bench

    device = find(options.device)
    bench, error = open_bench(options.checkpoint, wanted, options.data, options.limit)
    choice = choose_widths(bench, wanted, options.tolerance, lambda artifact: area(artifact, device, options.cycles_per_token),
                           meter(len(bench.names), "tensors"))
    print(f"{error} of {len(bench.tokens)} validation sequences: float {choice.float_error:.4g}, integer {choice.error:.4g}; "
          f"{device.name} at {options.cycles_per_token} cycles per token: shares of {choice.cost:.4f} in sum, "
          f"{choice.widest_cost:.4f} at the widest")
    print(", ".join(f"{name} {bits}" for name, bits in choice.bits.items()))
    return narrowed(wanted, choice.bits)


def _sensitivity(options: argparse.Namespace) -> int:
    from ..artifacts import known_settings
    from ..sensitivity import SETTINGS, open_bench, sensitivity, table

    if not all(re.fullmatch(" *[0-9]{1,2} *", word) and 2 <= int(word) <= 24 for word in options.widths.split(",")):
        raise SettingError(f"--widths {options.widths}: name numbers of bits from 2 to 24, separated by commas")
    widths = tuple(dict.fromkeys(int(word) for word in options.widths.split(",")))
    wanted = settings(options, known_settings(options.checkpoint))
    bench, error = open_bench(options.checkpoint, wanted, options.data, options.limit)
    base, rows = sensitivity(bench, wanted, widths, meter(len(bench.names) + len(SETTINGS), "tensors"))
    print(f"{error} of {len(bench.tokens)} validation sequences: {base:.4g}; its change when one tensor alone has other bits:")
    print(table(rows, widths))
    write_json(options.json, {"error": error, "base": base, "sequences": len(bench.tokens), "rows": [
        {"name": row.name, "bits": row.bits, "changes": row.changes} for row in rows]})
    return 0
