"""What the keys of TOML files mean and how they are chosen, where their own description does not say it."""

MEANINGS = {
    "Recipe": {
        "data": "the data set", "model": "the model's shape", "train": "how it is trained",
    },
    "DataConfig": {
        "name": "a data set of this project, or the folder of your own below the data directory",
        "split": "one of the data set's splits (default: its first one)",
    },
    "ModelConfig": {
        "form": "the block: emamba for hardware, mamba2 for one decay a head; start with emamba",
        "input": "image, sequence of numbers, or token ids",
        "d_model": "channels of a token: 16 for thousands of sequences, 32 for tens of thousands; hardware grows with its square",
        "expand": "inner channels by d_model: 2 is usual, 1 halves the hardware",
        "d_state": "values of memory a channel: 8, or 16 where long sequences must be remembered",
        "d_conv": "taps of the convolution before the scan: 4; 0 leaves it out",
        "blocks": "2 for small data sets; each costs as much hardware as the others",
        "norm": "range needs no divider and no root in hardware; none where a value follows the inputs' level; layer and rms are "
                "for imported models",
        "residual": "a path around every block: leave it on, or deep models do not train",
        "task": "classification gives logits of classes, regression values, next_token logits of the next token",
        "pool": "mean for the class of a whole sequence, last for forecasts and the class at its end, none for an answer to "
                "every token",
    },
    "StemLayer": {
        "channels": "outputs: d_model or less", "kernel": "3 is usual", "stride": "2 quarters the tokens of an image",
        "function": "relu is free in hardware; silu takes a table",
    },
    "Stage": {"epochs": "a third of train.epochs is a start", "peak_lr": "a third of train.peak_lr is a start"},
    "TrainConfig": {
        "epochs": "as many as make about 3,000 steps of the optimizer, or 1,500 for fewer than 1,000 sequences",
        "batch": "sequences a step: 32 for hundreds, 128 for tens of thousands",
        "peak_lr": "highest learning rate: 6e-3, without a norm 3e-3; a third of it where the loss jumps or the model is wide",
        "weight_decay": "0.01 for values, 0.05 for classes; 0.1 for few sequences, or where it overfits",
        "seed": "another seed gives another model: the spread of three tells what a difference is worth",
        "noise_bits": "8 for the INT8 of the hardware, which costs little and makes quantization harmless",
        "average": "0.99 for 2,000 steps, 0.999 for 20,000; the figures become steadier",
        "jitter": "0.01 for values, 0.05 for classes; 0.05 and 0.1 for few sequences, or where it overfits",
        "dropout": "0.1 for classes, 0 for values; 0.2 for few sequences, or where it overfits",
        "label_smoothing": "0.05: small logits need few bits",
        "shift": "a sixteenth of the sequence, where the moment does not decide",
        "cutout": "an eighth of the sequence", "scale": "0.1 where loudness or gain does not decide, 0.2 for few sequences",
        "mask": "0.1 for bands of a spectrum", "mix": "0.2 for few sequences, and for classes of pictures and sounds",
    },
    "QuantizeConfig": {
        "weight_bits": "8; 6 and fewer need `emamba finetune`",
        "silu_segments": "straight lines of SiLU: 17 is within a step at 8 bits",
        "exp_segments": "straight lines of exp: 11 is within a step at 8 bits",
        "softplus_segments": "straight lines of softplus: 17 is within a step at 8 bits",
        "sigmoid_segments": "straight lines of sigmoid: 17 is within a step at 8 bits",
        "rounding": "half_up is an adder in hardware; half_even is for comparison with other models",
        "residual_bits": "8 where every bit of the multipliers' inputs counts: it costs accuracy",
    },
    "FinetuneConfig": {
        "epochs": "10; 30 for 4 and 6 bits", "peak_lr": "a twentieth of the training's", "seed": "of the order of the sequences",
    },
    "SearchConfig": {"seed": "of the proposals"},
    "HardwareConfig": {
        "device": "whose shares are the load", "fill": "share of it that a design may take; place and route wants the rest",
        "cycles_per_token": "T of the designs: 20, or what the frames a second allow",
        "organization": "pipeline, or engine for devices below a few thousand lookup tables",
        "lanes": "multipliers of an engine: 8 for an iCE40 UP5K",
    },
    "Range": {
        "low": "least value", "high": "largest value", "step": "values are low, low + step, …", "log": "by factors, not by steps",
    },
    "Space": {
        "data": "the data set of all trials", "model": "what all shapes have in common", "train": "what all trainings share",
        "quantize": "settings that all share", "search": "how long and by what", "hardware": "for what cycles and load are meant",
        "space": "choices and ranges of keys of model, train and quantize",
    },
}


def explained(schema: dict) -> dict:
    """A JSON schema whose keys say what they mean; a rule of thumb follows the key's own description."""
    for name, part in {**schema.get("$defs", {}), schema.get("title", ""): schema}.items():
        for key, meaning in MEANINGS.get(name, {}).items():
            entry = part.get("properties", {}).get(key)
            if entry is not None:
                own = entry.get("description", "")
                entry["description"] = f"{own}; {meaning}" if own else meaning
    return schema
