# SPDX-License-Identifier: Apache-2.0
"""The end of a run, of either script: what was found out is published, and the lines behind the report."""

from typing import Optional

from ipu_utils.base.console import status_of
from ipu_utils.config.run_config import RunConfig
from ipu_utils.data.sources import ImageSource
from ipu_utils.executable.model_info import ModelInfo
from ipu_utils.measure.objects import Objects
from ipu_utils.outputs.writers import Outputs
from ipu_utils.report import text
from ipu_utils.report.publish import Publisher
from ipu_utils.report.result import Outcome


def conclude(
    config: RunConfig,
    results: Publisher,
    outcome: Outcome,
    source: ImageSource,
    objects: Objects,
    start_up: str,
    info: ModelInfo,
    writer: Optional[Outputs],
) -> int:
    """Publish the outcome, say what the statistics leave out (`start_up`: to get going), and return the exit status."""
    results.publish(outcome, source, None if writer is None else writer.accuracy)
    print(text.describe_objects(objects))
    print(start_up)
    if info.random:
        print(text.describe_random_weights(info))
    if writer is not None:
        print(writer.report())
    # All have the same status, and none before the first one is done: mpirun may end all when one ends.
    skipped = {name: why for found in results.instances.gather_objects(source.skipped) for name, why in found.items()}
    print(text.describe_skipped(skipped) + source.left_out.describe(), end="")
    return status_of(skipped, config.data.skip_bad_images)
