"""Trained models of other programs."""

from .own import layout

__all__ = ["layout"]
