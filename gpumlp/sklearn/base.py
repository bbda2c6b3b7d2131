"""What both estimators are: parameters, models in an ensemble, and how these are fitted."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from gpumlp.ensemble import Ensemble
from gpumlp.errors import caller_level
from gpumlp.layers import Dense, Input
from gpumlp.maps import check_there
from gpumlp.models import Sequential
from gpumlp.optimizers import SGD, Adam
from gpumlp.regularizers import L2
from gpumlp.signatures import Named
from gpumlp.sklearn import lbfgs
from gpumlp.sklearn.course import Course, Watch
from gpumlp.sklearn.objective import Objective, predictions
from gpumlp.sklearn.parameters import ACTIVATIONS, check, layer_sizes

SEEDS = 2**31 - 1  # how many there are


class Samples(NamedTuple):
    """What is trained or judged on: x[n, features], what the network is to give, [n, outputs], weights[n]."""

    x: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None

    def rows(self, chosen: np.ndarray) -> Samples:
        """Return some of the samples."""
        weights = None if self.weights is None else self.weights[chosen]
        return Samples(self.x[chosen], self.targets[chosen], weights)

    @property
    def mean_weight(self) -> float:
        """What a sample's weight is in the mean."""
        return 1.0 if self.weights is None else float(self.weights.mean())

    @property
    def shares(self) -> np.ndarray | None:
        """The weights as a model takes them, whose loss is a sum divided by how many samples there are."""
        if self.weights is not None and not self.mean_weight > 0.0:
            raise ValueError(f"sample_weight must have a sum above 0; the mean of the weights is {self.mean_weight}.")
        return None if self.weights is None else self.weights / np.float32(self.mean_weight)


