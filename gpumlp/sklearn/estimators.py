"""MLPClassifier and MLPRegressor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from gpumlp.sklearn.base import BaseMLP, Samples
from gpumlp.sklearn.objective import Objective, log_loss, poisson, squared_error


def _goes_by_steps(estimator: BaseMLP) -> bool:
    """Whether there is a ``partial_fit``."""
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit is only available for the solvers 'adam' and 'sgd'; got solver='lbfgs'.")
    return True


class MLPClassifier(ClassifierMixin, BaseMLP):
    """scikit-learn's MLPClassifier, trained by gpumlp's kernels.

    Labels may be numbers or strings, of two classes or of many, or rows of 0 and 1 for several labels at once.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default (100,)
        Units of each hidden layer; () for none.
    activation : {"identity", "logistic", "tanh", "relu"}, default "relu"
        Of the hidden layers.
    solver : {"lbfgs", "sgd", "adam"}, default "adam"
        "lbfgs" is SciPy's, by whole gradients: for small data.
    alpha : float, default 0.0001
        Penalty: alpha / 2 times the sum of all squared kernels, divided by the number of samples in a batch.
    batch_size : int or "auto", default "auto"
        Samples of a step: min(200, n_samples) with "auto".
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        Of "sgd". "invscaling": after t samples learning_rate_init / (t + 1)^power_t, set at the end of an epoch.
        "adaptive": divided by 5 where training would have stopped, down to 1e-6.
    learning_rate_init : float, default 0.001
        Of "sgd" and "adam".
    power_t : float, default 0.5
        See ``learning_rate``.
    max_iter : int, default 200
        The most epochs; of "lbfgs" the most iterations.
    shuffle : bool, default True
        Whether each epoch has the samples in an order of its own.
    random_state : int, RandomState or None, default None
        Draws first weights (scikit-learn's own), the split of ``early_stopping``, and what orders of samples come from.
    tol : float, default 1e-4
        By how much the loss, or the score, has to be better; of "lbfgs" the gradient at which it ends.
    verbose : bool or int, default False
        Whether to print each epoch's loss.
    warm_start : bool, default False
        Whether ``fit`` goes on from the weights of the last one.
    momentum : float, default 0.9
        Of "sgd".
    nesterovs_momentum : bool, default True
        Of "sgd".
    early_stopping : bool, default False
        Whether to hold samples out, to stop by the score on them, and to keep the weights that had the best one.
    validation_fraction : float, default 0.1
        Share of the samples held out.
    beta_1 : float, default 0.9
        Of "adam".
    beta_2 : float, default 0.999
        Of "adam".
    epsilon : float, default 1e-8
        Of "adam".
    n_iter_no_change : int or inf, default 10
        Epochs that may be no better.
    max_fun : int, default 15000
        The most evaluations of "lbfgs".
    n_models : int, default 1
        How many models are trained, each with first weights and an order of samples of its own: probabilities are
        their mean.
    device : {"auto", "cpu", "cuda", "cuda:N"} or None, default None
        As `Sequential.compile` takes it.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The labels.
    ensemble_ : Ensemble
        The models.
    n_features_in_, feature_names_in_, n_layers_, n_outputs_, out_activation_
        As scikit-learn's estimators have them.
    coefs_, intercepts_ : lists of float32 arrays
        Kernels and biases, these and the following of the first model.
    n_iter_, t_, loss_ : int, int, float
        Epochs of the last fit, samples that were trained on in all, the last epoch's loss with its penalty.
    loss_curve_ : list of float
        The loss of each epoch; not of "lbfgs".
    best_loss_, validation_scores_, best_validation_score_
        Of "sgd" and "adam": the first without ``early_stopping``, the others with it, else None.

    Notes
    -----
    Training is in float32, on the kernels that `gpumlp` trains all models by: X becomes float32. Predictions are
    computed in float32, and returned in double precision unless X is float32. "lbfgs" ends where float32 tells losses
    no longer apart, and warns if the gradient is still above ``tol`` then: scaled X takes it further.

    From the same ``random_state``, with ``shuffle=False``, losses are scikit-learn's to the rounding of float32 where a
    batch has all samples. Otherwise two things differ: orders of samples are drawn from other numbers, and the last
    batch of an epoch, if it is a smaller one, and batches of other sample weights, have the same penalty as the rest.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from gpumlp.sklearn import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
    >>> model = MLPClassifier((64,), max_iter=50, tol=0.01, random_state=0)
    >>> model.fit(X_train, y_train).score(X_test, y_test) > 0.95
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _targets(self, y: Any, going_on: bool, incremental: bool) -> np.ndarray:
        check_classification_targets(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not (going_on or incremental):
            self._know(y)
        there, known = set(unique_labels(y).tolist()), set(self.classes_.tolist())
        if going_on and not incremental and there != known:
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit: it had "
                f"{sorted(known)}, `y` has {sorted(there)}. partial_fit also takes some of them."
            )
        if not there <= known:
            raise ValueError(f"y has classes that are not in classes_, {self.classes_}: {sorted(there - known)}.")
        return np.ascontiguousarray(self._labels.transform(y), np.float32)

    def _know(self, labels: Any) -> None:
        """Have the classes be those that there are in ``labels``."""
        self._labels = LabelBinarizer().fit(labels)
        self.classes_ = self._labels.classes_

    def _objective(self, given: Samples) -> Objective:
        return log_loss(given.targets.shape[1], self._labels.y_type_ == "multiclass")

    def _worth(self, given: Samples, found: np.ndarray) -> float:
        """Return the accuracy, without the labels: scikit-learn's function takes longer than an epoch."""
        if self.out_activation_ == "softmax":
            right = found.argmax(1) == given.targets.argmax(1)
        else:
            right = ((found > 0.5) == (given.targets > 0.5)).all(1)
        return float(np.average(right, weights=given.weights))

    @available_if(_goes_by_steps)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train one epoch on X and y, from where training is.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_outputs)
            Class labels.
        sample_weight : array of shape (n_samples,), optional
        classes : array of shape (n_classes,), optional
            All classes that there will be; needed the first time.

        Returns
        -------
        MLPClassifier
            This one, fitted.
        """
        first = not hasattr(self, "classes_")
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if not first and classes is not None and not np.array_equal(unique_labels(classes), self.classes_):
            raise ValueError(f"`classes={classes}` is not the same as on last call to partial_fit: {self.classes_}.")
        if first:
            self._know(y if type_of_target(y).startswith("multilabel") else classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each sample, or all labels that are more probable than not.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_outputs)
            As y was.
        """
        found = self._mean(X)
        labels: np.ndarray = self._labels.inverse_transform(found[:, 0] if found.shape[1] == 1 else found)
        return labels

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class: the mean of all models'.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        found = self._mean(X)
        return np.hstack([1.0 - found, found]) if found.shape[1] == 1 else found

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of ``classes_``; -inf where a probability is 0.
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def _mean(self, X: Any) -> np.ndarray:
        """Return the models' mean probabilities, [n, outputs]."""
        return self._predictions(X).mean(0)


