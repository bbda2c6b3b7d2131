"""The names that `get` knows, for editors to offer: a test holds them to it. Any other string is looked up, too.

What a person may give in a name's place is beside it: `ActivationLike` is what `activations.get` takes, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

ActivationName: TypeAlias = Literal[
    "celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
    "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
    "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus",
    "swish", "tanh", "tanh_shrink", "threshold",
]  # fmt: skip
ConstraintName: TypeAlias = Literal[
    "constraint", "max_norm", "min_max_norm", "non_neg", "unit_norm",
]  # fmt: skip
InitializerName: TypeAlias = Literal[
    "constant", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "identity", "identity_initializer",
    "lecun_normal", "lecun_uniform", "normal", "one", "ones", "orthogonal", "orthogonal_initializer", "random_normal",
    "random_uniform", "truncated_normal", "uniform", "variance_scaling", "zero", "zeros",
]  # fmt: skip
LossName: TypeAlias = Literal[
    "bce", "binary_crossentropy", "binary_focal_crossentropy", "categorical_crossentropy",
    "categorical_focal_crossentropy", "categorical_generalized_cross_entropy", "categorical_hinge", "circle",
    "cosine_similarity", "dice", "hinge", "huber", "kl_divergence", "kld", "kullback_leibler_divergence", "log_cosh",
    "logcosh", "mae", "mape", "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_error",
    "mean_squared_logarithmic_error", "mse", "msle", "poisson", "sparse_categorical_crossentropy", "squared_hinge",
    "tversky",
]  # fmt: skip
MetricName: TypeAlias = Literal[
    "acc", "accuracy", "auc", "bce", "binary_accuracy", "binary_crossentropy", "binary_focal_crossentropy",
    "binary_io_u", "categorical_accuracy", "categorical_crossentropy", "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy", "categorical_hinge", "ce", "circle", "concordance_correlation",
    "cosine_similarity", "crossentropy", "dice", "f1_score", "f_beta_score", "false_negatives", "false_positives",
    "hinge", "huber", "kl_divergence", "kld", "kullback_leibler_divergence", "log_cosh", "log_cosh_error", "logcosh",
    "mae", "mape", "mean", "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_error",
    "mean_squared_logarithmic_error", "mse", "msle", "pearson_correlation", "poisson", "precision", "r2_score",
    "recall", "root_mean_squared_error", "sparse_categorical_accuracy", "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy", "squared_hinge", "sum", "top_k_categorical_accuracy", "true_negatives",
    "true_positives", "tversky",
]  # fmt: skip
OptimizerName: TypeAlias = Literal[
    "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "ftrl", "lamb", "lion", "muon", "nadam", "rmsprop",
    "schedulefreeadamw", "sgd",
]  # fmt: skip
RegularizerName: TypeAlias = Literal[
    "l1", "l1_l2", "l2", "orthogonal_regularizer",
]  # fmt: skip
DeviceName: TypeAlias = Literal["auto", "cpu", "cuda"]
FloatName: TypeAlias = Literal["float32", "float64"]

# A class or an object of one is `Callable` where its objects are called; a config dict is a `Mapping`.
ActivationLike: TypeAlias = ActivationName | str | Callable[..., object] | Mapping[str, object] | None
ConstraintLike: TypeAlias = ConstraintName | str | Callable[..., object] | Mapping[str, object] | None
InitializerLike: TypeAlias = InitializerName | str | Callable[..., object] | Mapping[str, object] | ArrayLike | None
LossLike: TypeAlias = LossName | str | Callable[..., object] | Mapping[str, object] | None
MetricLike: TypeAlias = MetricName | str | Callable[..., object] | Mapping[str, object] | None
RegularizerLike: TypeAlias = RegularizerName | str | Callable[..., object] | Mapping[str, object] | None

# What a loss or a metric takes beside its constants.
ReductionName: TypeAlias = Literal["sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none"]
Reduction: TypeAlias = ReductionName | None
FloatLike: TypeAlias = FloatName | np.dtype | type[np.floating] | None
