"""What is used of transformers' classes, imported without what this process has no use for.

transformers imports scikit-learn wherever it is installed, for a curve of its assisted generation, and scipy's
optimizers, for losses of object detection: nothing here uses either. MLflow and statistics need them installed, and
each process that loads a model would pay a second of CPU for them. It imports torch, and with it all that models are
made of, to read a config or a tokenizer too: three more seconds, which a process spares that only controls
(:mod:`orchestrator.job.controllers`). So transformers asks whether they are there, and remembers the answer, while they
cannot be found. Where it was imported before this module, it found them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from orchestrator.job.controllers import controls
from orchestrator.job.imports import hidden


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers does not warn that it has no models."""
    name = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


with ExitStack() as looking:
    looking.enter_context(hidden("sklearn"))
    looking.enter_context(hidden("scipy"))
    if controls():
        looking.enter_context(hidden("torch"))
        looking.enter_context(_quiet())
    import transformers
    from transformers.utils import is_scipy_available, is_sklearn_available, is_torch_available

    is_torch_available()
    is_sklearn_available()
    is_scipy_available()

if TYPE_CHECKING:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING as MODEL_FOR_CAUSAL_LM_MAPPING
    from transformers import AutoConfig as AutoConfig
    from transformers import AutoModelForCausalLM as AutoModelForCausalLM
    from transformers import AutoModelForImageTextToText as AutoModelForImageTextToText
    from transformers import AutoTokenizer as AutoTokenizer
    from transformers import GenerationConfig as GenerationConfig
    from transformers import PretrainedConfig as PretrainedConfig
    from transformers import PreTrainedTokenizerBase as PreTrainedTokenizerBase
    from transformers import Qwen2Config as Qwen2Config
    from transformers import Qwen2Tokenizer as Qwen2Tokenizer
else:

    def __getattr__(name: str) -> Any:
        """Each is imported when it is asked for: those of models take longest."""
        return getattr(transformers, name)
