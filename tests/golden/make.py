"""Write the golden data: what Keras on JAX computes in float64, for tests that replay it without Keras.

    .venv-parity/bin/python tests/golden/make.py [KIND ...]

Each kind becomes a file of JSON with a case a line, read by ``golden.cases``: numbers are written by ``repr``, so that
they come back to the bit, and NaN and the infinities by Python's words for them. The numbers that go in are written
too; nothing is drawn when a test runs. What is there for each kind stands in the function of its name.

Marks are places in the flattened input. ``tie``: the function has a kink there and Keras's slope is that of neither
side (JAX's maximum shares a gradient among those that are equal). ``kink``: the slope is that of one side, or it is 0
by convention. ``accident``: value or slope is NaN though the input is a number, mostly 0 * inf in the derivative of a
``where`` or inf - inf, and no answer that anybody would want; ``accident_values`` has those of a loss's values.
``nan``: the input is NaN, for which Keras has numbers in places. ``edge``: far out, tiny, infinite, NaN, or at a clip.

A slope at a kink is the engine's convention in part: abs has the slope 1 at 0 on JAX, 0 on TensorFlow.
"""

from __future__ import annotations

import sys
import warnings

from makers.activations import activations
from makers.api import api
from makers.losses import losses
from makers.metrics import metrics
from makers.normalization import normalization
from makers.optimizers import optimizers
from makers.weights import constraints, initializers, regularizers

KINDS = {
    f.__name__: f
    for f in (activations, losses, metrics, optimizers, normalization, initializers, regularizers, constraints, api)
}


def main() -> int:
    """Write the kinds named on the command line, all without one."""
    for name in sys.argv[1:] or KINDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            KINDS[name]()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
