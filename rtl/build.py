"""`python -m rtl.build TARGET` is `emamba build TARGET`."""

from runpy import run_module

if __name__ == "__main__":
    run_module("flow.build", run_name="__main__")
