"""What MMPretrain and MMEngine need of the plugin."""

from . import compat, registration
from .classifiers import (
    U1ClassifierMixin,
    U1HuggingFaceClassifier,
    U1ImageClassifier,
    U1TimmClassifier,
)

compat.setup()
registration.register()

__all__ = [
    'U1ClassifierMixin',
    'U1HuggingFaceClassifier',
    'U1ImageClassifier',
    'U1TimmClassifier',
]
