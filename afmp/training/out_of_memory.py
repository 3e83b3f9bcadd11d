"""The out-of-memory error of training, with the configuration keys that lower memory."""

from contextlib import contextmanager

from afmp.errors import AfmpError, is_out_of_memory, one_line


@contextmanager
def name_sizes_when_out_of_memory():
    """Raise AfmpError with the sizes to lower if this block runs out of memory."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = ". ".join(one_line(error).split(". ")[:2])
        raise AfmpError(
            f"training ran out of memory ({reason}); lower training/batch_size, model/d_model, model/num_layers or "
            "dataset/image_size, or let nothing else use the device, then run this again."
        ) from None
