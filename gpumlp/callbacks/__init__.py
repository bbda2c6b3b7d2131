"""Callbacks: what a person hooks into training, with Keras's names."""

from gpumlp.callbacks.averages import SwapEMAWeights
from gpumlp.callbacks.backup import BackupAndRestore
from gpumlp.callbacks.base import Callback, LambdaCallback
from gpumlp.callbacks.callback_list import CallbackList
from gpumlp.callbacks.checkpoint import ModelCheckpoint
from gpumlp.callbacks.history import History, Record
from gpumlp.callbacks.logs import CSVLogger
from gpumlp.callbacks.monitor import EarlyStopping, MonitorCallback, TerminateOnNaN
from gpumlp.callbacks.progress import ProgbarLogger
from gpumlp.callbacks.rates import LearningRateScheduler, ReduceLROnPlateau
from gpumlp.callbacks.tensorboard import TensorBoard
from gpumlp.naming import listing

__all__ = [
    "BackupAndRestore", "CSVLogger", "Callback", "CallbackList", "EarlyStopping", "History", "LambdaCallback",
    "LearningRateScheduler", "ModelCheckpoint", "MonitorCallback", "ProgbarLogger", "Record", "ReduceLROnPlateau",
    "SwapEMAWeights", "TensorBoard", "TerminateOnNaN",
]  # fmt: skip
__dir__ = listing(__name__)
