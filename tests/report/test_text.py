# SPDX-License-Identifier: Apache-2.0
"""The lines around the report."""

import pytest

from ipu_utils.config.run_config import RunConfig
from ipu_utils.measure.objects import Objects
from ipu_utils.report import text


@pytest.mark.parametrize(
    "options, told",
    [
        ({"requests_in_flight": 1}, "5 requests, one at a time"),
        ({"requests_in_flight": 4}, "5 requests, 4 in flight"),
        (
            {"requests_in_flight": 2, "arrival_rate": 12.5, "seed": 7},
            "5 requests, Poisson arrivals at 12.5 a second (seed 7), latency from the planned arrival, "
            "at most 2 under way",
        ),
    ],
)
def test_the_report_says_how_requests_came(options, told):
    config = RunConfig.from_options({"device": "cpu", "num_repeats": 5, **options}, "embedded")
    assert text.describe_arrivals(config) == told


@pytest.mark.parametrize(
    "objects, told",
    [
        (Objects(300.0, 99.5, 10), "objects:   300.0 candidates and 99.5 detections an image (mean of 10)"),
        (Objects(None, 99.5, 10), "objects:   99.5 detections an image (mean of 10)"),
        (Objects(None, 0.0, 0), "objects:   no outputs with synthetic data"),
    ],
)
def test_the_report_says_how_much_there_was_to_suppress(objects, told):
    assert text.describe_objects(objects) == told
