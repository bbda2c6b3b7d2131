"""Sequential: what a person builds, trains and asks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import numpy as np

from gpumlp import config, devices, losses, metrics, optimizers
from gpumlp.callbacks import Callback, CallbackList, History, ProgbarLogger
from gpumlp.engine.arena import Arena
from gpumlp.engine.dispatch import LONG, make_program, numpy_seconds
from gpumlp.engine.feed import Dataset
from gpumlp.engine.network import Network, describe
from gpumlp.layers import Input, Layer, Shape, feature_shape, whole_number
from gpumlp.training import data, loop


class Sequential:
    """A stack of layers with ``compile``, ``fit``, ``evaluate`` and ``predict``, as in Keras.

    Parameters
    ----------
    layers : list of Layer, optional
        In order; `Input(shape=...)` may come first. Without an input shape the model is built by the first ``fit``.
    name : str, optional
    dtype : {"float32", "float64"}, optional
        Of weights and arithmetic; ``gpumlp.config.floatx()`` when None.
    """

    def __init__(
        self, layers: Iterable[Layer] | None = None, name: str | None = None, dtype: str | None = None
    ) -> None:
        self.name = name or "sequential"
        self.dtype = config.float_type(dtype)
        self.stop_training = False
        self.history: History | None = None
        self.optimizer: optimizers.Optimizer | None = None
        self._layers: list[Layer] = []
        self._network: Network | None = None
        self._arena: Arena | None = None
        self._program: Any = None
        self._asked = 0.0  # seconds of work asked for since compile, as NumPy would need
        self._slots: dict[str, Any] | None = None
        self._loss: losses.Loss | None = None
        self._metric_names: list[tuple[object, bool]] = []
        self._device: devices.Device | None = None
        self._backend: Any = None
        stack: list[Layer] = []
        for layer in layers or ():
            stack = self._extended(stack, layer)
        self._restack(stack)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_program": None}  # addresses, threads, machine code: a copy makes its own

    # ---- the stack -------------------------------------------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers, without the Input."""
        return [layer for layer in self._layers if not isinstance(layer, Input)]

    @property
    def built(self) -> bool:
        """Whether the input shape is known and the weights exist."""
        return self._arena is not None

    def add(self, layer: Layer) -> None:
        """Put a layer on top; TypeError for anything else, ValueError where it does not fit."""
        self._restack(self._extended(self._layers, layer))

    def _extended(self, stack: list[Layer], layer: Layer) -> list[Layer]:
        """Return ``stack`` with ``layer`` on top; raises as `add` does, before anything is changed."""
        if not isinstance(layer, Layer):
            raise TypeError(f"add takes a layer such as layers.Dense(8); got {layer!r}.")
        if isinstance(layer, Input) and stack:
            raise ValueError("Input must be the first layer.")
        if any(layer.name == other.name for other in stack):
            raise ValueError(f"There is a layer named {layer.name!r} already; names must differ.")
        stack = [*stack, layer]
        if (shape := self._known_input_shape(stack)) is not None:
            describe(stack, shape)
        return stack

    def pop(self) -> Layer:
        """Take the top layer off and return it."""
        if not self.layers:
            raise ValueError("There is no layer to pop.")
        top = self._layers[-1]
        self._restack(self._layers[:-1])
        return top

    def _known_input_shape(self, stack: list[Layer]) -> Shape | None:
        return self._network.input_shape if self._network else stack[0].input_shape if stack else None

    def _restack(self, stack: list[Layer]) -> None:
        """Take ``stack``, which differs from the old one at the top: the layers below keep their weights."""
        shape, old = self._known_input_shape(stack), [] if self._arena is None else self._arena.get()
        made = None if shape is None else self._made(stack, shape, old)
        self._layers = stack
        self._network, self._arena = made or (None, None)
        self._program = self._slots = None

    def build(self, input_shape: object = None) -> None:
        """Create the weights for samples of ``input_shape``; a leading None, the batch, is dropped.

        ValueError if the model is built for another shape already.
        """
        if isinstance(input_shape, (tuple, list)) and input_shape and input_shape[0] is None:
            input_shape = tuple(input_shape[1:])
        if input_shape is None:
            input_shape = self._layers[0].input_shape if self._layers else None
        shape = feature_shape(input_shape)
        known = self._known_input_shape(self._layers)
        if known is not None and known != shape:
            raise ValueError(f"The model takes samples of shape {known}; it cannot be built for {shape} as well.")
        if not self.built:
            self._build(shape)

    def _build(self, shape: Shape) -> None:
        if made := self._made(self._layers, shape, []):
            self._network, self._arena = made

    def _made(self, stack: list[Layer], shape: Shape, old: list[np.ndarray]) -> tuple[Network, Arena] | None:
        """Return the Network and the weights of ``stack``, the first ones taken from ``old``; None without layers."""
        if all(isinstance(layer, Input) for layer in stack):
            return None
        network = describe(stack, shape)
        arena = Arena(list(network.weights), self.dtype, self._backend)  # on the host until the device is chosen
        kept = [old[i] if i < len(old) else s.initializer(s.shape, self.dtype) for i, s in enumerate(arena.specs)]
        arena.set(kept)
        return network, arena

    def _computing(self) -> Any:
        """Return the device's backend, made when something is first computed; the weights move to it."""
        if self._backend is None:
            device = self.device
            backend = device.backend()
            if self._arena is not None:
                arena = Arena(self._arena.specs, self.dtype, backend)
                arena.set(self._arena.get())
                self._arena = arena
            self._device, self._backend = device, backend
        return self._backend

    def _on_device(self) -> Any:
        """Return a context in which libraries that have a current device have the model's."""
        runtime = getattr(self._computing(), "runtime", None)
        return nullcontext() if runtime is None else runtime.current()

    def _need_built(self, what: str) -> tuple[Network, Arena]:
        if self._network is None or self._arena is None:
            raise ValueError(
                f"{what} needs a built model. Give the first layer input_shape=, or call build or fit first."
            )
        return self._network, self._arena

    # ---- weights ---------------------------------------------------------------------------------------------------

    def count_params(self) -> int:
        """Return the number of weights."""
        return sum(math.prod(s.shape) for s in self._need_built("count_params")[0].weights)

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of all weight arrays: layer by layer, kernel then bias."""
        return self._need_built("get_weights")[1].get()

    def set_weights(self, weights: list[Any]) -> None:
        """Set all weight arrays, in the order of ``get_weights``; ValueError, and no change, where a shape differs."""
        network, _ = self._need_built("set_weights")
        if not isinstance(weights, (list, tuple)):
            raise TypeError(f"set_weights takes a list of arrays, as get_weights returns; got {weights!r}.")
        arrays = [data.to_array("each weight array", self._on_host(w)) for w in weights]
        got, expected = [a.shape for a in arrays], [s.shape for s in network.weights]
        if got != expected:
            raise ValueError(f"set_weights expects arrays of shapes {expected}; got {got}.")
        self._need_built("set_weights")[1].set(arrays)  # which a look at arrays on a GPU may have moved there

    def summary(self, print_fn: Any = None) -> None:
        """Print a table of the layers, their output shapes and parameter counts."""
        from gpumlp.summary import summarize

        (print_fn or print)(summarize(self.name, self.layers, self._network, self.dtype))

    # ---- compile, fit, evaluate, predict ---------------------------------------------------------------------------

    def compile(
        self,
        optimizer: object = "rmsprop",
        loss: object = None,
        metrics: Iterable[object] | None = None,
        weighted_metrics: Iterable[object] | None = None,
        device: str | None = None,
    ) -> None:
        """Choose optimizer, loss, metrics and device; the weights stay, the optimizer starts anew.

        ``device`` is "auto", "cpu", "cuda" or "cuda:N"; None means GPUMLP_DEVICE, then "auto". DeviceUnavailable, a
        RuntimeError, where it cannot be used.
        """
        new_optimizer = optimizers.get(optimizer)
        if loss is None:
            raise ValueError("compile needs a loss, such as loss='mse'.")
        new_loss = losses.get(loss)
        names = [(m, False) for m in _listed(metrics)] + [(m, True) for m in _listed(weighted_metrics)]
        for name, weighted in names:
            _check_metric(name, new_loss, weighted)
        new_device = devices.resolve(device, self.dtype.name)
        if self._device is None or (new_device.name, new_device.kernels) != (self._device.name, self._device.kernels):
            self._backend = None  # the weights move when something is computed
        self.optimizer, self._loss, self._metric_names, self._device = new_optimizer, new_loss, names, new_device
        self._program, self._slots, self._asked = None, None, 0.0
        if self._network is not None:  # trainable flags are read here
            self._network = describe(self._layers, self._network.input_shape)

    @property
    def device(self) -> devices.Device:
        """The device that the model runs on, and why."""
        return self._device or devices.resolve(None, self.dtype.name)

    @property
    def program(self) -> str:
        """How the steps are run on the device, and why so; known once something has run."""
        return "nothing has run yet" if self._program is None else self._program.describe()

    def _need_compiled(self, what: str) -> tuple[losses.Loss, optimizers.Optimizer]:
        if self._loss is None or self.optimizer is None:
            raise ValueError(f"{what} needs a compiled model: call model.compile(loss='mse', optimizer='adam') first.")
        return self._loss, self.optimizer

    def _program_for(self, batch: int, steps: int = 1, training: bool = False) -> Any:
        """Return a Program for ``batch`` samples; ``steps`` are asked of it, and long work may change which."""
        self._computing()
        network, arena = self._need_built("this")
        kernels, grown = self.device.kernels, False
        if kernels == "auto" and self._asked < LONG:
            self._asked += steps * numpy_seconds(network, batch, training)
            grown = self._asked >= LONG
        if self._program is None or self._program.batch < batch or grown:
            most = max(batch, 0 if self._program is None else self._program.batch)
            self._program = None  # its memory is free before the new one asks for more
            self._program = make_program(network, arena, most, kernels, self._asked)
        return self._program

    def _trainer(self, shape: Shape, batch: int, steps: int) -> tuple[Any, dict[str, Any]]:
        """Return a Program for ``batch`` samples of ``shape`` and the optimizer's state, made where they lack."""
        assert self.optimizer is not None
        self._computing()
        if not self.built:
            self._build(shape)
        if self._slots is None:
            assert self._arena is not None
            self._slots = {name: self._arena.zeros() for name in self.optimizer.slots}
        return self._program_for(batch, steps, training=True), self._slots

    def _trainee(self, train: Dataset, shape: Shape, batches: data.Batches, epochs: int, most: int = 0) -> loop.Trainee:
        """Return the model as the loop trains it, with a Program for ``most`` samples at least."""
        loss, optimizer = self._need_compiled("fit")
        program, slots = self._trainer(shape, max(batches.batch_size, most), batches.steps * epochs)
        return loop.Trainee(program, train, batches, self._objective(loss, train), optimizer, slots)

    def _objective(self, loss: losses.Loss, dataset: Dataset) -> loop.Objective:
        network, _ = self._need_built("this")
        assert dataset.y is not None
        given, width = dataset.y.shape[1], math.prod(network.output_shape)
        found = [metrics.get(m, loss, given, width, w) for m, w in self._metric_names]
        if getattr(self._computing(), "runtime", None) is not None:
            for metric in found:  # NumPy repeats a single number for every output; the GPU's kernels would read past it
                takes = 1 if isinstance(metric, metrics.SparseCategoricalAccuracy) else width
                if given != takes:
                    raise ValueError(
                        f"The metric {metric.name!r} takes targets of {takes} per sample on a GPU; y has {given}. "
                        "Choose another metric, or device='cpu'."
                    )
        return loop.Objective(loss, found)

    def _adopted(self, value: object) -> Any:
        """Return an array that is on the model's GPU uncopied, as the model takes it; other values as they are."""
        if isinstance(value, np.ndarray) and not data.on_gpu(value):
            return value
        runtime = getattr(self._computing(), "runtime", None)
        if runtime is None and data.on_gpu(value):
            raise TypeError(
                f"The data is on a GPU, and the model computes on the CPU ({self.device.reason}). "
                "Copy it to the host (cupy.asnumpy), or compile the model with device='cuda'."
            )
        adopted = None if runtime is None else runtime.adopt(value)
        return value if adopted is None else adopted

    def _on_host(self, value: object) -> Any:
        """Return an array that is on the model's GPU as NumPy's; other values as they are."""
        return self._computing().to_host(self._adopted(value)) if data.on_gpu(value) else value

    def _prepare(
        self, x: object, y: object, weight: object, class_weight: Any, loss: losses.Loss, prefix: str = ""
    ) -> tuple[Dataset, Shape]:
        if y is None:
            raise ValueError(f"{prefix}y is missing: training and evaluation need targets.")
        with self._on_device():
            return self._prepared(x, y, weight, class_weight, loss, prefix)

    def _prepared(
        self, x: object, y: object, weight: object, class_weight: Any, loss: losses.Loss, prefix: str
    ) -> tuple[Dataset, Shape]:
        x, y, weight = self._adopted(x), self._adopted(y), self._adopted(weight)
        shape = self._network.input_shape if self._network else None
        features, got = data.features(f"{prefix}x", x, shape, self.dtype)
        data.same_length(**{f"{prefix}x": features, f"{prefix}y": data.to_array(f"{prefix}y", y)})
        if not self.layers:
            raise ValueError("The model has no layers: add one first.")
        network = self._network or describe(self._layers, got)
        targets = data.targets(f"{prefix}y", y, math.prod(network.output_shape), loss, self.dtype)
        return Dataset(features, targets, data.sample_weights(weight, class_weight, targets, loss)), got

    def fit(
        self,
        x: object = None,
        y: object = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: object = "auto",
        callbacks: Iterable[Callback] | Callback | None = None,
        validation_split: float = 0.0,
        validation_data: tuple[Any, ...] | None = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: object = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
    ) -> History:
        """Train, and return the History; arguments as in Keras. Nothing is changed before all of them are checked.

        Ctrl-C ends training after the step under way: the model keeps its weights, ``model.history`` the epochs done.
        """
        loss, _ = self._need_compiled("fit")
        epochs = whole_number("epochs", epochs)
        initial_epoch = whole_number("initial_epoch", initial_epoch, 0)
        validation_freq = whole_number("validation_freq", validation_freq)
        level = verbosity(verbose)
        hooks = _callback_list(callbacks)
        if not isinstance(validation_split, (int, float)) or not 0.0 <= validation_split < 1.0:
            raise ValueError(f"validation_split must lie in [0, 1); got {validation_split!r}.")
        if validation_split and validation_data is None:
            x, y, sample_weight = self._adopted(x), self._adopted(y), self._adopted(sample_weight)
            data.same_length(x=data.to_array("x", x), y=data.to_array("y", y))
            (x, val_x), (y, val_y) = data.split(x, validation_split), data.split(y, validation_split)
            sample_weight, val_w = data.split(sample_weight, validation_split)
            validation_data = (val_x, val_y, val_w)
        train, shape = self._prepare(x, y, sample_weight, class_weight, loss)
        batches = data.Batches(len(train), batch_size, steps_per_epoch, bool(shuffle))
        held_out: Dataset | None = None
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                raise ValueError("validation_data must be (x, y) or (x, y, sample_weight).")
            vx, vy, vw = (*validation_data, None)[:3]
            held_out, val_shape = self._prepare(vx, vy, vw, None, loss, "validation ")
            if val_shape != shape:
                raise ValueError(f"validation x has samples of shape {val_shape}, x of shape {shape}.")
            val_batches = data.Batches(
                len(held_out),
                batch_size if validation_batch_size is None else validation_batch_size,
                validation_steps,
                False,
            )

        most = val_batches.batch_size if held_out else 0
        trainee = self._trainee(train, shape, batches, max(epochs - initial_epoch, 0), most)
        self.history, self.stop_training = History(), False
        params = {"epochs": epochs, "steps": batches.steps, "verbose": level}
        shown = [ProgbarLogger(level)] if level else []
        everything = CallbackList([self.history, *hooks, *shown], self, params)

        def close(epoch: int, averages: list[dict[str, float]]) -> dict[str, float]:
            (logs,) = averages
            if held_out is None or (epoch + 1) % validation_freq:
                return logs
            found = loop.evaluate(trainee.program, held_out, val_batches, trainee.objective, everything)
            return logs | {"val_" + name: value for name, value in found.items()}

        loop.fit([trainee], range(initial_epoch, epochs), everything, close)
        return self.history

    def evaluate(
        self,
        x: object = None,
        y: object = None,
        batch_size: int | None = None,
        verbose: object = "auto",
        sample_weight: object = None,
        steps: int | None = None,
        callbacks: Iterable[Callback] | Callback | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Return the loss, or a list of loss and metrics, or a dict of them with ``return_dict``."""
        loss, _ = self._need_compiled("evaluate")
        self._need_built("evaluate")
        held_out, _ = self._prepare(x, y, sample_weight, None, loss)
        batches = data.Batches(len(held_out), batch_size, steps, False)
        hooks = self._hooks(callbacks, verbose, batches.steps)
        logs = loop.evaluate(
            self._program_for(batches.batch_size, batches.steps),
            held_out,
            batches,
            self._objective(loss, held_out),
            hooks,
        )
        return _result(logs, return_dict)

    def predict(
        self,
        x: object,
        batch_size: int | None = None,
        verbose: object = "auto",
        steps: int | None = None,
        callbacks: Iterable[Callback] | Callback | None = None,
    ) -> Any:
        """Return the predictions for ``x``, shape (n, *output_shape): on the GPU if ``x`` is, else a NumPy array."""
        network, _ = self._need_built("predict")
        with self._on_device():
            features, _ = data.features("x", self._adopted(x), network.input_shape, self.dtype)
        batches = data.Batches(len(features), batch_size, steps, False)
        features = features[: batches.steps * batches.batch_size]
        hooks = self._hooks(callbacks, verbose, batches.steps)
        make = self._computing().empty if data.on_gpu(features) else np.empty
        out = make((len(features), network.sizes[-1]), self.dtype)
        loop.predict(self._program_for(batches.batch_size, batches.steps), features, out, batches.batch_size, hooks)
        return out if len(network.output_shape) == 1 else out.reshape((len(features), *network.output_shape))

    def _hooks(self, callbacks: Any, verbose: object, steps: int) -> CallbackList:
        level = verbosity(verbose)
        shown = [ProgbarLogger(level)] if level else []
        return CallbackList([*_callback_list(callbacks), *shown], self, {"steps": steps, "verbose": level})

    def train_on_batch(
        self,
        x: object,
        y: object = None,
        sample_weight: object = None,
        class_weight: dict[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Run one training step on all of ``x`` and return what ``evaluate`` returns, from before the step."""
        loss, optimizer = self._need_compiled("train_on_batch")
        batch, shape = self._prepare(x, y, sample_weight, class_weight, loss)
        program, slots = self._trainer(shape, len(batch), 1)
        objective = self._objective(loss, batch)
        averages = loop.Averages(objective)
        averages.add(program.run(batch, None, len(batch), 0, 1, loss, objective.metrics, optimizer, slots))
        return _result(averages.result(), return_dict)

    def test_on_batch(
        self, x: object, y: object = None, sample_weight: object = None, return_dict: bool = False
    ) -> Any:
        """Return what ``evaluate`` returns, with all of ``x`` as one batch."""
        self._need_built("test_on_batch")
        n = len(data.to_array("x", self._adopted(x)))
        return self.evaluate(x, y, max(n, 1), verbose=0, sample_weight=sample_weight, return_dict=return_dict)

    def predict_on_batch(self, x: object) -> Any:
        """Return the predictions for all of ``x`` as one batch."""
        return self.predict(x, max(len(data.to_array("x", self._adopted(x))), 1), verbose=0)

    def __call__(self, x: object, training: bool = False) -> Any:
        """Return ``predict(x)``; inference mode only."""
        if training:
            raise ValueError("Calling a model runs it in inference mode; training=True is not supported. Use fit.")
        return self.predict(x, verbose=0)


def _result(logs: dict[str, float], as_dict: bool) -> Any:
    values = list(logs.values())
    return logs if as_dict else values[0] if len(values) == 1 else values


def _listed(value: Any) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _check_metric(name: object, loss: losses.Loss, weighted: bool) -> None:
    metrics.get(name, loss, 1, 1, weighted)


def verbosity(value: object) -> int:
    if value == "auto":
        return 1
    if value in (0, 1, 2):
        return int(value)
    raise ValueError(f"verbose must be 0, 1, 2 or 'auto'; got {value!r}.")


def _callback_list(value: Any) -> list[Callback]:
    hooks = [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
    for hook in hooks:
        if not isinstance(hook, Callback):
            raise TypeError(f"callbacks must be gpumlp.callbacks.Callback objects; got {hook!r}.")
    return hooks
