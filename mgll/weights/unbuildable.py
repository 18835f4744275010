"""What is raised where a model is to be built of values that make no sense. Imports no torch."""

from huggingface_hub.errors import StrictDataclassError

#: What Python, pydantic and transformers raise where a value is missing, of another type, or makes no sense.
UNBUILDABLE: tuple[type[Exception], ...] = (TypeError, ValueError, AssertionError, RuntimeError, ImportError)
UNBUILDABLE += (AttributeError, ArithmeticError, LookupError, StrictDataclassError)
