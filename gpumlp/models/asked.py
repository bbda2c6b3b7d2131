"""What a model is asked for beside training and predictions: what it was compiled with, and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpumlp import losses
from gpumlp.engine.feed import Dataset
from gpumlp.engine.runner import together
from gpumlp.layers import Shape, Weight
from gpumlp.metrics import Metric
from gpumlp.models import calls
from gpumlp.models.kept import Kept
from gpumlp.signatures import named
from gpumlp.training import data, loop, samples
from gpumlp.training.results import Objective

OLDER = {
    "predict_classes": "model.predict(x).argmax(axis=-1), or (model.predict(x) > 0.5).astype(int) of one output",
    "predict_proba": "model.predict",
    "fit_generator": "model.fit, which takes what gives batches",
    "evaluate_generator": "model.evaluate, which takes what gives batches",
    "predict_generator": "model.predict, which takes what gives batches",
}  # methods of older Keras, and what to call instead


class Reported(NamedTuple):
    """One of `Sequential.metrics`, as it was computed last: a number, or numbers by their names."""

    name: str
    value: object

    def result(self) -> object:
        """Return the value."""
        return self.value


class Asked(Kept):
    """The base of `Sequential` that has the methods for it."""

    if TYPE_CHECKING:  # what Sequential has
        predict: Any

        def _judge(self, loss: losses.Loss, held: Dataset, shape: Shape) -> Objective: ...

    if not TYPE_CHECKING:  # what it has is known

        def __getattr__(self, name: str) -> Any:
            if name not in OLDER:
                return object.__getattribute__(self, name)  # which says what is missing, a property's words too
            raise AttributeError(f"{name!r} is of an older Keras: use {OLDER[name]}.")

    # ---- what was reported -----------------------------------------------------------------------------------------

    @property
    def metrics(self) -> list[Reported]:
        """What is reported: the loss and, where there are any, all the metrics together, as Keras has them."""
        if self._optimizer is None:
            return []
        rest = {name: value for name, value in self._results.items() if name != "loss"}
        parts = [Reported("loss", self._results.get("loss", 0.0)), Reported("compile_metrics", rest)]
        return parts if self._metric_names else parts[:1]

    @property
    def metrics_names(self) -> list[str]:
        """The names of `metrics`."""
        return [part.name for part in self.metrics]

    def get_metrics_result(self) -> dict[str, object]:
        """Return the loss and the metrics of the epoch, evaluation or batch that was computed last.

        Returns
        -------
        dict
            A number, or an array of some, by name.
        """
        return dict(self._results)

    def reset_metrics(self) -> None:
        """Have the loss and the metrics be 0, until something is computed."""
        self._results = dict.fromkeys(self._results, 0.0)
        for metric, _ in self._metric_names:
            if isinstance(metric, Metric):
                metric.reset_state()

    # ---- outputs in training mode, and gradients -------------------------------------------------------------------

    @named
    def __call__(self, inputs: object, training: bool | None = None, mask: object = None) -> Any:
        """Return the outputs for samples, as `predict` does. A model without weights is built.

        Parameters
        ----------
        inputs : array [n, *sample]
            Samples.
        training : bool, optional
            Whether they are those of a step of training with all of ``inputs`` as its batch: Dropout has another mask
            each time.
        mask : None
            There are no masks.

        Returns
        -------
        array [n, *output]

        Raises
        ------
        TypeError
            For what is no array of numbers, and for a layer or a model: there is no functional API.
        """
        checked = calls.checked_input(inputs, f"Model {self.name!r}")
        if mask is not None:
            raise ValueError("There are no masks: mask must be None.")
        if not training:
            return self.predict(checked, verbose=0)
        features, shape = samples.features(self._runner, checked, self._known_input_shape())
        network = self._built_for(shape)
        return calls.respond(self._runner, features, True).reshape((len(features), *network.output_shape))

    @named
    def gradients(
        self, x: object, y: object = None, output_gradients: object = None, sample_weight: object = None,
        training: bool = False,
    ) -> calls.Gradients:  # fmt: skip
        """Return the gradients by ``x`` and by the trainable weights, as a GradientTape gives them; nothing is changed.

        With ``y`` those of the loss that the model was compiled with: of the mean over all of ``x``, with the
        penalties, as in a step of training. Without, those of the sum of ``output_gradients`` times the outputs. One
        chains models by them: the gradient by a critic's inputs is the ``output_gradients`` of an actor's.

        Parameters
        ----------
        x : array [n, *sample]
            Samples.
        y : array, optional
            Targets, as `fit` takes them.
        output_gradients : array [n, *output], optional
            The gradient of something by the outputs; ones when None. Only without ``y``.
        sample_weight : array [n], optional
            Only with ``y``.
        training : bool
            As in a step of training, with all of ``x`` as its batch: Dropout is active. Otherwise the memory that it
            takes does not grow with n.

        Returns
        -------
        Gradients
            ``inputs``, of x's shape, and ``weights``, a list in the order of ``trainable_weights``: of the model's
            dtype, on the GPU if ``x`` is.

        Raises
        ------
        TypeError, ValueError
            For arrays that do not fit, and with ``y`` for a model that is not compiled.

        Examples
        --------
        A step of the deterministic policy gradient (Silver et al. 2014): the actor goes where the critic's value rises.

        >>> import gpumlp
        >>> import numpy as np
        >>> actor = gpumlp.Sequential([gpumlp.layers.Dense(2, "tanh", input_shape=(3,))])
        >>> critic = gpumlp.Sequential(
        ...     [gpumlp.layers.Dense(8, "tanh", input_shape=(5,)), gpumlp.layers.Dense(1)]
        ... )
        >>> actor.compile("adam")
        >>> states = np.ones((4, 3))
        >>> actions = actor(states)
        >>> by_inputs = critic.gradients(np.hstack([states, actions])).inputs
        >>> by_outputs = -by_inputs[:, 3:] / len(states)
        >>> found = actor.gradients(states, output_gradients=by_outputs)
        >>> actor.optimizer.apply(found.weights, actor.trainable_weights)
        """
        calls.checked_input(x, f"Model {self.name!r}")
        x = samples.adopted(self._runner, x)
        if y is None:
            if sample_weight is not None:
                raise ValueError("sample_weight weighs the loss: it needs y. Multiply it into output_gradients.")
            features, shape = samples.features(self._runner, x, self._known_input_shape())
            held = calls.seeded(self._runner, self._built_for(shape), features, output_gradients)
            loss = None
        else:
            if output_gradients is not None:
                raise ValueError("With y the gradient by the outputs is the loss's: output_gradients must be None.")
            loss, _ = self._need_compiled("gradients of the loss")
            given = (x, y, sample_weight)
            held, shape = samples.dataset(self._runner, self._known_input_shape(), given, None, loss)
            loss = self._judge(loss, held, shape).loss
        trains = [weight.trainable and self._trainable for weight in self.weights]
        found = calls.gradients(self._runner, held, loss, trains, bool(training))
        return found._replace(inputs=found.inputs.reshape(data.to_array("x", x).shape))

    def _apply(self, given: Sequence[tuple[Weight, object]]) -> None:
        """Do a step by pairs of a trainable weight and its gradient, for `Optimizer.apply`; others get no update.

        ValueError, and no change, for what is no trainable weight of the model, and for gradients of other shapes.
        """
        grads: list[calls.Array | None] = [None] * len(self.weights)
        for place, (variable, value) in zip(self._places([v for v, _ in given]), given, strict=True):
            name = f"The gradient by {variable.path!r}"
            grads[place] = grad = data.to_array(name, samples.adopted(self._runner, value))
            if grad.shape != variable.shape:
                raise ValueError(f"{name} must have its shape, {variable.shape}; got {grad.shape}.")
        calls.apply(self, grads)

    def _make_state(self, variables: Sequence[object]) -> None:
        """Have the optimizer's state be there, for `Optimizer.build`; ValueError as for a step."""
        self._places(variables)
        together([self._runner], lambda: calls.state_of(self), brief=True)

    def _take_averages(self, variables: Sequence[object]) -> None:
        """Have the averages of trainable weights be these, for `Optimizer.finalize_variable_values`."""
        places = self._places(variables)
        trains = [i in places for i in range(len(self.weights))]
        together([self._runner], lambda: loop.take_averages(self._runner, self.optimizer, trains), brief=True)

    def _places(self, variables: Sequence[object]) -> list[int]:
        """Return where trainable weights are among all; ValueError where they are none, or one comes twice."""
        if not self.built:
            raise ValueError("The model has no weights yet: build it, or call it on data, first.")
        weights, trainable = self.weights, self.trainable_weights  # whose ids hold while they are here
        known, trained = {id(weight): i for i, weight in enumerate(weights)}, {id(weight) for weight in trainable}
        for variable in variables:
            if id(variable) not in trained:
                what = (
                    getattr(variable, "path", None)
                    or f"a {type(variable).__name__} of shape {np.asarray(variable).shape}"
                )
                why = "does not train" if id(variable) in known else "is none of the model's weights"
                raise ValueError(
                    f"Unknown variable: {what} {why}. The optimizer is that of {self.name!r}, which was compiled with "
                    "it: it takes model.trainable_weights, or some of them. Use a new optimizer for others."
                )
        places = [known[id(variable)] for variable in variables]
        if len(set(places)) < len(places):
            raise ValueError("There must be one gradient for each variable; one of them comes twice.")
        return places

    def jacobian(self, x: object) -> Any:
        """Return the slopes of each output by each input of its sample.

        Parameters
        ----------
        x : array [n, *sample]
            Samples.

        Returns
        -------
        array [n, *output, *sample]
            Of a pass back for each output.
        """
        calls.checked_input(x, f"Model {self.name!r}")
        features, shape = samples.features(self._runner, x, self._known_input_shape())
        outputs = self._built_for(shape).output_shape
        return calls.jacobian(self._runner, features).reshape((len(features), *outputs, *shape))
