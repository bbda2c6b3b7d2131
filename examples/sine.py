"""The article's script: fit y = sin(x), look at x + 0.05. Only the import lines differ from Keras.

Run with ``python examples/sine.py``; without a display set ``MPLBACKEND=Agg``.
"""

import matplotlib.pyplot as plt
import numpy as np

from gpumlp import layers, models

x = np.arange(0, 20, 0.1)
y = np.sin(x)

model = models.Sequential()
model.add(layers.Dense(256, activation="relu", input_shape=(1,)))
model.add(layers.Dense(256, activation="relu"))
model.add(layers.Dense(256, activation="relu"))
model.add(layers.Dense(256, activation="relu"))
model.add(layers.Dense(256, activation="relu"))
model.add(layers.Dense(256, activation="relu"))
model.add(layers.Dense(256, activation="relu"))
model.add(layers.Dense(1))
model.summary()

model.compile(loss="mse", optimizer="adam")
hist = model.fit(x, y, steps_per_epoch=10, epochs=10)

test_x = x + 0.05
pre_y = model.predict(test_x)

plt.plot(hist.history["loss"])
plt.title("Training loss")
plt.xlabel("epoch")
plt.ylabel("mean squared error")
plt.figure()
plt.plot(x, y, label="sin(x)")
plt.plot(test_x, pre_y, label="prediction at x + 0.05")
plt.title("10 steps x 10 epochs")
plt.xlabel("x")
plt.legend()
plt.show()
