"""Callbacks: what a person hooks into training, with Keras's names."""

from gpumlp.callbacks.averages import SwapEMAWeights
from gpumlp.callbacks.base import Callback, LambdaCallback
from gpumlp.callbacks.callback_list import CallbackList
from gpumlp.callbacks.history import History, Record
from gpumlp.callbacks.logs import CSVLogger
from gpumlp.callbacks.monitor import EarlyStopping, MonitorCallback, TerminateOnNaN
from gpumlp.callbacks.progress import ProgbarLogger
from gpumlp.callbacks.rates import LearningRateScheduler, ReduceLROnPlateau
from gpumlp.callbacks.tensorboard import TensorBoard

__all__ = [
    "CSVLogger", "Callback", "CallbackList", "EarlyStopping", "History", "LambdaCallback", "LearningRateScheduler",
    "MonitorCallback", "ProgbarLogger", "Record", "ReduceLROnPlateau", "SwapEMAWeights", "TensorBoard",
    "TerminateOnNaN",
]  # fmt: skip
