// How the CUDA kernels cut a call into blocks. Plain arithmetic, free of PyTorch and of the device.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "dcnv3_cuda_kernels.cuh"
#include "dcnv3_settings.h"

namespace ops_dcnv3 {

constexpr int kThreads = 256;
constexpr int kSharedBytes = 48 * 1024;   // what every device gives a block without being asked
constexpr int kSampleBytes = 24 * 1024;   // of them for samples, so that several blocks share a multiprocessor
constexpr int kWindowBytes = 24 * 1024;   // of them for backward_input's window
constexpr int kRoundBytes = 4 * 1024;     // of samples that backward_input holds at once
constexpr int kMargin = 2;                // pixels that offsets may move a sample and still meet the window
constexpr int kMostPoints = (kSharedBytes - kWindowBytes) / sizeof(Weighted<double>);
constexpr int kMostInGrid = 65535;

inline Shape shape_of(int64_t batch, int64_t height, int64_t width, int64_t channels, const Settings& s) {
  Shape shape;
  shape.batch = int(batch);
  shape.height = int(height);
  shape.width = int(width);
  shape.out_h = int(s.out_h(height));
  shape.out_w = int(s.out_w(width));
  shape.channels = int(channels);
  shape.groups = int(s.groups);
  shape.group_width = int(channels / s.groups);
  shape.points = int(s.points());
  shape.stride_h = int(s.stride_h);
  shape.stride_w = int(s.stride_w);
  shape.dilation_h = int(s.dilation_h);
  shape.dilation_w = int(s.dilation_w);
  shape.reach_h = int(s.reach_h());
  shape.reach_w = int(s.reach_w());
  shape.middle_h = int(s.reach_h() - s.padding_h);
  shape.middle_w = int(s.reach_w() - s.padding_w);
  shape.left_out = int(s.left_out());
  shape.kernel_h = Divisor(int(s.kernel_h));
  shape.per_group = Divisor(shape.points);
  shape.offset_scale = s.offset_scale;
  return shape;
}

struct Launch {
  Tile tile;
  int threads, shared_bytes;
  int64_t blocks_x;
  int blocks_y, blocks_z;
};

inline int ceil_div(int64_t a, int64_t b) { return int((a + b - 1) / b); }

inline void fill_grid(const Shape& s, Launch& launch) {
  launch.blocks_x = int64_t(launch.tile.slabs) * ceil_div(s.out_w, launch.tile.width);
  launch.blocks_y = std::min(ceil_div(s.out_h, launch.tile.height), kMostInGrid);
  launch.blocks_z = std::min(s.batch, kMostInGrid);
}

inline void set_positions(Tile& tile, int height, int width) {
  tile.height = height;
  tile.width = width;
  tile.columns = Divisor(width);
}

// For forward and backward_samples: V channels of `value_bytes` per thread, samples of `sample_bytes`. Groups are
// taken together up to 512 bytes of a pixel, which keeps loads of offsets long; positions then fill the block, in a
// tile that is as square as a power of two allows, since neighbours read the same pixels.
inline Launch tiles_of_pairs(const Shape& s, int V, int value_bytes, int sample_bytes) {
  Launch launch;
  Tile& tile = launch.tile;
  tile = Tile();
  const int vectors = s.group_width / V;
  tile.lanes = 1;
  while (tile.lanes < 32 && tile.lanes < vectors) tile.lanes *= 2;
  int together = 1;
  for (int n = 2; n <= s.groups; ++n)
    if (s.groups % n == 0 && int64_t(n) * s.group_width * value_bytes <= 512 && n * tile.lanes <= kThreads &&
        int64_t(n) * s.points * sample_bytes <= kSampleBytes)
      together = n;
  int positions = 1;
  while (positions < 64 && 2 * positions * together * tile.lanes <= kThreads &&
         int64_t(2) * positions * together * s.points * sample_bytes <= kSampleBytes)
    positions *= 2;
  int height = 1;
  while (4 * height * height <= positions) height *= 2;
  set_positions(tile, height, positions / height);
  tile.groups = Divisor(together);
  tile.samples = Divisor(together * s.points);
  tile.slabs = s.groups / together;
  launch.threads = ceil_div(positions * together * tile.lanes, 32) * 32;
  launch.shared_bytes = positions * together * s.points * sample_bytes;
  fill_grid(s, launch);
  return launch;
}

// The window's size along one axis for `positions`, and in `before` how far it reaches back from the first middle.
inline int window_of(
    int positions, int64_t stride, int64_t kernel, int64_t dilation, int64_t reach, double scale, int& before) {
  const double size = std::fabs(scale), last = double(dilation) * (kernel - 1) - reach;
  const double back = std::ceil(size * (scale < 0 ? last : reach));
  const double on = std::ceil(size * (scale < 0 ? reach : last));
  before = int(std::min(back, 1e6)) + kMargin;
  return int(std::min(1e6, double(positions - 1) * stride + back + on + 2 * kMargin + 2));
}

// For backward_input: blocks of 32 channels, and the largest tile whose window fits.
inline Launch tiles_of_windows(const Shape& s, const Settings& set, int sum_bytes, int sample_bytes) {
  Launch launch;
  Tile& tile = launch.tile;
  tile = Tile();
  tile.lanes = 32;
  tile.slabs = ceil_div(s.channels, 32);
  // Groups that 32 channels can touch.
  const int touched = s.group_width % 32 == 0   ? 1
                      : 32 % s.group_width == 0 ? 32 / s.group_width
                                                : 31 / s.group_width + 2;
  const int groups = std::min(touched, s.groups);
  tile.groups = Divisor(groups);
  tile.samples = Divisor(groups * s.points);
  const int shapes[][2] = {{8, 8}, {4, 8}, {4, 4}, {2, 4}, {2, 2}, {1, 1}};
  set_positions(tile, 4, 8);
  for (const auto& [height, width] : shapes) {
    int before_h, before_w;
    const int64_t h = window_of(height, set.stride_h, set.kernel_h, set.dilation_h, set.reach_h(), set.offset_scale, before_h);
    const int64_t w = window_of(width, set.stride_w, set.kernel_w, set.dilation_w, set.reach_w(), set.offset_scale, before_w);
    if (h * w * 32 * sum_bytes > kWindowBytes) continue;
    set_positions(tile, height, width);
    tile.window_h = int(h);
    tile.window_w = int(w);
    tile.before_h = before_h;
    tile.before_w = before_w;
    break;
  }
  const int of_position = groups * s.points * sample_bytes;
  tile.at_once = std::clamp(kRoundBytes / of_position, 1, tile.height * tile.width);
  launch.threads = 32;
  launch.shared_bytes = tile.window_h * tile.window_w * 32 * sum_bytes + tile.at_once * of_position;
  fill_grid(s, launch);
  return launch;
}

}  // namespace ops_dcnv3
