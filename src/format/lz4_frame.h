/* LZ4 frames, unpacked (github.com/lz4/lz4, the pages on the frame and the block format): what Feather files are packed with unless they are
 * told otherwise. A frame's checksums are passed over. */
#ifndef COHORT_FORMAT_LZ4_FRAME_H
#define COHORT_FORMAT_LZ4_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A byte becomes at most this many. */
enum { LZ4_MOST = 255 };

/* Unpacks one frame into exactly unpacked bytes; false: it is no such frame. */
bool lz4_frame_unpack(const uint8_t *bytes, size_t length, uint8_t *to, size_t unpacked);

#endif
