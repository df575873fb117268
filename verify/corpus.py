"""Small data files in the formats of the data sets, for `verify.fuzz` to change."""

import io

import numpy as np


def mars() -> bytes:
    """Three radar frames."""
    rng, file = np.random.default_rng(0), io.BytesIO()
    count = np.array([3, 64, 1])
    points = {key: rng.integers(-500, 500, count.sum()).astype(np.int16) for key in ("x", "y", "z", "doppler", "intensity")}
    arrays = {
        "count": count.astype(np.uint8),
        "subject": np.array([1, 2, 2], np.uint8),
        "labels": rng.normal(size=(3, 57)).astype(np.float32),
    }
    np.savez(file, **{f"test_{key}": value for key, value in (points | arrays).items()})
    return file.getvalue()


def radhar() -> bytes:
    """Three recordings of 70 frames."""
    rng, file = np.random.default_rng(0), io.BytesIO()
    count = rng.integers(1, 4, 210)
    points = {key: rng.normal(size=count.sum()).astype(np.float32) for key in "xyzv"}
    recordings = {"act": np.array([0, 4, 2]), "split": np.array([True, False, True])}
    np.savez(file, **points, **recordings, count=count, rec=np.repeat(np.arange(3), 70))
    return file.getvalue()


def vowels() -> bytes:
    """Fifty utterances."""
    rng = np.random.default_rng(0)
    lines = [
        ":".join([*(",".join(f"{v:.3f}" for v in rng.normal(size=9)) for _ in range(12)), str(1 + k % 9)]) for k in range(50)
    ]
    return ("@problemName JapaneseVowels\n@data\n" + "\n".join(lines) + "\n").encode()


def cifar10() -> bytes:
    """Two pictures a part."""
    from PIL import Image

    file, picture = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(picture, "JPEG")
    jpeg = np.frombuffer(picture.getvalue(), np.uint8)
    parts = {"jpeg": np.tile(jpeg, 2), "length": np.full(2, len(jpeg)), "label": np.array([3, 9], np.uint8)}
    np.savez(file, **{f"{part}_{key}": value for part in ("train", "test") for key, value in parts.items()})
    return file.getvalue()
