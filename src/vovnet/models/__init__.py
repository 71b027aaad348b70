"""Networks: backbones, detectors on them, and the anchors, layers and preprocessing that they share.

Shapes in this package: N images, C channels, H and W height and width of a feature map, A anchors, P anchors of one
cell, K foreground classes, M objects of one image, R proposals of all images.
"""
