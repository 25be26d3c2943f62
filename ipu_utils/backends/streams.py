# SPDX-License-Identifier: Apache-2.0
"""How many batches a host's engine computes side by side, and how many it keeps under way. No TensorFlow.

The devices do what is said here; the memory estimate and the report ask here, too.
"""

from typing import NamedTuple, Optional

from ipu_utils.base import hardware

MOST_STREAMS = 8  # of TensorFlow, unless somebody asks for more
# Of all others: pixels of images that are computed at the same time. Activations grow with them, 2 GB an image
# with the largest model.
MOST_PIXELS = 4 << 20


class Streams(NamedTuple):
    """What a run of the throughput script does at the same time."""

    threads: int  # of all streams together
    streams: int  # batches that are computed side by side
    in_flight: int  # batches under way, each with inputs, activations and outputs of its own

    def __str__(self) -> str:
        return "one stream" if self.streams == 1 else f"{self.streams} streams"


def choose_streams(threads: int, pixels: int) -> int:
    """How many batches of `pixels` pixels are computed side by side: one a thread, as memory allows, at least one.

    A batch on one core needs no waiting between the threads of a layer, of which the small maps of the BiFPN have much.
    """
    return max(1, min(threads, MOST_PIXELS // pixels))


def streams_of(
    engine: str, num_threads: Optional[int] = None, num_streams: Optional[int] = None, pixels: int = 1
) -> Streams:
    """Decide on threads and streams of an engine.

    Args:
      engine: a word of --engine.
      num_threads: of all streams together; None: one a core that this process may use.
      num_streams: batches computed side by side; None: as many as suit the engine.
      pixels: of a batch, rows times columns times images; TensorFlow does not ask.
    """
    threads = num_threads or hardware.usable_cores()
    # Whole batches side by side use cores better than one batch split over them: `benchmarks/engines.py`.
    chosen = min(threads, MOST_STREAMS) if engine in ("tensorflow", "auto") else choose_streams(threads, pixels)
    streams = num_streams or chosen
    if engine in ("litert", "onnxruntime"):
        # A batch is computed in the thread that asks for it: one more would be computed, too.
        return Streams(threads, streams, streams)
    # One more than there are streams: a stream has work while another batch is read or post-processed, and where a
    # graph is narrow.
    return Streams(threads, streams, streams + 1)
