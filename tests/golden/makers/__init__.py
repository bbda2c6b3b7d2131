"""What `golden.make` writes: a function for each kind, in the file of its subject. Keras runs on JAX, in float64."""

import os

os.environ["KERAS_BACKEND"] = "jax"  # both are read when they are imported, which is after this
os.environ["JAX_ENABLE_X64"] = "1"
