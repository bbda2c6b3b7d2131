"""A stack of layers, and how it is to be trained: what ``compile`` takes, checks and keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

from gpumlp import devices, losses, optimizers
from gpumlp.engine.runner import together
from gpumlp.layers import Layer, whole_number
from gpumlp.literals import DeviceName, LossLike, MetricLike, OptimizerName
from gpumlp.models import arguments, configs, state
from gpumlp.models.stack import Stack
from gpumlp.naming import flag
from gpumlp.optimizers import Optimizer
from gpumlp.signatures import named
from gpumlp.training.results import Objective

if TYPE_CHECKING:
    from gpumlp.distributed.communicator import Communicator

OptimizerLike: TypeAlias = OptimizerName | str | Optimizer | type[Optimizer] | Mapping[str, object]
Metrics: TypeAlias = Iterable[MetricLike] | Mapping[str, object] | None


class How(TypedDict):
    """What ``compile`` was given, but for the optimizer and the device."""

    loss: LossLike | list[LossLike]
    loss_weights: object
    metrics: Metrics
    weighted_metrics: Metrics
    run_eagerly: bool
    steps_per_execution: int
    jit_compile: bool


class Compiled(Stack):
    """The base of `Sequential` that has ``compile``, and what comes of it."""

    def __init__(
        self, layers: Iterable[Layer | Stack] | None = None, trainable: bool = True, name: str | None = None, *,
        dtype: object = None,
    ) -> None:  # fmt: skip
        self.run_eagerly, self.jit_compile, self.steps_per_execution = False, True, 1
        self._objective: Objective | None = None  # what the last fit or evaluation is judged by
        self._optimizer: Optimizer | None = None
        self._loss: losses.Loss | None = None
        self._compilations = 0  # how often it was given an optimizer
        self._compiled_with: How | None = None  # its arguments, but the optimizer
        self._metric_names: arguments.Asked = []
        self._results: dict[str, object] = {}  # of the last epoch, evaluation or batch
        super().__init__(layers, trainable, name, dtype)

    @named
    def compile(
        self,
        optimizer: OptimizerLike = "rmsprop",
        loss: LossLike | list[LossLike] = None,
        loss_weights: object = None,
        metrics: Metrics = None,
        weighted_metrics: Metrics = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | Literal["auto"] = "auto",
        auto_scale_loss: bool = True,
        *,
        device: DeviceName | str | None = None,
        distributed: object = None,
    ) -> None:
        """Set how to train. Which layers are trainable is read when training begins.

        Parameters
        ----------
        optimizer : str, Optimizer, class of one or config dict
            One that this model has already goes on where it is; one of another model starts anew here.
        loss : str, function, Loss, or a list or dict of one, optional
            Without one the model can predict, and no more.
        loss_weights : 1.0, or a list or dict of it, optional
            A model has one output, and its loss the weight 1.
        metrics : list or dict, nested or not, of str, function or Metric, optional
            What is reported beside the loss.
        weighted_metrics : list or dict, nested or not, of str, function or Metric, optional
            Those in which a sample counts by its weight.
        run_eagerly : bool
        steps_per_execution : int
        jit_compile : bool or "auto"
        auto_scale_loss : bool
            Are kept and change nothing: how steps run, ``model.program`` says.
        device : {"auto", "cpu", "cuda", "cuda:N"}, optional
            GPUMLP_DEVICE, then "auto", when None. Weights that exist move there when something is computed.
        distributed : mpi4py.MPI.Intracomm or Communicator, optional
            What ties this rank to the others that train the model, 1, 2, 4 or 8 in all, such as ``MPI.COMM_WORLD``.
            All of them make the same calls in the same order, with the same data, of ``compile``, ``fit``,
            ``evaluate``, ``train_on_batch``, ``test_on_batch``, ``save``, ``save_weights``, copies and pickles, and of
            what the optimizer's state is read by. ``predict``, ``get_weights`` and ``summary`` are each rank's own.
            Rank 0's random numbers become those of all, and its weights when they first train or evaluate.

        Raises
        ------
        TypeError, ValueError
            For what is none of these; the model is then compiled as it was.
        NotImplementedError
            For a loss that is no mean over the batch of a value of each sample.
        DeviceUnavailable
            For a GPU that cannot be used; the message says why.
        """
        eager, steps = flag("run_eagerly", run_eagerly), whole_number("steps_per_execution", steps_per_execution)
        jit = not eager if jit_compile == "auto" else flag("jit_compile", jit_compile) and not eager
        new_optimizer, new_loss = found_optimizer(optimizer), arguments.only_loss(loss)
        arguments.check_loss_weights(loss_weights)
        names = arguments.asked(metrics, weighted_metrics, new_loss)
        new_device, comm = devices.resolve(device, self.dtype.name), _communicator(distributed)
        self._runner.check_device(new_device)
        self._runner.choose(new_device)
        if comm is not self._runner.comm:
            state.gather(self)
        self._runner.distribute(comm)
        if comm is not None:
            state.draw_alike(self, comm)
        self._runner.restart()
        self._own(new_optimizer)
        self._results, self._objective = {}, None  # which knows metrics' objects, of which equal ones are others
        self._optimizer, self._loss, self._metric_names = new_optimizer, new_loss, names
        self.run_eagerly, self.steps_per_execution, self.jit_compile = eager, steps, jit
        self._compiled_with = {
            "loss": loss, "loss_weights": loss_weights, "metrics": metrics, "weighted_metrics": weighted_metrics,
            "run_eagerly": eager, "steps_per_execution": steps, "jit_compile": jit,
        }  # fmt: skip

    @property
    def compiled(self) -> bool:
        """Whether ``compile`` was called."""
        return self._optimizer is not None

    def get_compile_config(self) -> dict[str, object] | None:
        """Return what the model was compiled with.

        Returns
        -------
        dict or None
            ``compile``'s arguments as JSON can hold them; None where it was not called.
        """
        return configs.compiled(self)

    def compile_from_config(self, config: Mapping[str, object]) -> None:
        """Compile the model as another one was.

        Parameters
        ----------
        config : dict
            As `get_compile_config` returns it.
        """
        configs.compile_from(self, config)

    @property
    def loss(self) -> object:
        """The loss as `compile` was given it; None before."""
        return self._compiled_with and self._compiled_with["loss"]

    if TYPE_CHECKING:  # mypy gives a property one type, and what is read is what a name has become
        optimizer: Optimizer
    else:

        @property
        def optimizer(self):
            """The optimizer that the model was compiled with; None before. Another one starts anew, or goes on if it is
            this model's already."""
            return self._optimizer

        @optimizer.setter
        def optimizer(self, value):
            found = found_optimizer(value)
            self._own(found)
            self._optimizer = found

    def _optimizer_variables(self) -> list[state.Part]:
        return list(state.parts(self))

    def _own(self, optimizer: Optimizer) -> None:
        """Make the optimizer this model's: not in the middle of a step of another one's."""
        self._compilations += 1
        owner = optimizer.owner
        if owner is None or owner is self or owner._runner.weights is None:
            optimizer.belong_to(self)
        else:
            together([owner._runner], lambda: optimizer.belong_to(self))

    def _need_compiled(self, what: str, training: bool = False) -> tuple[losses.Loss, Optimizer]:
        if self._optimizer is None:
            raise ValueError(f"{what} needs a compiled model: call model.compile(loss='mse', optimizer='adam') first.")
        if self._loss is None:
            raise ValueError(f"{what} needs a loss, and compile was given none: model.compile(loss='mse', ...).")
        if training and not self._optimizer.belongs_to(self):
            raise ValueError(
                f"Another model was compiled with this model's optimizer, whose state is now that model's. Compile "
                f"this one again, with an optimizer of its own, before {what}."
            )
        return self._loss, self._optimizer

    @property
    def device(self) -> devices.Device:
        """The device that the model runs on, and why."""
        return self._runner.resolved()

    @property
    def distributed(self) -> Communicator | None:
        """What ties this rank to the others that train the model; None where it is trained here alone."""
        return self._runner.comm

    @property
    def program(self) -> str:
        """How the steps are run on the device, and why so; known once something has run."""
        return "nothing has run yet" if self._runner.last is None else self._runner.last.describe()

    def __repr__(self) -> str:
        count = len(self.layers)
        numbers = f"{self.count_params():,} parameters" if self.built else "not built"
        return (
            f"<{type(self).__name__} {self.name}: {count} layer{'' if count == 1 else 's'}, {numbers}, "
            f"{self._said_compiled()}>"
        )

    def _said_compiled(self) -> str:
        if self._optimizer is None:
            return "not compiled"
        with_loss = "no loss" if self._loss is None else self._loss.name
        return f"compiled with {type(self._optimizer).__name__}, {with_loss}"


def _communicator(given: object) -> Communicator | None:
    """Return the Communicator that is meant; None for None."""
    if given is None:
        return None
    from gpumlp.distributed import communicator_of  # not loaded for those who train here alone

    return communicator_of(given)


def found_optimizer(value: object) -> Optimizer:
    """Return the optimizer that is meant; TypeError where none is."""
    found = optimizers.get(value)
    if found is None:
        raise TypeError(f"A model needs an optimizer to train, such as 'adam'; got {value!r}.")
    return found
