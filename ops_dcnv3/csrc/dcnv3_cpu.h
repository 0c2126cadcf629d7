// What the CPU kernels and their callers share: one call's shape and pointers, and the table of loops that each
// instruction set fills in. Plain data alone: dcnv3_cpu_loops.cpp is compiled once per instruction set, and code
// from a shared header could end up in a version that the processor does not have.
#pragma once

#include <stdint.h>

namespace ops_dcnv3 {

struct Shape {
  int64_t batch, height, width, channels;  // of the input
  int64_t out_h, out_w;
  int64_t stride_h, stride_w;
  int64_t groups, points, group_width;  // channels = groups * group_width
};

// Positions are worked on in chunks of this many; no chunk spans two images.
constexpr int64_t kChunk = 16;
// Channels that are handled at once, at most: four of the widest vectors.
constexpr int64_t kMostChannels = 64;

template <class T>
struct Call {
  Shape shape;
  T offset_scale;
  // Middle of the kernel at output position 0, and the scaled kernel points, once per group.
  T middle_h, middle_w;
  const T *grid_x, *grid_y;
  const T *input, *offset, *mask, *grad;
  T *output, *grad_input, *grad_offset, *grad_mask;
  // Lowest and highest input row that each chunk of positions reads.
  int32_t *first_row, *last_row;
  const T* zeros;  // kMostChannels of them: what a corner outside the image reads
};

// The part of grad_input that one worker owns, and where it puts what falls outside.
template <class T>
struct Share {
  int64_t image, first_row, end_row, first_group, end_group;
  T* discarded;  // kMostChannels values
};

// Scratch is per thread: scratch_values(shape) values.
template <class T>
struct Loops {
  void (*forward)(const Call<T>&, int64_t first_chunk, int64_t end_chunk, T* scratch);
  void (*backward_samples)(const Call<T>&, int64_t first_chunk, int64_t end_chunk, T* scratch);
  void (*backward_input)(const Call<T>&, const Share<T>&, T* scratch);
};

struct LoopsOfBoth {
  Loops<float> single;
  Loops<double> twice;
};

extern const LoopsOfBoth loops_portable;
extern const LoopsOfBoth loops_avx2;
extern const LoopsOfBoth loops_avx512;

}  // namespace ops_dcnv3
