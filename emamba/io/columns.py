"""Columns of a file as a `Table`: CSV, Parquet where pyarrow is there, or arrays in .npz."""

import zipfile
from pathlib import Path

import numpy as np

from ..base.errors import InputError, ToolMissing, brief
from .files import check_regular
from .tables import Table, read_table

KINDS = (".csv", ".tsv", ".txt", ".parquet", ".npz")
"""Ends of names that are looked for in a folder."""


def read_columns(file: Path, wanted: list[str]) -> Table:
    """The columns `wanted`, as text or as arrays, whatever the kind of file."""
    read = {".parquet": _parquet, ".npz": _arrays}.get(file.suffix.lower())
    if read is None:
        return read_table(file, wanted)
    check_regular(file)
    columns = read(file, wanted)
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise InputError(f"{file}: the columns {', '.join(wanted)} have {', '.join(map(str, sorted(lengths)))} rows: make them "
                         "equally long")
    return Table(file, columns, list(range(1, max(lengths, default=0) + 1)), (), "row")


def _parquet(file: Path, wanted: list[str]) -> dict[str, np.ndarray]:
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-not-found]
    except ImportError:
        raise ToolMissing(f"{file}: Parquet is read by pyarrow, which is not here: pip install pyarrow, or save it as "
                          "CSV") from None
    try:
        names = parquet.read_schema(file).names
        _check(file, wanted, names)
        table = parquet.read_table(file, columns=wanted)
        return {name: _plain(table[name].to_numpy()) for name in wanted}
    except (ArrowException, OSError) as error:
        raise InputError(f"{file} cannot be read as Parquet ({brief(str(error))}): write it again") from None


def _arrays(file: Path, wanted: list[str]) -> dict[str, np.ndarray]:
    """1-D arrays by their names; a 2-D array `a` has the columns a[0], a[1], …"""
    try:
        with np.load(file, allow_pickle=False) as content:
            found = {name: content[name] for name in content.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} cannot be read as NPZ ({brief(str(error))}): save it by numpy.savez, without objects") from None
    columns = {}
    for name, array in found.items():
        if array.ndim == 1:
            columns[name] = array
        elif array.ndim == 2:
            columns |= {f"{name}[{k}]": array[:, k] for k in range(array.shape[1])}
    _check(file, wanted, list(columns))
    return {name: _plain(columns[name]) for name in wanted}


def _check(file: Path, wanted: list[str], names: list[str]) -> None:
    for name in wanted:
        if name not in names:
            raise InputError(f"{file} has no column '{name}'; it has: {brief(', '.join(names)) or 'none'}")


def _plain(column: np.ndarray) -> np.ndarray:
    """Numbers as they are, times as ISO text, all else as text."""
    if column.dtype.kind in "iufb":
        return column
    if column.dtype.kind == "M":
        return np.datetime_as_string(column)
    return np.array(["" if value is None else str(value) for value in column])
