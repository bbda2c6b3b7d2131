"""Layers: descriptions that own their weights. What they compute stands in the engine and the backends."""

from gpumlp.layers.activation import ELU as ELU
from gpumlp.layers.activation import Activation as Activation
from gpumlp.layers.activation import LeakyReLU as LeakyReLU
from gpumlp.layers.activation import ReLU as ReLU
from gpumlp.layers.activation import Softmax as Softmax
from gpumlp.layers.base import Changes as Changes
from gpumlp.layers.base import Layer as Layer
from gpumlp.layers.base import Shape as Shape
from gpumlp.layers.base import Snapshot as Snapshot
from gpumlp.layers.base import WeightSpec as WeightSpec
from gpumlp.layers.base import checked_weights as checked_weights
from gpumlp.layers.base import feature_shape as feature_shape
from gpumlp.layers.base import reset_names as reset_names
from gpumlp.layers.base import whole_number as whole_number
from gpumlp.layers.base import without_batch as without_batch
from gpumlp.layers.core import Dense as Dense
from gpumlp.layers.core import Flatten as Flatten
from gpumlp.layers.core import Input as Input
from gpumlp.layers.core import InputLayer as InputLayer
from gpumlp.layers.core import Rescaling as Rescaling
from gpumlp.layers.normalization import BatchNormalization as BatchNormalization
from gpumlp.layers.normalization import LayerNormalization as LayerNormalization
from gpumlp.layers.normalization import Normalization as Normalization
from gpumlp.layers.normalization import UnitNormalization as UnitNormalization
from gpumlp.layers.regularization import Dropout as Dropout
