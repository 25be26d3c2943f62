# SPDX-License-Identifier: Apache-2.0
"""What `mutation.py` draws its changes from: files that belong together, with the tests that belong to them."""

from typing import NamedTuple, Sequence


class Area(NamedTuple):
    """Files that belong together, and the tests that belong to them, the quickest first.

    `make` builds what the tests need; `command` is a test that is no pytest and runs first.
    """

    name: str
    files: Sequence[str]
    count: int
    tests: Sequence[str]
    make: Sequence[str] = ()
    command: Sequence[str] = ()


NATIVE_TESTS = (
    "sh",
    "-c",
    "for name in test_host test_calls; do"
    " make -s -C NMS/tests build/$name SANITIZERS= && NMS/tests/build/$name || exit 1; done",
)
AREAS = (
    Area(
        "network",
        (
            "tf2/efficientdet_keras.py",
            "tf2/fpn_configs.py",
            "tf2/util_keras.py",
            "backbone/*.py",
            "utils.py",
            "ipu_utils/base/image_size.py",
        ),
        24,
        ("tests/network/test_backbone_blocks.py", "tests/network/test_golden.py", "tests/network/test_network.py"),
    ),
    Area(
        "post-processing",
        (
            "tf2/postprocess.py",
            "tf2/candidates.py",
            "tf2/suppression.py",
            "tf2/anchors.py",
            "ipu_utils/nms/anchors.py",
            "ipu_utils/nms/nms_settings.py",
            "nms_np.py",
            "ipu_automl_io.py",
        ),
        30,
        (
            "tests/network/test_anchors.py",
            "tests/nms/test_nms_np.py",
            "tests/network/test_preprocess.py",
            "tests/network/test_visualize.py",
            "tests/nms/test_postprocess.py",
        ),
    ),
    Area(
        "resizing",
        ("ipu_utils/data/resize.py", "ipu_utils/config/normalisation.py", "dataloader.py"),
        14,
        ("tests/data/test_resize.py", "tests/network/test_preprocess.py", "tests/network/test_input_shapes.py"),
    ),
    Area(
        "weights",
        ("ipu_utils/model/checkpoint*.py", "ipu_utils/model/weights_text.py"),
        20,
        (
            "tests/model/test_weights_text.py",
            "tests/model/test_object_graph.py",
            "tests/model/test_checkpoints_of_automl.py",
            "tests/model/test_hdf5.py",
            "tests/model/test_checkpoint.py",
            "tests/model/test_checkpoint_forms.py",
        ),
    ),
    Area(
        "coordinates",
        ("ipu_utils/outputs/coco*.py", "ipu_utils/outputs/annotated.py", "visualize/*.py", "tf2/label_util.py"),
        24,
        (
            "tests/network/test_label_util.py",
            "tests/outputs/test_annotated.py",
            "tests/network/test_visualize.py",
            "tests/outputs/test_coco_annotations.py",
            "tests/outputs/test_coco.py",
        ),
    ),
    Area(
        "statistics",
        ("ipu_utils/measure/statistics.py", "ipu_utils/measure/throughput.py", "ipu_utils/measure/requests.py"),
        14,
        ("tests/measure/test_statistics.py", "tests/measure/test_throughput.py", "tests/measure/test_requests.py"),
    ),
    Area(
        "C++ arithmetic",
        ("NMS/nms_core.hpp", "NMS/detect_core.hpp"),
        10,
        ("tests/nms/test_nms_detect.py", "tests/nms/test_nms.py"),
        make=("-C", "NMS/host"),
        command=NATIVE_TESTS,
    ),
    Area(
        "C++ core",
        (
            "NMS/nms_core.hpp",
            "NMS/host/pipeline.cpp",
            "NMS/host/scan.cpp",
            "NMS/host/scan.hpp",
            "NMS/host/select.hpp",
            "NMS/host/threads.hpp",
            "NMS/host/types.hpp",
            "NMS/host/libdetect.cpp",
            "NMS/host/aligned.hpp",
        ),
        24,
        ("tests/nms/test_nms_detect.py", "tests/outputs/test_many_detections.py"),
        make=("-C", "NMS/host"),
        command=NATIVE_TESTS,
    ),
    Area(
        "C++ operators",
        ("NMS/host/detect_ops.cpp", "NMS/host/nms_op.cpp", "NMS/host/op_support.hpp"),
        10,
        ("tests/nms/test_nms_detect.py", "tests/nms/test_nms.py"),
        make=("-C", "NMS/host"),
    ),
)
