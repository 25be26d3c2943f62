// SPDX-License-Identifier: Apache-2.0
//
// What this library was built for, as text in the file: ipu_utils/nms/libraries.py looks for it before it loads the
// library.

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

extern "C" __attribute__((visibility("default"), used)) const char nms_host_build_record[] =
    "NMS_HOST_BUILD tensorflow=" TEXT(NMS_TF_VERSION) " abi=" TEXT(NMS_TF_ABI) ";";
