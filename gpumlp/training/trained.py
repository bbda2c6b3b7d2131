"""What training asks of a model, and of its callbacks, for the type checker: both are made of what is above."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from gpumlp.engine.runner import Runner
from gpumlp.losses import Loss
from gpumlp.optimizers import Optimizer

if TYPE_CHECKING:
    from gpumlp.training.position import InProgress
    from gpumlp.training.results import Objective

Logs = dict[str, Any]  # numbers, arrays of several, and what callbacks put there


class Compiled(Protocol):
    """A model that was compiled."""

    @property
    def _runner(self) -> Runner: ...

    @property
    def _optimizer(self) -> Optimizer | None: ...

    @property
    def _loss(self) -> Loss | None: ...

    @property
    def _metric_names(self) -> object: ...

    @property
    def _trainable(self) -> bool: ...


class Trained(Compiled, Protocol):
    """A model that `loop` trains; callbacks set the flags."""

    stop_training: bool
    stop_evaluating: bool
    stop_predicting: bool
    _results: dict[str, object]

    def _made_of(self, objective: Objective) -> dict[str, str]: ...

    def _whole(self, position: Mapping[str, object]) -> dict[str, object]: ...

    def _restore(self, found: Mapping[str, object], what: str) -> None: ...


class Shown(Protocol):
    """A callback that sees how training goes."""

    def on_train_begin(self) -> None: ...

    def on_train_end(self, logs: Logs | None = None) -> None: ...

    def on_epoch_begin(self, epoch: int) -> None: ...

    def on_epoch_end(self, epoch: int, logs: Logs | None) -> None: ...

    def on_train_batch_begin(self, batch: int) -> None: ...

    def on_train_batch_end(self, batch: int, logs: Logs | None) -> None: ...


class Hooks(Shown, Protocol):
    """All callbacks of a model, as `gpumlp.callbacks.CallbackList` has them."""

    @property
    def model(self) -> Trained: ...

    @property
    def per_batch(self) -> bool:
        """Whether one of them looks at each batch."""

    @property
    def per_epoch(self) -> bool:
        """Whether one of them looks at each epoch."""

    @property
    def stopped(self) -> bool:
        """Whether one of them has ended training."""

    def resume(self, training: InProgress) -> None: ...

    def batch_done(self, training: InProgress) -> None: ...

    def epoch_done(self, training: InProgress) -> None: ...

    def record(self, epoch: int, logs: Logs) -> None: ...

    def on_test_begin(self) -> None: ...

    def on_test_end(self, logs: Logs | None) -> None: ...

    def on_test_batch_begin(self, batch: int) -> None: ...

    def on_test_batch_end(self, batch: int, logs: Logs | None) -> None: ...

    def on_predict_begin(self) -> None: ...

    def on_predict_end(self) -> None: ...

    def on_predict_batch_begin(self, batch: int) -> None: ...

    def on_predict_batch_end(self, batch: int, logs: Logs | None) -> None: ...
