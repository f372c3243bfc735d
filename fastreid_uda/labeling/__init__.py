"""Pure algorithms between target features and pseudo labels: no framework, no config, no trainer.

Letters used for shapes throughout the package: N images, D feature dimensions, K clusters,
k neighbours.
"""
