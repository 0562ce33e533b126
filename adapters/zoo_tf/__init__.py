"""The TensorFlow adapter of Backbone Zoo. `start` comes before everything that imports TensorFlow."""

from zoo_tf import start as start
