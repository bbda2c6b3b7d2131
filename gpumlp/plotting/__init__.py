"""Plots, drawn by matplotlib, which is imported when one is drawn.

Each function draws in ``axes=``, or in a new figure, and returns the axes: one, or an array of these where it has
several panels. What is changed on them afterwards is matplotlib's: ``axes.set_title``, ``axes.figure.savefig``. Nothing
changes the user's settings (rcParams); `style` says how everything looks.
"""

from gpumlp.naming import listing
from gpumlp.plotting.confusion import plot_confusion_matrix
from gpumlp.plotting.curves import plot_history
from gpumlp.plotting.diagram import plot_model
from gpumlp.plotting.histograms import plot_activations, plot_weights
from gpumlp.plotting.predictions import plot_ensemble, plot_parity, plot_prediction, plot_residuals

__all__ = [
    "plot_activations",
    "plot_confusion_matrix",
    "plot_ensemble",
    "plot_history",
    "plot_model",
    "plot_parity",
    "plot_prediction",
    "plot_residuals",
    "plot_weights",
]
__dir__ = listing(__name__)
