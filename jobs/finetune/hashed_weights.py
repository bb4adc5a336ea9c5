"""Model files that are hashed from the tensors that go into them, since tens of gigabytes are not to be read again.

transformers hands the tensors of each file to safetensors, which writes them past Python. Meanwhile its name for that
function is ours, which hashes the same tensors in the order in which the file's header has them. Where a version of
transformers uses another name nothing breaks: the files are then read, as the tokenizer's are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from transformers import modeling_utils

from orchestrator.store.manifest import remember


@contextmanager
def hashing_weights() -> Iterator[None]:
    """Within it, what ``save_pretrained`` writes of weights is hashed on the way."""
    write = modeling_utils.safe_save_file

    def write_and_hash(tensors: dict[str, Tensor], filename: str, metadata: dict[str, str] | None = None) -> None:
        write(tensors, filename, metadata=metadata)
        _hash(Path(filename), tensors)

    modeling_utils.safe_save_file = write_and_hash
    try:
        yield
    finally:
        modeling_utils.safe_save_file = write


def _hash(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file is the length of its header in 8 bytes, the header, and the tensors' bytes without a gap."""
    with file.open("rb", buffering=0) as start:
        length = start.read(8)
        header = start.read(int.from_bytes(length, "little"))
    content = hashlib.sha256(length + header)
    size = len(length) + len(header)
    offsets = {name: entry["data_offsets"] for name, entry in json.loads(header).items() if name in tensors}
    for name in sorted(offsets, key=lambda name: offsets[name]):
        data = tensors[name].cpu().contiguous().flatten().view(torch.uint8).numpy()
        content.update(data.data)
        size += data.nbytes
    if size == file.stat().st_size:
        remember(file, content.hexdigest())
