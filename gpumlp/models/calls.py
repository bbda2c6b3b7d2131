"""What a model or a layer is asked for beside training and predictions: outputs in training mode, and gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpumlp.attributes import Attributes
from gpumlp.engine.feed import Dataset
from gpumlp.engine.network import Network
from gpumlp.engine.runner import Runner, together
from gpumlp.layers import Input, Layer
from gpumlp.losses import Loss
from gpumlp.training import data, samples
from gpumlp.variables import Symbol

if TYPE_CHECKING:
    from gpumlp.models.compiled import Compiled

Array = Any  # NumPy's, or CuPy's, which has no types


class Gradients(NamedTuple):
    """What ``model.gradients`` returns: by the ``inputs``, of their shape, and by each of the trainable ``weights``."""

    inputs: Array
    weights: list[Array]

    def __repr__(self) -> str:
        shapes = ", ".join(str(grad.shape) for grad in self.weights)
        return f"<Gradients by inputs of shape {self.inputs.shape}, by weights of shapes [{shapes}]>"


def checked_input(value: object, name: str) -> object:
    """Return what a model or a layer is called on; TypeError for a layer, a model, or what stands for an output."""
    if isinstance(value, (Attributes, Symbol)):
        raise TypeError(
            f"{name} computes with arrays; got the {type(value).__name__} {getattr(value, 'name', '')!r}. There is no "
            "functional API: Sequential([Input(shape=...), Dense(...), ...]) is what there is."
        )
    return value


def respond(runner: Runner, x: Array, training: bool) -> Array:
    """Return what the network gives for x[n, F], [n, O], as one batch in training mode or as it predicts."""
    network = runner.current()
    out = _like(runner, x, (len(x), network.sizes[-1]))
    batch = len(x) if training else runner.predicting(len(x))

    def work() -> None:
        runner.current(network.sizes)
        program = runner.answering(batch, training)
        program.predict(x, out, batch, runner.next_call() if training else None)

    together([runner], work, change=training or runner.runtime is not None)
    return out


def seeded(runner: Runner, network: Network, x: Array, given: object) -> Dataset:
    """Return x[n, F] with the gradient by its outputs, [n, O]: ones where none is ``given``; ValueError: no fit."""
    shape = (len(x), *network.output_shape)
    if given is None:
        return Dataset(x, _like(runner, x, (len(x), network.sizes[-1]), 1.0))
    seeds, _ = samples.features(runner, given, None, "output_gradients")
    if (got := data.to_array("output_gradients", given).shape) != shape and not (
        got == shape[:1] and shape[1:] == (1,)
    ):
        raise ValueError(f"output_gradients must have the shape of the outputs, {shape}; got {got}.")
    return Dataset(x, seeds)


def gradients(runner: Runner, held: Dataset, loss: Loss | None, trains: list[bool], training: bool) -> Gradients:
    """Return the gradients by ``held.x``, [n, F], and by the weights that train: of `LoopProgram.gradients`.

    In training mode, and of a loss of whole batches, all samples are one; else as many at a time as a prediction takes.
    Either way at one moment.
    """
    sizes = runner.current().sizes
    dx = _like(runner, held.x, held.x.shape)
    at_once = training or (loss is not None and loss.of_batch)
    batch = len(held) if at_once else runner.predicting(len(held))

    def work() -> list[Array]:
        runner.current(sizes)
        step = runner.next_call() if training else None
        found = runner.answering(batch, training, loss is not None).gradients(held, dx, batch, loss, step)
        with runner.backend.running():
            bring = type(dx).copy if data.on_gpu(dx) else runner.backend.to_host
            return [bring(grad) for grad, wanted in zip(found, trains, strict=True) if wanted]

    return Gradients(dx, together([runner], work, change=training or runner.runtime is not None))


def jacobian(runner: Runner, x: Array) -> Array:
    """Return the slopes of each output of x[n, F] by each input of its sample, [n, O, F]."""
    network = runner.current()
    size = network.sizes[-1]
    out = _like(runner, x, (size, *x.shape))
    seeds = _like(runner, x, (len(x), size), 0.0)
    batch = runner.predicting(len(x))

    def work() -> None:
        runner.current(network.sizes)
        program = runner.answering(batch, False)
        with runner.backend.running():
            for i in range(size):
                seeds[:, i] = 1.0
                program.gradients(Dataset(x, seeds), out[i], batch, None)
                seeds[:, i] = 0.0

    together([runner], work, change=runner.runtime is not None)
    with samples.on_device(runner):
        return out.swapaxes(0, 1).copy()


def apply(model: Compiled, grads: list[Array | None]) -> None:
    """Do a step of training by gradients, one for each of the model's weight arrays; None for one that stays.

    They fit. The state of the model's optimizer is the one that ``fit`` goes on with.
    """
    runner, optimizer = model._runner, model.optimizer
    if runner.comm is not None:
        raise NotImplementedError(
            "Gradients from elsewhere are not shared by ranks. Compile without distributed=, or train by fit or "
            "train_on_batch."
        )
    trainable = tuple(grad is not None for grad in grads)
    done = False
    while not done:  # a schedule may be a user's: it is asked before the gate
        before, scalars = optimizer.steps, optimizer.coming(1)

        def step(before: int = before, scalars: np.ndarray = scalars) -> bool:
            slots = state_of(model)
            if optimizer.steps != before:
                return False  # another thread has trained, or the state has started anew
            runner.applying(trainable).apply(grads, optimizer, slots, scalars)
            return True

        done = together([runner], step, brief=True)


def state_of(model: Compiled) -> dict[str, Array]:
    """Return the state of the model's optimizer, which is made if it was not there; the caller holds the gate."""
    if not model.optimizer.belongs_to(model):
        raise RuntimeError(
            "Another model was compiled with this model's optimizer, and its state is now that model's. Compile this "
            "one again, with an optimizer of its own."
        )
    return model._runner.slots(model.optimizer)


def _like(runner: Runner, x: Array, shape: tuple[int, ...], value: float | None = None) -> Array:
    """Return an array of ``shape``, of ``value`` if one is given, where ``x`` is: on the model's GPU, or the host."""
    made = runner.backend.empty(shape, runner.dtype) if data.on_gpu(x) else np.empty(shape, runner.dtype)
    if value is not None:
        with samples.on_device(runner):
            made[...] = value
    return made


def call_layer(layer: Layer, inputs: object, training: bool) -> Array:
    """Return what ``layer`` makes of an array, by itself, with the weights that it has for itself or for its models.

    An array of less than two axes is one sample to a layer that keeps its shape, such as an activation.
    """
    given = checked_input(inputs, f"Layer {layer.name!r}")
    if isinstance(given, (int, float)) or getattr(given, "shape", None) == ():
        return call_layer(layer, np.asarray(given).reshape(1), training).reshape(())
    runner = Runner(np.dtype(layer.dtype))
    given = data.to_array(f"the input of layer {layer.name!r}", samples.adopted(runner, given))
    shape = given.shape
    one = len(shape) == 1 and layer.result_shape(()) == ()
    runner.take([layer], shape if one else shape[1:] or (1,), True)
    x, _ = samples.features(runner, given[None] if one else given, None)
    if isinstance(layer, Input):
        return x.reshape(shape)
    layer._calls += training
    runner.calls = layer._calls
    out = respond(runner, x, training)
    if layer.activity_regularizer is not None:
        host = runner.backend.to_host(out) if data.on_gpu(out) else out
        layer._penalty = layer.activity_regularizer(host) / len(x)
    return out.reshape(shape if one else (len(x), *runner.current().output_shape))


Layer.answer = staticmethod(call_layer)
