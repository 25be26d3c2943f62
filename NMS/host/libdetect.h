/* SPDX-License-Identifier: Apache-2.0
 *
 * Detections from the outputs of the heads, for programs without TensorFlow: plain C, made for ctypes. Data stays where
 * it is: every array is given by its address; one that is not aligned for its type is copied. Types, modes and formulas
 * are those of NMS/nms_core.hpp and detect_core.hpp, and the results are bit for bit those of the TensorFlow operator
 * HostDetect.
 */
#ifndef LIBDETECT_H
#define LIBDETECT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define DETECT_API __attribute__((visibility("default")))
#else
#define DETECT_API
#endif

#define DETECT_INTERFACE 3 /* raised when a structure or function changes its meaning */

enum { DETECT_FLOAT32 = 0, DETECT_FLOAT16 = 1, DETECT_BFLOAT16 = 2, DETECT_INT8 = 3 };
enum { DETECT_BEST_CLASS = 0, DETECT_CLASS_AGNOSTIC = 1, DETECT_MULTI_CLASS = 2 };
enum { DETECT_OK = 0, DETECT_BAD_ARGUMENT = 1, DETECT_OUT_OF_MEMORY = 2, DETECT_BAD_CLASS = 3 };

/* The integers of a quantised output stand for scale * (stored - zero_point). */
typedef struct {
  float scale;        /* above 0, at most 1e36 */
  int32_t zero_point; /* -128 to 127 */
} detect_quantisation;

typedef struct {
  const float *anchors;         /* [sum of level_anchors, 4]: y1, x1, y2, x2 in pixels, finest level first; copied */
  const int64_t *level_anchors; /* [num_levels]: anchors of each level; copied */
  int32_t num_levels;
  int32_t num_classes;
  int32_t mode;
  int32_t max_detections; /* K */
  float iou_threshold;    /* a box goes when its IoU with a kept one is strictly greater */
  float score_threshold;  /* candidates score strictly more */
  float sigma;            /* 0: hard suppression; above 0: Gaussian, iou_threshold plays no part */
  float image_height;     /* boxes are clipped to it */
  float image_width;
  int32_t threads; /* at least 1: how many threads a call may use, its own included */
  /* For DETECT_INT8, else null, both or none: [num_levels], of class_outputs and of box_outputs; copied. Thresholds are
   * compared with, and boxes computed from, what the integers stand for, in float. */
  const detect_quantisation *class_quantisation;
  const detect_quantisation *box_quantisation;
} detect_config;

typedef struct detect_handle detect_handle;

/* The value of DETECT_INTERFACE that the library was built with. */
DETECT_API int32_t detect_interface(void);

/* Returns null and a message in `error` (of `error_size` bytes) when the configuration makes no sense. */
DETECT_API detect_handle *detect_create(const detect_config *config, char *error, int64_t error_size);
DETECT_API void detect_destroy(detect_handle *handle);

/* One batch of N images. May be called by several threads at once on one handle.
 *   class_outputs: num_levels addresses of [N, anchors of the level, num_classes] logits;
 *     with class_ids: of [N, anchors of the level], the greatest logit of each anchor.
 *   class_ids: null, or num_levels addresses of [N, anchors of the level] int32, the class of that logit, from 0 to
 *     num_classes - 1, else DETECT_BAD_CLASS (not in DETECT_MULTI_CLASS).
 *   box_outputs: num_levels addresses of [N, anchors of the level, 4] regressions.
 *   dtype: of class_outputs and box_outputs; DETECT_INT8 where the handle has quantisations.
 *   scales: null, or [N] factors for the clipped boxes.
 * Writes K rows an image: boxes [N, K, 4], scores [N, K], classes [N, K] (one-based; 0 where unused), indices [N, K]
 * (anchor, in DETECT_MULTI_CLASS anchor * num_classes + class; -1 where unused) and lengths [N].
 */
DETECT_API int32_t detect_run(detect_handle *handle, const void *const *class_outputs, const int32_t *const *class_ids,
                              const void *const *box_outputs, int32_t dtype, int64_t batch, const float *scales,
                              float *boxes, float *scores, int32_t *classes, int32_t *indices, int32_t *lengths);

#ifdef __cplusplus
}
#endif

#endif
