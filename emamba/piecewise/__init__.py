"""Piecewise-linear functions: how segments are chosen, their one integer form, their errors over every input code.

functions      SiLU, exp, softplus, sigmoid, or any callable segments       the integer form
chord          the paper's rule                               outer          the pieces beyond the first and the last knot
authors        the authors' printed tables                    target         what the next two fit
minimax        the smallest largest error                     least_squares  the least mean square error under a density
density        how often each input code occurs               accuracy       the exact table, and errors
lines          real lines to integers                         rules          `fit`, which calls one of the four

Source: paper, section on piecewise-linear functions (17 segments for SiLU on [−7, 7], 11 for exp on [−4, 1]); the rules minimax
and least_squares are our choice. `python -m emamba.piecewise` prints the errors of all rules as a table.
"""

from .accuracy import errors, exact
from .authors import AUTHORS
from .density import histogram, products
from .functions import ARGUMENTS, FUNCTIONS, Domain, Scalar
from .rules import FLOOR, RULES, fit
from .segments import MAX_BITS, Segments, TooSteep, codes

__all__ = ["ARGUMENTS", "AUTHORS", "FLOOR", "FUNCTIONS", "MAX_BITS", "RULES", "Domain", "Scalar", "Segments", "TooSteep", "codes",
           "errors", "exact", "fit", "histogram", "products"]
