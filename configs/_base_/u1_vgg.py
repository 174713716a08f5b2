# MMPretrain's VGG has its classifier inside the backbone, so the map is read
# after the last pooling (of the 16-layer network with batch norm), and only
# the config can tell the number of classes.
_base_ = ['./u1.py']

u1_neck = dict(layers=['backbone.features.17'])
u1_head = dict(class_angles=dict(num_classes=1000))