class BaseMLP(Named, BaseEstimator):
    """Base of the estimators; `MLPClassifier` says what the parameters are."""

    ensemble_: Ensemble

    def __init__(
        self, hidden_layer_sizes: int | Sequence[int] = (100,), activation: str = "relu", *, solver: str = "adam",
        alpha: float = 0.0001, batch_size: int | str = "auto", learning_rate: str = "constant",
        learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200, shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None, tol: float = 1e-4, verbose: bool | int = False,
        warm_start: bool = False, momentum: float = 0.9, nesterovs_momentum: bool = True, early_stopping: bool = False,
        validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
        n_iter_no_change: float = 10, max_fun: int = 15000, n_models: int = 1, device: str | None = None,
    ) -> None:  # fmt: skip
        # scikit-learn wants each parameter kept as it was given; `check` looks at them when training begins
        self.hidden_layer_sizes, self.activation, self.solver, self.alpha = (
            hidden_layer_sizes,
            activation,
            solver,
            alpha,
        )
        self.batch_size, self.learning_rate, self.learning_rate_init = batch_size, learning_rate, learning_rate_init
        self.power_t, self.max_iter, self.shuffle, self.random_state = power_t, max_iter, shuffle, random_state
        self.tol, self.verbose, self.warm_start, self.momentum = tol, verbose, warm_start, momentum
        self.nesterovs_momentum, self.early_stopping = nesterovs_momentum, early_stopping
        self.validation_fraction, self.beta_1, self.beta_2, self.epsilon = validation_fraction, beta_1, beta_2, epsilon
        self.n_iter_no_change, self.max_fun, self.n_models, self.device = n_iter_no_change, max_fun, n_models, device

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # ---- what differs between the two --------------------------------------------------------------------------------

    def _targets(self, y: Any, going_on: bool, incremental: bool) -> np.ndarray:
        """Return what the network is to give for y, [n, outputs]; ValueError where it cannot be."""
        raise NotImplementedError

    def _objective(self, given: Samples) -> Objective:
        """Return what is minimised."""
        raise NotImplementedError

    def _worth(self, given: Samples, found: np.ndarray) -> float:
        """Return the score of predictions or probabilities [n, outputs], on which early stopping is decided."""
        raise NotImplementedError

    # ---- fit ---------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X and y: anew, or with ``warm_start`` from the weights of the last time on.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Becomes float32; a sparse matrix becomes an array.
        y : array of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, or numbers, which become float32.
        sample_weight : array of shape (n_samples,), optional
            Each 0 or more, relative to their mean: a batch's loss is the sum of what its samples weigh, divided by how
            many they are.

        Returns
        -------
        estimator
            This one, fitted.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Self:
        check(self, incremental)
        going_on = (incremental or self.warm_start) and hasattr(self, "ensemble_")
        check_there(X)
        check_there(y)
        X, y = validate_data(
            self, X, y, accept_sparse=("csr", "csc"), multi_output=True, y_numeric=not is_classifier(self),
            dtype=np.float32, order="C", reset=not going_on,
        )  # fmt: skip
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, dtype=np.float32, ensure_non_negative=True)
        given = Samples(_dense(X), self._targets(y, going_on, incremental), weights)
        random = check_random_state(self.random_state)
        if not going_on:
            self._begin(given, random)
        held_out = None
        if self.early_stopping and self.solver != "lbfgs":
            given, held_out = self._split(given, random)
        objective, batch = self._objective(given), self._batch(len(given.x))
        self._prepare(objective, batch * given.mean_weight, anew=not (going_on and incremental))
        if self.solver == "lbfgs":
            self._fit_by_lbfgs(given, objective)
        else:
            self._fit_by_steps(given, objective, batch, held_out, incremental)
        weights_now = (array.ravel() for model in self.ensemble_.members for array in model.get_weights())
        if not np.isfinite(np.concatenate([[self.loss_], *weights_now])).all():
            raise ValueError(
                "Solver produced non-finite parameter weights, or such a loss. The input data may contain large values "
                "and need to be preprocessed, as sklearn.preprocessing.StandardScaler does: training is in float32."
            )
        return self

    def _begin(self, given: Samples, random: np.random.RandomState) -> None:
        """Make the models, with the first weights that scikit-learn's own estimators draw."""
        objective, hidden = self._objective(given), layer_sizes(self.hidden_layer_sizes)
        sizes = [given.x.shape[1], *hidden, objective.outputs]
        kinds = [ACTIVATIONS[self.activation]] * len(hidden) + [objective.last_activation]

        def build() -> Sequential:
            layers = [Dense(n, kind, kernel_initializer="zeros") for n, kind in zip(sizes[1:], kinds, strict=True)]
            model = Sequential([Input((sizes[0],)), *layers])
            self._compile(model, objective)
            return model

        def first_weights() -> list[np.ndarray]:
            """Glorot and Bengio 2010, for biases too; scikit-learn's factor for the logistic function is a third."""
            found = []
            for shape in pairwise(sizes):
                bound = math.sqrt((2.0 if self.activation == "logistic" else 6.0) / sum(shape))
                found += [random.uniform(-bound, bound, shape), random.uniform(-bound, bound, shape[1])]
            return found

        weights = [first_weights() for _ in range(self.n_models)]
        # of a copy, so that what is drawn next is what scikit-learn draws next
        seeds = copy.deepcopy(random).randint(SEEDS, size=self.n_models)
        self.ensemble_ = Ensemble(build, self.n_models, seeds.tolist())
        for model, own in zip(self.ensemble_.members, weights, strict=True):
            model.set_weights(own)
        self._courses = [Course() for _ in weights]
        self.n_layers_, self.n_outputs_, self.out_activation_ = len(sizes), sizes[-1], objective.out_activation

    def _compile(self, model: Sequential, objective: Objective) -> None:
        """Have the model begin with a new optimizer."""
        rate, scale = self.learning_rate_init, objective.scale
        optimizer: SGD | Adam = Adam(rate, self.beta_1, self.beta_2, self.epsilon / scale)
        if self.solver != "adam":
            by_steps = SGD(rate * scale, self.momentum, self.nesterovs_momentum)
            optimizer = by_steps if self.solver == "sgd" else SGD(lbfgs.RATE)
        model.compile(optimizer, objective.loss, weighted_metrics=objective.metrics, device=self.device)

    def _prepare(self, objective: Objective, weight: float, anew: bool) -> None:
        """Give the models the penalty beside batches of so much ``weight``, and with ``anew`` new optimizers."""
        penalty = L2(0.5 * self.alpha / (weight * objective.scale)) if self.alpha and weight else None
        for model in self.ensemble_.members:
            for layer in model.layers:
                layer.kernel_regularizer = penalty
            if anew:
                self._compile(model, objective)

    def _split(self, given: Samples, random: np.random.RandomState) -> tuple[Samples, Samples]:
        """Return what to train on, and what to decide early stopping on: scikit-learn's split."""
        train, held_out = train_test_split(
            np.arange(len(given.x)), random_state=random, test_size=self.validation_fraction,
            stratify=given.targets if is_classifier(self) and self.n_outputs_ == 1 else None,
        )  # fmt: skip
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset: "
                f"{self.validation_fraction} of {len(given.x)} samples are {len(held_out)}."
            )
        return given.rows(train), given.rows(held_out)

    def _batch(self, samples: int) -> int:
        """Return how many samples a batch has."""
        if self.solver == "lbfgs":
            return samples
        size = 200 if isinstance(self.batch_size, str) else self.batch_size
        if size > samples and self.batch_size != "auto":
            warnings.warn(
                f"Got `batch_size` {size}, larger than the sample size, {samples}. It is going to be clipped.",
                stacklevel=caller_level(),
            )
        return min(size, samples)

    def _fit_by_steps(
        self, given: Samples, objective: Objective, batch: int, held_out: Samples | None, incremental: bool
    ) -> None:
        """Train by batches, all epochs in one call, which the models' callbacks end."""

        def score(model: Sequential) -> float:
            assert held_out is not None
            found = predictions(model.predict(held_out.x, verbose=0), self.out_activation_)
            return self._worth(held_out, found) if np.isfinite(found).all() else math.nan

        scoring = None if held_out is None else score
        watches = [Watch(c, self, objective.reported, objective.scale, len(given.x), scoring) for c in self._courses]
        try:
            self.ensemble_.fit(
                given.x, given.targets, batch_size=batch, epochs=1 if incremental else self.max_iter, verbose=0,
                callbacks=watches.__getitem__, shuffle=self.shuffle, sample_weight=given.shares,
            )  # fmt: skip
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=caller_level())
        first = self._courses[0]
        self.n_iter_, self.t_, self.loss_curve_ = first.n_iter, first.t, first.loss_curve
        self.loss_ = first.loss_curve[-1] if first.loss_curve else math.inf
        self.best_loss_ = None if self.early_stopping else first.best_loss
        self.validation_scores_ = first.validation_scores if self.early_stopping else None
        self.best_validation_score_ = first.best_score if self.early_stopping else None
        if not incremental and any(c.n_iter == self.max_iter and not c.converged for c in self._courses):
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=caller_level(),
            )

    def _fit_by_lbfgs(self, given: Samples, objective: Objective) -> None:
        """Train by whole gradients, a model after the other."""
        options = {"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol}
        samples = given.x, given.targets, given.shares
        found = [lbfgs.fit(model, *samples, objective.scale, options) for model in self.ensemble_.members]
        logs = self.ensemble_.members[0].test_on_batch(*samples, return_dict=True)
        self.n_iter_, self.t_, self.loss_ = found[0].nit, 0, objective.reported(logs)
        if failed := next((one for one in found if not one.success), None):
            more = f"Increase max_iter ({self.max_iter}) or max_fun ({self.max_fun}), or scale"
            warnings.warn(
                f"lbfgs failed to converge: {failed.message}. {more if failed.status == lbfgs.LIMIT else 'Scale'} the "
                "data, numbers in y too, as sklearn.preprocessing.StandardScaler does.",
                ConvergenceWarning,
                stacklevel=caller_level(),
            )

    # ---- what has been fitted ----------------------------------------------------------------------------------------

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The kernels of the first model, a copy of each: float32, of shape (inputs, outputs) of a layer."""
        return self.ensemble_.members[0].get_weights()[::2]

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """The biases of the first model, a copy of each: float32, of shape (outputs,) of a layer."""
        return self.ensemble_.members[0].get_weights()[1::2]

    def _predictions(self, X: Any) -> np.ndarray:
        """Return each model's numbers, or probabilities, [models, n, outputs], in double unless X is in single."""
        check_is_fitted(self)
        check_there(X)
        given = X.dtype if hasattr(X, "dtype") else np.asarray(X).dtype  # frames have one of each column
        dtype = np.float32 if given == np.float32 else np.float64
        X = validate_data(self, X, accept_sparse=("csr", "csc"), dtype=np.float32, order="C", reset=False)
        return predictions(self.ensemble_.predict_members(_dense(X)).astype(dtype), self.out_activation_)


def _dense(X: Any) -> np.ndarray:
    found: np.ndarray = X.toarray() if issparse(X) else X
    return found