class MLPRegressor(RegressorMixin, BaseMLP):
    """scikit-learn's MLPRegressor, trained by gpumlp's kernels.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}, default "squared_error"
        "poisson": half of Poisson's deviance, of counts; predictions are exponentials of what the network gives.
    hidden_layer_sizes : int or sequence of int, default (100,)
        Units of each hidden layer; () for none.
    activation : {"identity", "logistic", "tanh", "relu"}, default "relu"
        Of the hidden layers.
    solver : {"lbfgs", "sgd", "adam"}, default "adam"
        "lbfgs" is SciPy's, by whole gradients: for small data.
    alpha : float, default 0.0001
        Penalty: alpha / 2 times the sum of all squared kernels, divided by the number of samples in a batch.
    batch_size : int or "auto", default "auto"
        Samples of a step: min(200, n_samples) with "auto".
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        Of "sgd". "invscaling": after t samples learning_rate_init / (t + 1)^power_t, set at the end of an epoch.
        "adaptive": divided by 5 where training would have stopped, down to 1e-6.
    learning_rate_init : float, default 0.001
        Of "sgd" and "adam".
    power_t : float, default 0.5
        See ``learning_rate``.
    max_iter : int, default 200
        The most epochs; of "lbfgs" the most iterations.
    shuffle : bool, default True
        Whether each epoch has the samples in an order of its own.
    random_state : int, RandomState or None, default None
        Draws first weights (scikit-learn's own), the split of ``early_stopping``, and what orders of samples come from.
    tol : float, default 1e-4
        By how much the loss, or the score, has to be better; of "lbfgs" the gradient at which it ends.
    verbose : bool or int, default False
        Whether to print each epoch's loss.
    warm_start : bool, default False
        Whether ``fit`` goes on from the weights of the last one.
    momentum : float, default 0.9
        Of "sgd".
    nesterovs_momentum : bool, default True
        Of "sgd".
    early_stopping : bool, default False
        Whether to hold samples out, to stop by the score on them, and to keep the weights that had the best one.
    validation_fraction : float, default 0.1
        Share of the samples held out.
    beta_1 : float, default 0.9
        Of "adam".
    beta_2 : float, default 0.999
        Of "adam".
    epsilon : float, default 1e-8
        Of "adam".
    n_iter_no_change : int or inf, default 10
        Epochs that may be no better.
    max_fun : int, default 15000
        The most evaluations of "lbfgs".
    n_models : int, default 1
        How many models are trained, each with first weights and an order of samples of its own: predictions are
        their mean, and ``predict(X, return_std=True)`` returns their spread too.
    device : {"auto", "cpu", "cuda", "cuda:N"} or None, default None
        As `Sequential.compile` takes it.

    Attributes
    ----------
    ensemble_ : Ensemble
        The models.
    n_features_in_, feature_names_in_, n_layers_, n_outputs_, out_activation_
        As scikit-learn's estimators have them.
    coefs_, intercepts_ : lists of float32 arrays
        Kernels and biases, these and the following of the first model.
    n_iter_, t_, loss_ : int, int, float
        Epochs of the last fit, samples that were trained on in all, the last epoch's loss with its penalty.
    loss_curve_ : list of float
        The loss of each epoch; not of "lbfgs".
    best_loss_, validation_scores_, best_validation_score_
        Of "sgd" and "adam": the first without ``early_stopping``, the others with it, else None.

    Notes
    -----
    Training is in float32, on the kernels that `gpumlp` trains all models by: X and y becomes float32. Predictions are
    computed in float32, and returned in double precision unless X is float32. "lbfgs" ends where float32 tells losses
    no longer apart, and warns if the gradient is still above ``tol`` then: scaled X and y take it further.

    From the same ``random_state``, with ``shuffle=False``, losses are scikit-learn's to the rounding of float32 where a
    batch has all samples. Otherwise two things differ: orders of samples are drawn from other numbers, and the last
    batch of an epoch, if it is a smaller one, and batches of other sample weights, have the same penalty as the rest.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp.sklearn import MLPRegressor
    >>> X = np.linspace(0, 6, 200).reshape(-1, 1)
    >>> model = MLPRegressor(
    ...     hidden_layer_sizes=(32,),
    ...     activation="tanh",
    ...     solver="lbfgs",
    ...     max_iter=1000,
    ...     tol=1e-3,
    ...     random_state=0,
    ...     n_models=3,
    ... )
    >>> mean, std = model.fit(X, np.sin(X[:, 0])).predict([[1.0], [2.0]], return_std=True)
    >>> bool(np.abs(mean - np.sin([1.0, 2.0])).max() < 0.02)
    True
    """

    def __init__(
        self, loss: str = "squared_error", hidden_layer_sizes: int | Sequence[int] = (100,), activation: str = "relu",
        *, solver: str = "adam", alpha: float = 0.0001, batch_size: int | str = "auto", learning_rate: str = "constant",
        learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200, shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None, tol: float = 1e-4, verbose: bool | int = False,
        warm_start: bool = False, momentum: float = 0.9, nesterovs_momentum: bool = True, early_stopping: bool = False,
        validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
        n_iter_no_change: float = 10, max_fun: int = 15000, n_models: int = 1, device: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            hidden_layer_sizes, activation, solver=solver, alpha=alpha, batch_size=batch_size,
            learning_rate=learning_rate, learning_rate_init=learning_rate_init, power_t=power_t, max_iter=max_iter,
            shuffle=shuffle, random_state=random_state, tol=tol, verbose=verbose, warm_start=warm_start,
            momentum=momentum, nesterovs_momentum=nesterovs_momentum, early_stopping=early_stopping,
            validation_fraction=validation_fraction, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon,
            n_iter_no_change=n_iter_no_change, max_fun=max_fun, n_models=n_models, device=device,
        )  # fmt: skip
        self.loss = loss

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _targets(self, y: Any, going_on: bool, incremental: bool) -> np.ndarray:
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        if self.loss == "poisson" and y.min() < 0.0:
            raise ValueError(
                f"loss='poisson' is of counts: y must be >= 0; its least is {y.min()}. For other numbers leave loss at "
                "'squared_error'."
            )
        return np.ascontiguousarray(y.reshape(len(y), -1), np.float32)

    def _objective(self, given: Samples) -> Objective:
        if self.loss == "poisson":
            return poisson(given.targets, given.weights)
        return squared_error(given.targets.shape[1])

    def _worth(self, given: Samples, found: np.ndarray) -> float:
        return float(r2_score(given.targets, found, sample_weight=given.weights))

    @available_if(_goes_by_steps)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one epoch on X and y, from where training is.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array of shape (n_samples,), optional

        Returns
        -------
        MLPRegressor
            This one, fitted.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Return the mean of the models' predictions, with ``return_std`` their standard deviation too.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
        return_std : bool, default False

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_outputs), or a pair of these
            The deviation says how far the models disagree, not how noisy y is, and is no bound far from the data.

        Raises
        ------
        ValueError
            For the deviation of a single model.
        """
        each = self._predictions(X)
        if return_std and len(each) == 1:
            raise ValueError(
                "return_std=True is the deviation of several models: fit with n_models=5, or as many as you like."
            )
        each = each[..., 0] if self.n_outputs_ == 1 else each
        return (each.mean(0), each.std(0)) if return_std else each.mean(0)
