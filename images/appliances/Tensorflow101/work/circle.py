"""A small network that learns whether a point lies inside of a circle."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
import numpy as np
import tensorflow as tf

tf.keras.utils.set_random_seed(1)
points = np.random.default_rng(1).uniform(-1, 1, (4000, 2))
inside = (np.hypot(*points.T) < 0.7).astype("float32")

network = tf.keras.Sequential(
    [
        tf.keras.layers.Input((2,)),
        tf.keras.layers.Dense(16, activation="relu"),
        tf.keras.layers.Dense(16, activation="relu"),
        tf.keras.layers.Dense(1, activation="sigmoid"),
    ]
)
network.compile(optimizer=tf.keras.optimizers.Adam(0.01), loss="binary_crossentropy", metrics=["accuracy"])

history = network.fit(points[:3000], inside[:3000], epochs=12, batch_size=64, verbose=0)
_, accuracy = network.evaluate(points[3000:], inside[3000:], verbose=0)
print(f"TensorFlow {tf.__version__}: {accuracy:.0%} of 1000 new points are told right.")
