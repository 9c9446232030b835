"""A vision-language model put together from an image encoder, a fusion and a language model."""

from ml.models.processor import Processor, processor_of
from ml.models.vision_language_model import VisionLanguageModel, build

__all__ = ["Processor", "VisionLanguageModel", "build", "processor_of"]
