"""zamba — language models of the Zamba family and frame models of real-time agents on CPUs, through libzamba.

    import zamba
    model = zamba.load("models/zamba2-tales")
    for piece in model.stream("Once upon a time", max_tokens=40):
        print(piece, end="", flush=True)

docs/PYTHON.md describes all of it.
"""
from ._library import library_path, version as __version__
from .backbone import Backbone, BackboneTrainer, Stream, Window
from .errors import (ArgumentError, CancelledError, ClosedError, ContextError, FileError, FormatError, MismatchError,
                     NotFoundError, OutOfMemoryError, UnsupportedError, ZambaError)
from .generation import Chunk, CompletionOutput, Generation, Logprob
from .llm import LLM, EmbeddingRequestOutput, RequestOutput
from .model import Model, ModelInfo, find_model, load
from .sampling import GuidedDecodingParams, SamplingParams, StructuredOutputsParams
from .sequence import Sequence
from .tokenizer import Chat, Tokenizer
from .train import Dataset, Trainer

__all__ = [
    "ArgumentError", "Backbone", "BackboneTrainer", "CancelledError", "Chat", "Chunk", "ClosedError", "CompletionOutput",
    "ContextError", "Dataset", "EmbeddingRequestOutput", "FileError", "FormatError", "Generation", "GuidedDecodingParams",
    "LLM", "Logprob", "MismatchError", "Model", "ModelInfo", "NotFoundError", "OutOfMemoryError", "RequestOutput",
    "SamplingParams", "Sequence", "Stream", "StructuredOutputsParams", "Tokenizer", "Trainer", "UnsupportedError",
    "Window", "ZambaError", "__version__", "find_model", "library_path", "load",
]
