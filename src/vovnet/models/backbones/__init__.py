"""The networks that turn an image into feature maps.

With `features_only` a backbone returns its feature maps, finest first, as its `feature_names`, `strides` and `channels`
describe them. Otherwise it returns the logits of `num_classes`; those without a classifier refuse.
"""
