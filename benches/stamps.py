"""How the originals are timed without a change of their files. Needs torch."""
import time

import torch


def on_cpu():
    """They move everything to a GPU; here that is where everything is already."""
    torch.Tensor.cuda = lambda self, *_: self
    torch.nn.Module.cuda = lambda self, *_: self


def stamped(owner, name, times, stop_after=None):
    """Notes when each call of owner.name begins and ends."""
    method = getattr(owner, name)

    def timed(*args, **kwargs):
        began = time.perf_counter()
        result = method(*args, **kwargs)
        times.append((began, time.perf_counter()))
        if len(times) == stop_after:
            raise StopIteration
        return result

    setattr(owner, name, timed)


def between(times):
    ends = [end for _, end in times]
    return [1000 * (b - a) for a, b in zip(ends, ends[1:])]
