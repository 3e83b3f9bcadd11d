"""An out-of-memory error of training, with the configuration keys that lower memory."""

from contextlib import contextmanager

from afmp.errors import AfmpError, is_out_of_memory, one_line


@contextmanager
def name_sizes_when_out_of_memory():
    """Raise AfmpError with the sizes to lower if memory runs out inside this block."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = ". ".join(one_line(error).split(". ")[:2])
        raise AfmpError(
            f"memory ran out in training ({reason}); lower training/batch_size, model/d_model, model/num_layers or "
            "dataset/image_size, or let nothing else use the device, then run this again."
        ) from None
