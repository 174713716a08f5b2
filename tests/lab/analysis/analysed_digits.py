"""Which digits and layers are analysed."""

COUNT = 40
CLASSES = ('0', '1', '2', '3')
LAYERS = ['backbone.layer2', 'backbone']
