"""SwapEMAWeights: evaluate, and predict, by the averages of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gpumlp.callbacks.base import Callback, Logs
from gpumlp.engine.runner import together
from gpumlp.naming import flag
from gpumlp.optimizers.stages import AVERAGE

if TYPE_CHECKING:
    from gpumlp.models.sequential import Sequential


class SwapEMAWeights(Callback):
    """Have the optimizer's averages be the weights while a model is evaluated or predicts, and the weights afterwards.

    Parameters
    ----------
    swap_on_epoch : bool
        Whether they also are from an epoch's end to the next one's beginning, for callbacks that come behind.

    Raises
    ------
    ValueError
        When it is given a model whose optimizer has no averages (use_ema=True).

    Examples
    --------
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(1,))])
    >>> model.compile(gpumlp.optimizers.SGD(use_ema=True), "mse")
    >>> swap = gpumlp.callbacks.SwapEMAWeights()
    >>> history = model.fit([[1.0], [2.0]], [2.0, 4.0], epochs=2, verbose=0, callbacks=swap)
    """

    def __init__(self, swap_on_epoch: bool = False) -> None:
        self.swap_on_epoch = flag("swap_on_epoch", swap_on_epoch)
        self._aside: list[np.ndarray] | None = None  # the weights, while the averages are in their place

    def set_model(self, model: Sequential) -> None:
        """Take the model."""
        if not getattr(model.optimizer, "use_ema", False):
            raise ValueError(
                "SwapEMAWeights must be used when `use_ema=True` is set on the optimizer; this model's is "
                f"{type(model.optimizer).__name__}."
            )
        super().set_model(model)

    def get_state(self) -> dict[str, object]:
        """Return the weights, where averages are in their place."""
        return {"aside": self._aside}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Have the weights come back when the next epoch begins."""
        self._aside = state["aside"]

    def on_train_begin(self, logs: Logs = None) -> None:
        self._restore()  # the last training may have ended by an exception

    def on_train_end(self, logs: Logs = None) -> None:
        self._aside = None  # the averages are the weights, to stay

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._restore()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self.swap_on_epoch:
            self._swap()

    def on_test_begin(self, logs: Logs = None) -> None:
        self._swap()

    def on_test_end(self, logs: Logs = None) -> None:
        self._restore()

    def on_predict_begin(self, logs: Logs = None) -> None:
        self._swap()

    def on_predict_end(self, logs: Logs = None) -> None:
        self._restore()

    def _swap(self) -> None:
        runner, optimizer = self.model._runner, self.model.optimizer

        def swap() -> None:
            weights, network = runner.weights, runner.current()
            if weights is None or not optimizer.steps:
                return  # no averages yet
            slots = runner.slots(optimizer)
            now = weights.get()
            pairs = zip(now, runner.layout.get(slots[AVERAGE]), network.trainable, strict=True)
            weights.set([average if trains else own for own, average, trains in pairs])
            self._aside = now

        if self._aside is None and runner.weights is not None:
            together([runner], swap, brief=True)

    def _restore(self) -> None:
        runner, aside = self.model._runner, self._aside
        if aside is None:
            return

        def restore() -> None:
            weights, network = runner.weights, runner.current()
            assert weights is not None  # which were put aside
            pairs = zip(weights.get(), aside, network.trainable, strict=True)
            weights.set([own if trains else now for now, own, trains in pairs])
            self._aside = None

        together([runner], restore, brief=True)
