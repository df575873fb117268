"""The version of the package that runs."""

import importlib.metadata


def version() -> str:
    try:
        return importlib.metadata.version("emamba")
    except importlib.metadata.PackageNotFoundError:
        return "of a checkout that is not installed"
