"""The operators: one file for each kind of node, with all that the kind means. docs/add-a-block.md adds one."""

from .activation import Activation
from .attention import Attention
from .base import BIAS, MULTIPLIER, OPERATORS, Input, Operator, register
from .depthwise import Depthwise
from .elementwise import Add, Multiply
from .head_scan import HeadScan
from .lookup import Lookup
from .norms import LayerNorm, Norm, RangeNorm, RMSNorm
from .pool import Pool
from .reverse import Reverse
from .scan import Scan
from .smooth import Smooth
from .weighted import Conv1d, Linear, Weighted
from .window import Window

__all__ = ["BIAS", "MULTIPLIER", "OPERATORS", "Activation", "Add", "Attention", "Conv1d", "Depthwise", "HeadScan", "Input",
           "LayerNorm", "Linear", "Lookup", "Multiply", "Norm", "Operator", "Pool", "RMSNorm", "RangeNorm", "Reverse", "Scan",
           "Smooth", "Weighted", "Window", "register"]
