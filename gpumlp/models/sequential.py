"""Sequential: what a person builds, trains and asks."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike

from gpumlp import losses, optimizers
from gpumlp.attributes import refuse_overrides
from gpumlp.callbacks import CallbackList, History
from gpumlp.distributed.agreement import agreed, failing_together
from gpumlp.engine.dispatch import Choice
from gpumlp.engine.feed import Dataset
from gpumlp.engine.network import Network
from gpumlp.layers import Layer, Shape
from gpumlp.models import alike, configs, state
from gpumlp.models.asked import Asked
from gpumlp.models.fitting import HeldOut, Job, job
from gpumlp.naming import flag
from gpumlp.signatures import named
from gpumlp.training import again, data, loop, predicting, samples
from gpumlp.training.blocks import cut
from gpumlp.training.results import Objective
from gpumlp.training.streams import Source, joined

Verbose: TypeAlias = Literal["auto", 0, 1, 2] | int | str


class Sequential(Asked):
    """A stack of layers with ``compile``, ``fit``, ``evaluate`` and ``predict``, as in Keras.

    Layers own their weights: a model made of another one's layers has their weights, and training either is seen by
    both. A model can be used by several threads; they take turns, a stretch of steps at a time.

    Parameters
    ----------
    layers : list of Layer, optional
        In order; `Input(shape=...)` may come first. Without an input shape the model is built by the first call that
        has data. A model can be one of the layers.
    trainable : bool
        Whether training changes anything.
    name : str, optional
        Made of the class's when None.
    dtype : {"float32", "float64"}, optional
        Of weights and arithmetic; ``gpumlp.config.floatx()`` when None.

    Raises
    ------
    TypeError, ValueError
        For what is no layer, and for layers that do not fit on each other.

    Examples
    --------
    >>> import gpumlp
    >>> import numpy as np
    >>> gpumlp.utils.set_random_seed(0)
    >>> x = np.linspace(0.0, 6.0, 200)[:, None]
    >>> model = gpumlp.Sequential(
    ...     [gpumlp.layers.Dense(32, "tanh", input_shape=(1,)), gpumlp.layers.Dense(1)],
    ...     name="sine",
    ... )
    >>> model.compile("adam", "mse")
    >>> history = model.fit(x, np.sin(x), epochs=300, verbose=0)
    >>> model
    <Sequential sine: 2 layers, 97 parameters, compiled with Adam, mean_squared_error>
    >>> model.evaluate(x, np.sin(x), verbose=0) < 0.1
    True
    """

    unread: ClassVar = {
        **dict.fromkeys(("lr", "learning_rate"), "Use model.optimizer.learning_rate."),
        **dict.fromkeys(("loss", "metrics", "weighted_metrics", "loss_weights"), "Call compile again."),
        "dtype_policy": "Sequential(layers, dtype=...) chooses.",
        "autocast": "There is one dtype in a model.",
        "supports_masking": "There are no masks.",
        "distribute_strategy": "A model is on one device.",
        **dict.fromkeys(
            ("train_step", "test_step", "predict_step", "call", "compute_loss", "train_function"),
            "Own steps are not there.",
        ),
    }
    checks: ClassVar = {"run_eagerly": functools.partial(flag, "run_eagerly")}

    def __init__(
        self, layers: Iterable[Layer] | None = None, trainable: bool = True, name: str | None = None, *,
        dtype: object = None,
    ) -> None:  # fmt: skip
        own = ("train_step", "test_step", "predict_step", "call", "__call__", "compute_loss", "make_train_function")
        refuse_overrides(type(self), own, "Callbacks see every step; own steps are not there yet.")
        self.stop_training = self.stop_evaluating = self.stop_predicting = False
        super().__init__(layers, trainable, name, dtype=dtype)

    # ---- fit, evaluate, predict ------------------------------------------------------------------------------------

    def _source(
        self, given: tuple[object, object, object], class_weight: Mapping[int, float] | None, loss: losses.Loss,
        pace: tuple[int | None, int | None, bool], prefix: str = "",
    ) -> tuple[Source, Shape]:  # fmt: skip
        if self._runner.network is None and not self.layers:
            raise ValueError("The model has no layers: add one first.")
        shape = self._known_input_shape()
        source, found = samples.source(self._runner, shape, given, class_weight, loss, pace, prefix)
        assert found is not None
        return source, found

    def _held(
        self, given: tuple[object, object, object], class_weight: Mapping[int, float] | None, loss: losses.Loss
    ) -> tuple[Dataset, Shape]:
        """Return what is to be one batch, and the shape of one sample."""
        if self._runner.network is None and not self.layers:
            raise ValueError("The model has no layers: add one first.")
        return samples.dataset(self._runner, self._known_input_shape(), given, class_weight, loss)

    def _judge(self, loss: losses.Loss, held: Dataset | None, shape: Shape) -> Objective:
        assert held is not None and held.y is not None
        network, known = self._built_for(shape), self._objective
        of = network, loss, self._metric_names, held.y.shape[1], self._runner.runtime
        if known is None or known.of != of:
            self._objective = known = samples.objective(self._runner, network, loss, self._metric_names, held)
            known.of = of if known.lasts else None
        return known

    def _trainee(
        self, source: Source, shape: Shape, epochs: int, callbacks: CallbackList,
        validation: loop.Validation | None = None,
    ) -> loop.Trainee:  # fmt: skip
        """Return the model as the loop trains it."""
        loss, optimizer = self._need_compiled("fit", training=True)
        objective = self._judge(loss, source.sample, shape)
        choice = self._choice(source, objective, optimizer)
        return loop.Trainee(self, self._runner, source, objective, optimizer, choice, callbacks, validation)

    def _choice(self, source: Source, objective: Objective, optimizer: optimizers.Optimizer | None = None) -> Choice:
        assert source.sample is not None
        return self._runner.ask(objective.judged(source.sample, optimizer))

    def _agreed(
        self, what: str, held: Dataset | None, shape: Shape, loss: losses.Loss,
        optimizer: optimizers.Optimizer | None = None, batches: Mapping[str, object] | None = None,
    ) -> tuple[Objective, Choice]:  # fmt: skip
        """Return what data are judged by, and by what kernels; over ranks once all are about to do the same."""

        def prepared() -> tuple[Objective, Choice]:
            objective = self._judge(loss, held, shape)
            assert held is not None
            return objective, self._runner.ask(objective.judged(held, optimizer))

        def described(found: tuple[Objective, Choice]) -> dict[str, object]:
            assert held is not None
            return alike.of_model(self, found[1]) | alike.of_data(held) | dict(batches or {})

        return agreed(self.distributed, what, prepared, described)

    @named
    def fit(
        self,
        x: object = None,
        y: object = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Verbose = "auto",
        callbacks: object = None,
        validation_split: float = 0.0,
        validation_data: object = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: object = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
    ) -> History:
        """Train. Nothing is changed before all arguments are checked.

        Ctrl-C ends training between two steps: the model keeps its weights, ``model.history`` the epochs done.

        Parameters
        ----------
        x : array [n, *sample], or what gives batches
            A generator, `utils.PyDataset`, data loader or any other iterable gives ``(x, y)`` or ``(x, y,
            sample_weight)``, and takes the place of ``y``, ``sample_weight`` and ``batch_size``, which is not looked
            at. Batches are read while the model trains; none before its epoch, but for the first, to know shapes by.
        y : array [n] or [n, *output], optional
            Targets; for a sparse loss class numbers.
        batch_size : int, optional
            How many samples make a step; 32 when None.
        epochs : int
            The number of the last epoch: how often all samples are gone through, where ``initial_epoch`` is 0.
        verbose : {"auto", 0, 1, 2}
            Nothing (0), a line that grows (1, "auto") or one line an epoch (2).
        callbacks : Callback or list of these, optional
            What looks on, and may stop: see `gpumlp.callbacks`.
        validation_split : float
            From 0 to below 1: the last share of x and y that is held out, before shuffling.
        validation_data : tuple ``(x, y)`` or ``(x, y, sample_weight)``, or what gives such batches, optional
            What is evaluated at an epoch's end, and never trained on.
        shuffle : bool
            Whether samples come in another order in each epoch.
        class_weight : dict of float by class number, optional
            What a class's samples count in the loss, times ``sample_weight``.
        sample_weight : array [n], optional
            What a sample counts in the loss.
        initial_epoch : int
            The first epoch, from 0: training goes on as if there had been so many.
        steps_per_epoch : int, optional
            All batches when None.
        validation_steps : int, optional
            All batches of ``validation_data`` when None.
        validation_batch_size : int, optional
            ``batch_size`` when None.
        validation_freq : int or list of int
            After every how many epochs there is a validation; or the epochs, from 1.

        Returns
        -------
        History
            Its ``history`` has lists by name, such as "loss" and "val_loss", one number an epoch.

        Raises
        ------
        TypeError, ValueError
            For data that is no numbers, does not fit the model, or has arguments that contradict it.
        """
        hooks = CallbackList(callbacks, add_history=True, add_progbar=verbosity(verbose) != 0)
        held_out = HeldOut(validation_data, validation_split, validation_batch_size, validation_steps, validation_freq)
        pace = batch_size, steps_per_epoch, bool(shuffle)

        def prepared() -> tuple[Job, loop.Trainee]:
            found = job(self, (x, y, sample_weight), class_weight, pace, (initial_epoch, epochs), held_out)
            return found, self._trainee(found.source, found.shape, len(found.epochs), hooks, found.validation)

        ranks = self.distributed
        found, trainee = agreed(
            ranks, "train", prepared, lambda both: alike.of_fit(self, both[0], both[1].choice, bool(shuffle))
        )
        self.stop_training = False
        hooks.set_model(self)
        hooks.set_params({"epochs": found.epochs.stop, "steps": found.source.steps, "verbose": verbose})
        with failing_together(ranks):
            loop.fit([trainee], found.epochs)
        assert hooks.history is not None
        return hooks.history

    def _whole(self, position: Mapping[str, object]) -> dict[str, object]:
        """Return what the model's training goes on from; ``position``: where it is in its data."""
        return state.whole(self, position=position, config=False)

    def _made_of(self, objective: Objective) -> dict[str, str]:
        """Return what training goes on with alone, in words: see `configs.made_of`."""
        return configs.made_of(self, objective.loss, objective.metrics)

    def _restore(self, found: Mapping[str, object], what: str) -> None:
        """Have the model be what `_whole` has described; ValueError, and no change, where it does not fit."""
        state.restore(self, found, what)

    @named
    def evaluate(
        self,
        x: object = None,
        y: object = None,
        batch_size: int | None = None,
        verbose: Verbose = "auto",
        sample_weight: object = None,
        steps: int | None = None,
        callbacks: object = None,
        return_dict: bool = False,
    ) -> Any:
        """Return the loss and the metrics, the means over all samples, without training.

        Parameters
        ----------
        x : array [n, *sample], or what gives batches
            As in `fit`.
        y : array, optional
            Targets.
        batch_size : int, optional
            How many samples are computed at once; 32 when None.
        verbose : {"auto", 0, 1, 2}
            Nothing (0), a line that grows (1, "auto") or a line at the end (2).
        sample_weight : array [n], optional
            What a sample counts in the loss, and in weighted metrics.
        steps : int, optional
            How many batches; all when None.
        callbacks : Callback or list of these, optional
            What looks on.
        return_dict : bool
            Whether what is returned has names.

        Returns
        -------
        float, list of float, or dict
            The loss; with metrics the loss and these, in the order of ``compile``, or by name.

        Raises
        ------
        TypeError, ValueError
            As `fit`.
        """
        loss, _ = self._need_compiled("evaluate")
        if batch_size is None and steps is None and callbacks is None and verbose == 0 and _few(x):
            return self.test_on_batch(x, y, sample_weight, return_dict)
        source, shape = self._source((x, y, sample_weight), None, loss, (batch_size, steps, False))
        return self._evaluated(source, shape, self._hooks(callbacks, verbose, source.steps), return_dict)

    def _evaluated(self, source: Source, shape: Shape, hooks: CallbackList, return_dict: bool) -> Any:
        loss, _ = self._need_compiled("evaluate")
        batches = {"the batch size": source.batch, "the number of steps": source.steps}
        objective, choice = self._agreed("evaluate", source.sample, shape, loss, batches=batches)
        self.stop_evaluating = False
        with failing_together(self.distributed):
            logs = loop.evaluate(self._runner, source, objective, choice, hooks)
        self._results = dict(logs)
        return result(logs, objective, return_dict)

    @overload
    def predict(
        self, x: ArrayLike, batch_size: int | None = None, verbose: Verbose = "auto", steps: int | None = None,
        callbacks: object = None,
    ) -> np.ndarray: ...  # fmt: skip

    @overload  # CuPy's arrays, which come back as such, frames, and what gives batches
    def predict(
        self, x: object, batch_size: int | None = None, verbose: Verbose = "auto", steps: int | None = None,
        callbacks: object = None,
    ) -> Any: ...  # fmt: skip

    @named
    def predict(
        self,
        x: object,
        batch_size: int | None = None,
        verbose: Verbose = "auto",
        steps: int | None = None,
        callbacks: object = None,
    ) -> Any:
        """Return the predictions for samples.

        Parameters
        ----------
        x : array [n, *sample], or what gives batches of such
            One sample ``s`` is ``s[None]``.
        batch_size : int, optional
            How many samples are computed at once; as many as are fast when None.
        verbose : {"auto", 0, 1, 2}
            Nothing (0), or a line that shows the progress.
        steps : int, optional
            How many batches; all when None.
        callbacks : Callback or list of these, optional
            What looks on.

        Returns
        -------
        array [n, *output]
            On the GPU if ``x`` is, else NumPy's.

        Raises
        ------
        TypeError, ValueError
            For what is no array of numbers, or of another shape than the model takes.
        """
        runner = self._runner
        alone = batch_size is None and steps is None and callbacks is None and verbose == 0
        if alone and not self.stop_predicting and (found := again.predict(self, x)) is not None:
            return found
        x, *_ = cut((x, None, None), runner.dtype, False)
        if data.gives_batches(x):
            return self._predict_batches(x, batch_size, verbose, steps, callbacks)
        features, shape = samples.features(runner, x, self._known_input_shape())
        network = self._built_for(shape)
        if alone and len(features) <= (piece := runner.predicting(data.DEFAULT_BATCH)):
            return self._predicted_at_once(features, network, piece)
        batches = data.Batches(len(features), batch_size, steps, False)
        features = features[: batches.steps * batches.batch_size]
        hooks = self._hooks(callbacks, verbose, batches.steps)
        out = self._room(features, network)
        choice = runner.ask()
        self.stop_predicting = False
        out = out[: predicting.predict(runner, features, out, batches.batch_size, choice, hooks)]
        return self._of_shape(out, network)

    def _predicted_at_once(self, x: Any, network: Network, piece: int) -> Any:
        """Return the predictions for x[n, F], at most ``piece`` samples, while nobody looks on."""
        out, choice = self._room(x, network), self._runner.ask()
        if self.stop_predicting:
            self.stop_predicting = False
        predicting.predict_at_once(self._runner, x, out, piece, choice)
        return self._of_shape(out, network)

    def _room(self, x: Any, network: Network) -> Any:
        """Return an array for the predictions for x[n, F], where that is."""
        shape, dtype = (len(x), network.sizes[-1]), self._runner.dtype
        return self._runner.backend.empty(shape, dtype) if data.on_gpu(x) else np.empty(shape, dtype)

    @staticmethod
    def _of_shape(out: Any, network: Network) -> Any:
        """Return predictions as the model's last layer has them."""
        return out if len(network.output_shape) == 1 else out.reshape((len(out), *network.output_shape))

    def _predict_batches(
        self, x: object, size: int | None, verbose: object, steps: int | None, callbacks: object
    ) -> Any:
        source, shape = samples.unlabelled(self._runner, x, self._known_input_shape(), size, steps)
        return self._predicted(source, shape, self._hooks(callbacks, verbose, source.steps))

    def _predicted(self, source: Source, shape: Shape, hooks: CallbackList) -> Any:
        runner, network = self._runner, self._built_for(shape)
        choice = runner.ask()
        self.stop_predicting = False
        parts = predicting.predict_batches(runner, source, choice, hooks)
        return joined(parts).reshape(-1, *network.output_shape)

    def _hooks(self, callbacks: object, verbose: object, steps: int | None) -> CallbackList:
        level = verbosity(verbose)
        return CallbackList(callbacks, add_progbar=level != 0, model=self, epochs=1, steps=steps, verbose=level)

    @named
    def train_on_batch(
        self,
        x: object,
        y: object = None,
        sample_weight: object = None,
        class_weight: dict[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Run one training step on all samples as one batch.

        Parameters
        ----------
        x : array [n, *sample]
            Inputs.
        y : array
            Targets.
        sample_weight : array [n], optional
            What a sample counts in the loss.
        class_weight : dict of float by class number, optional
            What a class's samples count, times that.
        return_dict : bool
            Whether what is returned has names.

        Returns
        -------
        float, list of float, or dict
            What `evaluate` returns, from before the step.
        """
        loss, optimizer = self._need_compiled("train_on_batch", training=True)
        if sample_weight is None and class_weight is None and (found := again.step(self, x, y, optimizer)) is not None:
            return self._reported(*found, return_dict)
        held, shape = self._held((x, y, sample_weight), class_weight, loss)
        objective, choice = self._agreed("train on a batch", held, shape, loss, optimizer)
        logs = loop.step(self, held, objective, optimizer, choice)
        if held.weights is None:
            again.plan(self, x, y, objective, choice, optimizer)
        return self._reported(logs, objective, return_dict)

    @named
    def test_on_batch(
        self, x: object, y: object = None, sample_weight: object = None, return_dict: bool = False
    ) -> Any:
        """Return what `evaluate` returns, with all samples as one batch.

        Parameters
        ----------
        x : array [n, *sample]
            Inputs.
        y : array
            Targets.
        sample_weight : array [n], optional
            What a sample counts in the loss, and in weighted metrics.
        return_dict : bool
            Whether what is returned has names.

        Returns
        -------
        float, list of float, or dict
        """
        loss, _ = self._need_compiled("evaluate")
        if sample_weight is None and (found := again.step(self, x, y)) is not None:
            return self._reported(*found, return_dict)
        held, shape = self._held((x, y, sample_weight), None, loss)
        objective, choice = self._agreed("evaluate a batch", held, shape, loss)
        logs = loop.judge(self._runner, held, objective, choice)
        if sample_weight is None:
            again.plan(self, x, y, objective, choice)
        return self._reported(logs, objective, return_dict)

    def _reported(self, logs: dict[str, Any], objective: Objective, return_dict: bool) -> Any:
        """Return the results of a batch, which are the last ones."""
        self._results = logs
        return result(logs, objective, return_dict)

    @named
    def predict_on_batch(self, x: object) -> Any:
        """Return the predictions for all samples as one batch, and show nothing.

        Parameters
        ----------
        x : array [n, *sample]
            Inputs.

        Returns
        -------
        array [n, *output]
        """
        return self.predict(x, None if _few(x) else self._rows(x), 0)

    def _rows(self, x: object) -> int:
        """Return the number of samples, 1 at least; TypeError for what gives batches."""
        return max(len(data.to_array("x", samples.adopted(self._runner, samples.only(self._runner, x)))), 1)


def _few(x: object) -> bool:
    """Whether ``x`` is an array of no more samples than make a batch where nothing else is said."""
    return type(x) is np.ndarray and 0 < len(x) <= data.DEFAULT_BATCH if getattr(x, "ndim", 0) else False


def result(logs: dict[str, Any], objective: Objective, as_dict: bool) -> Any:
    if len(logs) == 1 and not as_dict:
        return logs["loss"]
    names = [name for name in objective.names if name in logs]
    values = [logs[name] for name in (*names, *(name for name in logs if name not in names))]
    return dict(logs) if as_dict else values[0] if len(values) == 1 else values


def verbosity(value: object) -> int:
    """Return how much is shown: 0, 1 or 2."""
    if value == "auto":
        return 1
    for level in (0, 1, 2):
        if value == level:
            return level
    raise ValueError(f"verbose must be 0, 1, 2 or 'auto'; got {value!r}.")
