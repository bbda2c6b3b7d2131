"""What computes for one model: where its weights stand, on which device, and by which Program its steps run."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from gpumlp import devices
from gpumlp.backends.contract import Backend
from gpumlp.backends.runtime import Array, DType, Runtime
from gpumlp.devices import Device
from gpumlp.engine import dispatch
from gpumlp.engine.arena import Arena, Stretches, check_dtype, homes_of, lay_out
from gpumlp.engine.dispatch import Choice, Judged
from gpumlp.engine.network import Network, describe
from gpumlp.engine.program import LoopProgram, Program
from gpumlp.gate import apart, hold, layout, settle, whole
from gpumlp.layers import Changes, Input, Layer, Shape, Snapshot
from gpumlp.optimizers import Optimizer
from gpumlp.optimizers.layout import Layout

if TYPE_CHECKING:
    from gpumlp.distributed.communicator import Communicator
    from gpumlp.engine.share import Share

Result = TypeVar("Result")
CALLS = 1 << 62  # the number that steps outside training begin with
HOST_BYTES, DEVICE_BYTES = 32 << 20, 256 << 20  # of activations, at most, that a prediction keeps at a time


class Runner:
    """Computes for one model. Everything that does goes through `together`, which holds the gate."""

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype
        self.stack: list[Layer] = []
        self.network: Network | None = None
        self.device: Device | None = None  # None: where the weights are, or as the environment says
        self.weights: Stretches | None = None
        self.comm: Communicator | None = None  # to the other ranks that train and evaluate the model
        self._share: Share | None = None
        self.last: Program | None = None  # the Program that ran last
        # By whether it is compiled, and the general one; those of `answering` by that and what it was asked; and what
        # `gpumlp.training.again` plans with them.
        self._programs: dict[tuple[object, ...], Any] = {}
        self.calls = 0  # in training mode: each has masks of its own
        self._choices: dict[str, Choice] = {}
        self._ready: tuple[Network | None, object] = None, None  # for which work all formulas are known to be compiled
        self._read = -1  # Changes.count when the layers were read
        self._flags: tuple[int, bool | None] = -1, None  # the same, and `reread`'s argument, when what trains was
        self.fits: set[Lock] = set()  # that go on, and hold these: what trains stays
        self.paces: dict[tuple[int, int], float] = {}  # seconds of a step in the last one, by its batch and its models
        self.looked_at, self.advised = (
            0,
            set[type[Warning]](),
        )  # by gpumlp.training.health: at how many steps, and of what

    def __getstate__(self) -> dict[str, object]:
        """Return what is no address, thread, or machine code: a copy makes its own."""
        return self.__dict__ | {
            "weights": None,
            "comm": None,  # a copy is the whole model
            "_share": None,
            "last": None,
            "_programs": {},
            "_choices": {},
            "_ready": (None, None),
            "_read": -1,
            "_flags": (-1, None),
            "fits": set(),
            "paces": {},
        }

    # ---- the layers --------------------------------------------------------------------------------------------------

    @property
    def owners(self) -> list[Layer]:
        """The layers that have weights, in order."""
        return [layer for layer in self.stack if layer.held]

    def take(self, stack: list[Layer], shape: Shape | None, trainable: bool) -> None:
        """Compute with ``stack`` on samples of ``shape`` from now on; weights that are not there yet are made.

        ValueError where it does not fit, before anything is changed. Other threads find the old stack or the new one.
        """

        def change() -> None:
            gates = {arena.gate for arena in self._arenas()}
            hold(tuple(gates), functools.partial(self._take, stack, shape, trainable))

        hold((layout,), change)

    def build(self, shape: Shape, trainable: bool) -> Network:
        """Return the network, built for samples of ``shape`` if another thread has not done so already."""

        def make() -> None:
            if self.network is None:
                self._take(self.stack, shape, trainable)

        if self.network is None:
            hold((layout,), make)
        return self.current()

    def current(self, sizes: tuple[int, ...] | None = None) -> Network:
        """Return the network; RuntimeError where it is not the one of ``sizes`` any more."""
        if self.network is None or (sizes is not None and self.network.sizes != sizes):
            raise RuntimeError(
                "The model's layers were changed while it was training or computing, by a callback or another thread: "
                "call it again (compile it first, to train)."
            )
        return self.network

    def _take(self, stack: list[Layer], shape: Shape | None, trainable: bool) -> None:
        network = None if shape is None else self.read(stack, shape, trainable)
        check_dtype(stack, self.dtype)
        made: list[tuple[Layer, Shape, list[Array]]] = []
        if network is not None:
            at = network.input_shape
            for layer in stack:
                if not layer.built:
                    made.append((layer, at, layer.initial(at, self.dtype)))
                at = layer.result_shape(at)
        for layer, at, weights in made:
            layer.held, layer.samples = weights, at
        if self.weights is not None:
            self.weights.arena.users.discard(self)
        self.stack, self.network, self.weights, self._programs, self._choices = stack, network, None, {}, {}
        self.paces = {}
        self._read = Changes.count

    @staticmethod
    def read(stack: list[Layer], shape: Shape, trainable: bool) -> Network | None:
        """Return the Network of ``stack`` as its layers are now; None where nothing but an Input is there."""
        network = describe(stack, shape)
        at = shape
        for layer in stack:
            layer.check_weights(layer.specs(at))
            at = layer.result_shape(at)
        if all(isinstance(layer, Input) for layer in stack):
            return None
        return network if trainable else network.all_frozen()

    def reread(self, trainable: bool | None = None) -> None:
        """Read the layers again if one has changed since.

        ``trainable`` says whether weights train whose layers say so; where it is None, or the model is in the middle
        of training, what trains is as it was found last.
        """
        count, network = Changes.count, self.network
        fits = any(fit.locked() for fit in tuple(self.fits))  # of other threads; one that was broken off may be there
        anew = trainable is not None and not fits and self._flags != (count, trainable)
        if network is None or (self._read == count and not anew):
            return
        found = self.read(self.stack, network.input_shape, trainable is not False)
        if found is not None and not anew:
            found = found.training_as(network)
        if found is not None and found != network:
            self.network, self._programs, self._choices = found, {}, {}
        self._read = count
        if anew:
            self._flags = count, trainable

    def restart(self) -> None:
        """Forget by what it ran."""
        self._programs, self._choices, self.paces, self.last, self.looked_at = {}, {}, {}, None, 0

    # ---- the device --------------------------------------------------------------------------------------------------

    def resolved(self) -> Device:
        """Return the device: the one that was chosen, that of the weights, or the environment's."""
        if self.device is not None:
            return self.device
        for arena in self._arenas():
            if arena.device is not None:
                return arena.device
        return devices.resolve(None, self.dtype.name)

    def check_device(self, device: Device) -> None:
        """Raise ValueError where models that share layers with this one compute elsewhere."""
        hold((layout,), lambda: self._check_device(device))

    def _check_device(self, device: Device) -> None:
        for arena in self._arenas():
            for other in list(arena.users):
                chosen = None if other is self else other.device
                if chosen is not None and not _alike(chosen, device):
                    raise ValueError(
                        f"The model shares layers with one that computes on {_named(chosen)}, and was to compute on "
                        f"{_named(device)}: layers are on one device. Compile both with the same device=."
                    )

    def _arenas(self) -> set[Arena]:
        return {home.arena for home in homes_of(self.owners)}

    def choose(self, device: Device) -> None:
        """Compute on ``device`` from now on: the weights move when something is computed."""
        self.device = device
        if self.weights is not None and not _alike(self.weights.arena.device, device):
            self.weights = None

    def place(self) -> Stretches:
        """Return where the weights are, once they are where the model computes."""
        self.reread()
        weights = self.weights
        if weights is not None and not weights.arena.moved:
            return weights
        return apart(lambda: hold((layout,), self._place))  # where the layers are those of the network

    def _place(self) -> Stretches:
        if self.weights is None or self.weights.arena.moved:
            device = self.resolved()
            self._check_device(device)
            kept = [a.backend for a in self._arenas() if _alike(a.device, device)]
            weights = lay_out(self.owners, self.dtype, kept[0] if kept else device.backend())
            weights.arena.device = device
            weights.arena.users.add(self)
            self.weights, self._programs, self._choices = weights, {}, {}
        return self.weights

    @property
    def backend(self) -> Backend:
        """What computes, on the device."""
        return self.place().backend

    @property
    def runtime(self) -> Runtime | None:
        """The runtime of the model's GPU; None on the CPU."""
        return (self.weights or self.place()).backend.runtime

    # ---- over ranks --------------------------------------------------------------------------------------------------

    def distribute(self, comm: Communicator | None) -> None:
        """Train and evaluate over the ranks of ``comm`` from now on."""
        self.comm, self._share = comm, None

    @property
    def shares(self) -> bool:
        """Whether the weights are those of all ranks by now."""
        return self._share is not None and self._share.weights is self.weights

    @property
    def share(self) -> Share:
        """What this rank updates; all ranks ask for it at once, and hold the gate."""
        assert self.comm is not None and self.weights is not None
        if self._share is None or not self.shares:
            from gpumlp.engine.share import Share  # not loaded for those who train here alone

            self._share = Share(self.weights, self.comm)
        return self._share

    @property
    def layout(self) -> Layout:
        """Where the optimizer's state stands: beside the weights, or beside a rank's share of them; in the gate."""
        assert self.weights is not None
        return self.weights if self.comm is None else self.share

    def slots(self, optimizer: Optimizer) -> dict[str, Array]:
        """Return the state arrays of ``optimizer``, which are made if they were not there; in the gate."""
        return optimizer.slots_for(self.layout, self.owners)

    # ---- the Program -------------------------------------------------------------------------------------------------

    def ask(self, judged: Judged | None = None) -> Choice:
        """Return by what work is to run; ``judged``: what is computed beside the network."""
        self.place()
        network, kernels = self.current(), self.resolved().kernels
        choices = self._choices  # another thread may change the layers, and with them what there is to choose
        if kernels not in choices:
            choices[kernels] = dispatch.choose(network, self.dtype, self.backend, kernels)
        choice, over_ranks = choices[kernels], judged is not None and self.comm is not None
        if judged is not None and over_ranks:
            choice, judged = dispatch.over_ranks(choice, network, self.backend, judged)
        found = kernels, judged, judged and judged.rule
        if (able := dispatch.fit_for(choice, network, self.backend, judged)) is not choice:
            choice = able
        elif choice.functions is not None and (self._ready[0] is not network or self._ready[1] != found):
            choice = dispatch.ready(choice, network, judged, kernels)
            self._ready = network, found if choice.functions is not None else None
        return replace(choice, ranks=True) if over_ranks else choice

    def program_for(self, batch: int, choice: Choice) -> Program:
        """Return a Program for ``batch`` samples; the caller holds the gate."""
        network = self.current()
        assert self.weights is not None
        kind = choice.kind
        program = self._programs.get(kind)
        if program is None or program.batch < batch:
            most = max(batch, 0 if program is None else program.batch)
            program = self._programs[kind] = None  # its memory is free before the new one asks for more
            share = self.share if choice.ranks else None
            program = dispatch.make_program(network, self.weights, most, choice, share)
            self._programs[kind] = program
        self.last = program
        return program

    def known(self, batch: int, choice: Choice) -> Program | None:
        """Return the Program that `program_for` would return, if it need not be made as things are now."""
        program: Program | None = self._programs.get(choice.kind)
        return None if program is None or program.batch < batch else program

    def answering(self, batch: int, training: bool, loss: bool = False) -> LoopProgram:
        """Return the Program that gives gradients, and outputs as in ``training``; the caller holds the gate.

        It is kept for the next time unless its batch is larger than a prediction's would be.
        """
        kind = "answering", training, loss
        network, program = self.current(), self._programs.get(kind)
        assert self.weights is not None
        if not isinstance(program, LoopProgram) or program.batch < batch:
            self._programs.pop(kind, None)
            program = LoopProgram(network.asked(training, loss), self.weights, self.weights.backend, batch)
            program.why = "it is what gives gradients, and outputs in training mode"
            if batch <= self.predicting(batch):
                self._programs[kind] = program
        self.last = program
        return program

    def applying(self, trainable: tuple[bool, ...]) -> LoopProgram:
        """Return the Program that trains the weights that are ``trainable``, by gradients from elsewhere; in the gate.

        It is kept for the next time, until others are asked for.
        """
        program = self._programs.get(("applying",))
        assert self.weights is not None
        if not isinstance(program, LoopProgram) or program.network.trainable != trainable:
            network = replace(self.current(), trainable=trainable)
            program = self._programs[("applying",)] = LoopProgram(network, self.weights, self.weights.backend, 1)
            program.why = "it is what takes gradients from elsewhere"
        self.last = program
        return program

    def next_call(self) -> int:
        """Return the number of the step that a call in training mode is: none that training has. In the gate."""
        assert self.weights is not None
        self.weights.version += 1  # moving averages change
        self.calls += 1
        return CALLS + self.calls

    def in_seconds(self, seconds: float, batch: int, training: bool = False) -> int:
        """Return how many batches take about so long, before anything is known of how long they take: one at least."""
        return max(1, int(seconds / max(dispatch.numpy_seconds(self.current(), batch, training), 1e-6)))

    def predicting(self, batch: int) -> int:
        """Return how many samples of a batch to predict at a time: they need their activations, and no more."""
        most = HOST_BYTES if self.runtime is None else DEVICE_BYTES
        return max(1, min(batch, most // (self.dtype.itemsize * self.current().numbers)))


def together(
    runners: Sequence[Runner], work: Callable[[], Result], change: bool = True, brief: bool = False,
    meanwhile: Callable[[Callable[[], bool]], None] | None = None,
) -> Result:  # fmt: skip
    """Return ``work()``, done while nobody else computes with the weights of any of ``runners``.

    With ``change`` no handler of a signal comes between its steps; ``brief``: they take some milliseconds at most.
    Where another thread does them this one does ``meanwhile``, as `gate.apart` says.
    """
    settle()
    if change:
        Snapshot.forget()
    while True:
        placed = [runner.place() for runner in runners]

        def inside(placed: list[Stretches] = placed) -> tuple[Result] | None:
            for runner, weights in zip(runners, placed, strict=True):
                if runner.weights is not weights or weights.arena.moved:  # by now
                    return None
            return (work(),)

        gates = tuple({weights.arena.gate for weights in placed})
        if change and brief:
            done = whole(lambda gates=gates, inside=inside: hold(gates, inside))  # type: ignore[misc]
        elif change:
            runtime = runners[0].runtime
            there = inside if runtime is None else runtime.carried(inside)
            done = apart(lambda gates=gates, there=there: hold(gates, there), meanwhile)  # type: ignore[misc]
        else:
            done = contextvars.copy_context().run(hold, gates, inside)  # NumPy's error state stays the caller's
        if done is not None:
            return done[0]


def _alike(one: Device | None, other: Device) -> bool:
    """Whether weights for one device can stay where they are for the other: on the CPU, or for the same kernels."""
    return one is not None and one.name == other.name and (one.name == "cpu" or one.kernels == other.kernels)


def _named(device: Device) -> str:
    return device.name if device.name == "cpu" else f"{device.name} with the {device.kernels} kernels"
