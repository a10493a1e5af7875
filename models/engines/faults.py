"""What went wrong on the device: is there too little memory, or is the device lost for this process?"""

from __future__ import annotations

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the device, or the machine, had no memory left: less work at once may do."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU allocator has no exception of its own.
    return isinstance(error, RuntimeError) and "you tried to allocate" in str(error)


def is_device_lost(error: BaseException) -> bool:
    """Return whether nothing on the device can be trusted any more: after such an error every call to CUDA fails."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, torch.AcceleratorError) or (
        isinstance(error, RuntimeError) and str(error).startswith(("CUDA error", "cuDNN error", "CUBLAS_STATUS"))
    )
