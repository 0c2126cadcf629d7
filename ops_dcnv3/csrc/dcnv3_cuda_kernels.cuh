// The CUDA kernels of DCNv3, free of PyTorch: forward, gradient of offset and mask, gradient of the input.
//
// All three first turn offsets and masks into samples in shared memory, each sample once for all the channels of its
// group, and then run over the channels. Locations are computed as in the PyTorch implementation.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace ops_dcnv3 {

// -- a call -------------------------------------------------------------------------------------------------------

// Division by a number that is known only at run time, for 0 <= value < 2^16 and 0 < by < 2^16.
struct Divisor {
  uint32_t by, magic;  // magic = ceil(2^32 / by); 0 for by = 1
  __host__ __device__ explicit Divisor(int value = 1) : by(value), magic(value == 1 ? 0 : uint32_t((0xffffffffu / by) + 1)) {}
  __host__ __device__ int quotient(int value) const {
    return magic ? int((uint64_t(uint32_t(value)) * magic) >> 32) : value;
  }
};

struct Shape {
  int batch, height, width, out_h, out_w;
  int channels, groups, group_width, points;  // channels = groups * group_width
  int stride_h, stride_w, dilation_h, dilation_w;
  int reach_h, reach_w;      // from the kernel's first point to its middle
  int middle_h, middle_w;    // middle of the kernel at output position 0
  int left_out;              // kernel point without a sample, or -1
  Divisor kernel_h, per_group;  // per_group: points
  double offset_scale;
};

// What a block works on: a tile of positions times some groups (or channels, in backward_input).
struct Tile {
  int height, width;        // positions
  Divisor columns;          // width
  Divisor groups;           // groups of one block
  Divisor samples;          // of one position: groups * points
  int slabs;                // blocks side by side that share a tile
  int lanes;                // threads of one group: a power of two, at most 32
  // Of backward_input alone: positions whose samples are held at once, and the window of grad_input in shared
  // memory, by its size and its first pixel relative to where the tile's first kernel middle lies.
  int at_once, window_h, window_w, before_h, before_w;
};

template <class T>
struct Sum {
  using type = float;
};
template <>
struct Sum<double> {
  using type = double;
};
template <class T>
using sum_of = typename Sum<T>::type;

template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T value[V];
};

template <int V, class T>
__device__ inline void read(const T* at, sum_of<T> (&to)[V]) {
  const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(at);
#pragma unroll
  for (int i = 0; i < V; ++i) to[i] = static_cast<sum_of<T>>(pack.value[i]);
}

template <int V, class T>
__device__ inline void write(T* at, const sum_of<T> (&from)[V]) {
  Pack<T, V> pack;
#pragma unroll
  for (int i = 0; i < V; ++i) pack.value[i] = static_cast<T>(from[i]);
  *reinterpret_cast<Pack<T, V>*>(at) = pack;
}

// -- where the samples lie ----------------------------------------------------------------------------------------

template <class A>
struct Location {
  int left, top;  // the bilinear cell's upper left pixel; -2 or beyond the image where all of the cell is outside
  A fx, fy;       // fraction of the way to the right column and to the lower row
};

// Products and sums round one by one (no fused multiply-add), as in the PyTorch implementation: a location on a
// pixel must not slip into the next cell.
__device__ inline float place(float offset, float scale, float middle, float grid) {
  return __fadd_rn(__fmul_rn(offset, scale), __fadd_rn(middle, __fmul_rn(grid, scale)));
}
__device__ inline double place(double offset, double scale, double middle, double grid) {
  return __dadd_rn(__dmul_rn(offset, scale), __dadd_rn(middle, __dmul_rn(grid, scale)));
}

template <class A>
__device__ inline Location<A> locate(const Shape& s, int out_y, int out_x, int point, A move_x, A move_y) {
  point += s.left_out >= 0 && point >= s.left_out;
  const int i = s.kernel_h.quotient(point), j = point - i * int(s.kernel_h.by);  // points run column by column
  const A scale = A(s.offset_scale);
  A x = place(move_x, scale, A(out_x) * A(s.stride_w) + A(s.middle_w), A(i * s.dilation_w - s.reach_w));
  A y = place(move_y, scale, A(out_y) * A(s.stride_h) + A(s.middle_h), A(j * s.dilation_h - s.reach_h));
  // Two pixels outside, a whole cell lies outside. A NaN compares false and goes there too.
  x = x > A(-2) ? x : A(-2);
  y = y > A(-2) ? y : A(-2);
  x = x < A(s.width) ? x : A(s.width);
  y = y < A(s.height) ? y : A(s.height);
  Location<A> found;
  found.left = int(floor(x));
  found.top = int(floor(y));
  found.fx = x - A(found.left);
  found.fy = y - A(found.top);
  return found;
}

// Which of a cell's columns (or rows) lie inside `size`: bit 0 the first, bit 1 the second.
__device__ inline int inside(int first, int size) {
  return (first >= 0 && first < size) | (first + 1 >= 0 && first + 1 < size) << 1;
}

// A cell with mask and bilinear weights, folded onto the pixels that exist: a column (row) outside the image has
// weight zero and the address of the one beside it, so nothing has to be asked when values are read.
constexpr uint32_t kRight = 1, kDown = 2, kInWindow = 4;  // there is a second column, a second row
constexpr int kFlagBits = 4;

template <class A>
struct alignas(16) Weighted {
  A upper, lower;  // mask times the weight of the row
  A fx;            // share of the right column
  uint32_t cell;   // pixel << kFlagBits | flags
};

template <class A>
__device__ inline Weighted<A> weigh(const Shape& s, const Location<A>& at, A mask, int& row, int& column) {
  Weighted<A> w;
  const int across = inside(at.left, s.width), along = inside(at.top, s.height);
  const A kept = across == 3 ? A(1) : across == 1 ? A(1) - at.fx : across == 2 ? at.fx : A(0);
  const A lower = at.fy * mask;
  w.upper = (along & 1) ? (mask - lower) * kept : A(0);
  w.lower = (along & 2) ? lower * kept : A(0);
  w.fx = across == 3 ? at.fx : A(0);
  column = at.left < 0 ? 0 : at.left < s.width ? at.left : s.width - 1;
  row = at.top < 0 ? 0 : at.top < s.height ? at.top : s.height - 1;
  // With one row alone its weight must lie where the address is: on the first row.
  if (along != 3) w.upper += w.lower, w.lower = A(0);
  w.cell = (across == 3 ? kRight : 0) | (along == 3 ? kDown : 0);
  return w;
}

// -- blocks -------------------------------------------------------------------------------------------------------

// Where a block is: blockIdx.x runs over slabs and then tile columns, y over tile rows, z over images.
struct Corner {
  int slab, y, x;
};
__device__ inline Corner corner_of(const Tile& tile, int tile_row) {
  return {int(blockIdx.x % tile.slabs), tile_row * tile.height, int(blockIdx.x / tile.slabs) * tile.width};
}

extern __shared__ char shared_memory[];

// Calls body(place in shared memory, group, output y and x, index of the position, kernel point) for the samples of
// `count` positions of the tile from `first` on, divided among the block's threads.
template <class Body>
__device__ inline void over_samples(
    const Shape& s, const Tile& tile, const Corner& corner, int image, int first_group, int first, int count,
    const Body& body) {
  const int all = count * int(tile.samples.by);
  for (int k = threadIdx.x; k < all; k += blockDim.x) {
    const int place = tile.samples.quotient(k), rest = k - place * int(tile.samples.by);
    const int group = s.per_group.quotient(rest), point = rest - group * s.points;
    const int row = tile.columns.quotient(first + place), column = first + place - row * tile.width;
    const int y = corner.y + row, x = corner.x + column;
    if (y >= s.out_h || x >= s.out_w || first_group + group >= s.groups) continue;
    const int64_t position = (int64_t(image) * s.out_h + y) * s.out_w + x;
    body(k, first_group + group, y, x, position, point);
  }
}

// Calls body(place of its samples in shared memory, index of the position, group) for the pairs of position and
// group of the calling thread. All lanes of a pair get the same ones.
template <class Body>
__device__ inline void over_pairs(const Shape& s, const Tile& tile, const Corner& corner, int image, const Body& body) {
  const int first = threadIdx.x / tile.lanes, step = blockDim.x / tile.lanes;
  const int all = tile.height * tile.width * int(tile.groups.by);
  for (int pair = first; pair < all; pair += step) {
    const int place = tile.groups.quotient(pair), group = pair - place * int(tile.groups.by);
    const int row = tile.columns.quotient(place), column = place - row * tile.width;
    const int y = corner.y + row, x = corner.x + column, at = corner.slab * int(tile.groups.by) + group;
    if (y >= s.out_h || x >= s.out_w || at >= s.groups) continue;
    body(pair * s.points, (int64_t(image) * s.out_h + y) * s.out_w + x, at);
  }
}

// -- forward ------------------------------------------------------------------------------------------------------

template <class T, int V>
__global__ void __launch_bounds__(256, V == 8 ? 3 : 4) forward(
    const Shape s, const Tile tile, const T* __restrict__ input, const T* __restrict__ offset,
    const T* __restrict__ mask, T* __restrict__ output) {
  using A = sum_of<T>;
  auto* samples = reinterpret_cast<Weighted<A>*>(shared_memory);
  const int64_t line = int64_t(s.width) * s.channels;
  for (int image = blockIdx.z; image < s.batch; image += gridDim.z)
    for (int tile_row = blockIdx.y; tile_row * tile.height < s.out_h; tile_row += gridDim.y) {
      const Corner corner = corner_of(tile, tile_row);
      const int first_group = corner.slab * int(tile.groups.by);
      __syncthreads();  // the samples of the round before are no longer needed
      over_samples(
          s, tile, corner, image, first_group, 0, tile.height * tile.width,
          [&](int k, int group, int y, int x, int64_t position, int point) {
            const int64_t at = (position * s.groups + group) * s.points + point;
            A move[2];
            read<2>(offset + 2 * at, move);
            int row, column;
            Weighted<A> w = weigh(s, locate(s, y, x, point, move[0], move[1]), A(mask[at]), row, column);
            w.cell |= uint32_t(row * s.width + column) << kFlagBits;
            samples[k] = w;
          });
      __syncthreads();
      over_pairs(s, tile, corner, image, [&](int first, int64_t position, int group) {
        const T* from = input + (int64_t(image) * s.height * s.width) * s.channels + group * s.group_width;
        T* to = output + position * s.channels + group * s.group_width;
        for (int c = (threadIdx.x % tile.lanes) * V; c < s.group_width; c += tile.lanes * V) {
          A sum[V] = {};
#pragma unroll 3
          for (int p = 0; p < s.points; ++p) {
            const Weighted<A> w = samples[first + p];
            const T* upper = from + int64_t(w.cell >> kFlagBits) * s.channels + c;
            const T* lower = upper + (w.cell & kDown ? line : 0);
            const int right = w.cell & kRight ? s.channels : 0;
            A a[V], b[V], d[V], e[V];
            read<V>(upper, a);
            read<V>(upper + right, b);
            read<V>(lower, d);
            read<V>(lower + right, e);
            const A upper_right = w.upper * w.fx, lower_right = w.lower * w.fx;
            const A upper_left = w.upper - upper_right, lower_left = w.lower - lower_right;
#pragma unroll
            for (int i = 0; i < V; ++i)
              sum[i] += upper_left * a[i] + upper_right * b[i] + lower_left * d[i] + lower_right * e[i];
          }
          write<V>(to + c, sum);
        }
      });
    }
}

// -- gradient of offset and mask ----------------------------------------------------------------------------------

// A cell as it is, with what its derivative needs; later its gradients, in the same place.
template <class A>
struct alignas(16) Cell {
  A fx, fy, mask;
  uint32_t cell;  // pixel of the first corner inside << kFlagBits | rows inside << 2 | columns inside
};

template <class T, int V>
__global__ void __launch_bounds__(256, V == 8 ? 3 : 4) backward_samples(
    const Shape s, const Tile tile, const T* __restrict__ grad, const T* __restrict__ input,
    const T* __restrict__ offset, const T* __restrict__ mask, T* __restrict__ grad_offset, T* __restrict__ grad_mask) {
  using A = sum_of<T>;
  auto* samples = reinterpret_cast<Cell<A>*>(shared_memory);
  const int64_t line = int64_t(s.width) * s.channels;
  const A scale = A(s.offset_scale);
  // Lanes of other pairs in the same warp may be elsewhere; a pair's own lanes always run together.
  const unsigned pair_lanes = tile.lanes == 32 ? 0xffffffffu : ((1u << tile.lanes) - 1)
                                                                   << (threadIdx.x % 32 / tile.lanes * tile.lanes);
  for (int image = blockIdx.z; image < s.batch; image += gridDim.z)
    for (int tile_row = blockIdx.y; tile_row * tile.height < s.out_h; tile_row += gridDim.y) {
      const Corner corner = corner_of(tile, tile_row);
      const int first_group = corner.slab * int(tile.groups.by), places = tile.height * tile.width;
      __syncthreads();
      over_samples(
          s, tile, corner, image, first_group, 0, places,
          [&](int k, int group, int y, int x, int64_t position, int point) {
            const int64_t at = (position * s.groups + group) * s.points + point;
            A move[2];
            read<2>(offset + 2 * at, move);
            const Location<A> found = locate(s, y, x, point, move[0], move[1]);
            const int row = max(found.top, 0), column = max(found.left, 0);
            const int across = inside(found.left, s.width), along = inside(found.top, s.height);
            const uint32_t pixel = across && along ? uint32_t(row * s.width + column) : 0;
            samples[k] = {found.fx, found.fy, A(mask[at]), pixel << kFlagBits | (across && along ? along << 2 | across : 0)};
          });
      __syncthreads();
      over_pairs(s, tile, corner, image, [&](int first, int64_t position, int group) {
        const T* from = input + (int64_t(image) * s.height * s.width) * s.channels + group * s.group_width;
        const T* arriving = grad + position * s.channels + group * s.group_width;
        const int lane = threadIdx.x % tile.lanes;
        for (int p = 0; p < s.points; ++p) {
          const Cell<A> cell = samples[first + p];
          const bool left = cell.cell & 1, right = cell.cell & 2, top = cell.cell & 4, bottom = cell.cell & 8;
          const T* upper = from + int64_t(cell.cell >> kFlagBits) * s.channels;
          const T* lower = upper + (top ? line : 0);
          const int step = left ? s.channels : 0;
          A dots[4] = {};
          for (int c = lane * V; c < s.group_width; c += tile.lanes * V) {
            A g[V], value[4][V] = {};
            read<V>(arriving + c, g);
            if (top && left) read<V>(upper + c, value[0]);
            if (top && right) read<V>(upper + step + c, value[1]);
            if (bottom && left) read<V>(lower + c, value[2]);
            if (bottom && right) read<V>(lower + step + c, value[3]);
#pragma unroll
            for (int k = 0; k < 4; ++k)
#pragma unroll
              for (int i = 0; i < V; ++i) dots[k] += g[i] * value[k][i];
          }
          // The three gradients are linear in the dots, so the lanes need to be summed only now.
          const A upper_step = dots[1] - dots[0], lower_step = dots[3] - dots[2];
          const A upper_dot = dots[0] + cell.fx * upper_step, lower_dot = dots[2] + cell.fx * lower_step;
          A along_x = upper_step + cell.fy * (lower_step - upper_step), along_y = lower_dot - upper_dot;
          A of_mask = upper_dot + cell.fy * along_y;
          for (int other = tile.lanes / 2; other; other /= 2) {
            along_x += __shfl_xor_sync(pair_lanes, along_x, other);
            along_y += __shfl_xor_sync(pair_lanes, along_y, other);
            of_mask += __shfl_xor_sync(pair_lanes, of_mask, other);
          }
          // All of the pair's lanes have read the cell before the shuffles.
          if (lane == 0) samples[first + p] = {along_x * cell.mask * scale, along_y * cell.mask * scale, of_mask, 0};
        }
      });
      __syncthreads();
      over_samples(
          s, tile, corner, image, first_group, 0, places,
          [&](int k, int group, int, int, int64_t position, int point) {
            const int64_t at = (position * s.groups + group) * s.points + point;
            const A pair[2] = {samples[k].fx, samples[k].fy};
            write<2>(grad_offset + 2 * at, pair);
            grad_mask[at] = T(samples[k].mask);
          });
    }
}

// -- gradient of the input ----------------------------------------------------------------------------------------

// A block is one warp; each lane owns one channel of a window of grad_input in shared memory and so adds there
// without atomics. At the end the window is added to grad_input, atomically, since windows overlap. What falls
// outside the window is added to grad_input at once. `grad_input` is of the summing type.
template <class T>
__global__ void __launch_bounds__(32) backward_input(
    const Shape s, const Tile tile, const T* __restrict__ grad, const T* __restrict__ offset,
    const T* __restrict__ mask, sum_of<T>* __restrict__ grad_input) {
  using A = sum_of<T>;
  const int pixels = tile.window_h * tile.window_w;
  A* const window = reinterpret_cast<A*>(shared_memory);
  auto* samples = reinterpret_cast<Weighted<A>*>(shared_memory + pixels * 32 * sizeof(A));
  const int lane = threadIdx.x;
  for (int image = blockIdx.z; image < s.batch; image += gridDim.z)
    for (int tile_row = blockIdx.y; tile_row * tile.height < s.out_h; tile_row += gridDim.y) {
      const Corner corner = corner_of(tile, tile_row);
      const int first_channel = corner.slab * 32, channel = first_channel + lane;
      const int first_group = first_channel / s.group_width;
      const bool active = channel < s.channels;
      const int my_samples = (active ? channel / s.group_width - first_group : 0) * s.points;
      const int top = corner.y * s.stride_h + s.middle_h - tile.before_h;
      const int left = corner.x * s.stride_w + s.middle_w - tile.before_w;
      A* const whole = grad_input + int64_t(image) * s.height * s.width * s.channels + channel;
      for (int i = 0; i < pixels; ++i) window[i * 32 + lane] = A(0);
      const int places = tile.height * tile.width;
      for (int first = 0; first < places; first += tile.at_once) {
        const int count = min(tile.at_once, places - first);
        __syncwarp();
        over_samples(
            s, tile, corner, image, first_group, first, count,
            [&](int k, int group, int y, int x, int64_t position, int point) {
              const int64_t at = (position * s.groups + group) * s.points + point;
              A move[2];
              read<2>(offset + 2 * at, move);
              int row, column;
              Weighted<A> w = weigh(s, locate(s, y, x, point, move[0], move[1]), A(mask[at]), row, column);
              const int down = row - top, across = column - left;
              const bool held = down >= 0 && across >= 0 && down + ((w.cell & kDown) != 0) < tile.window_h &&
                                across + ((w.cell & kRight) != 0) < tile.window_w;
              const int pixel = held ? down * tile.window_w + across : row * s.width + column;
              w.cell |= uint32_t(pixel) << kFlagBits | (held ? kInWindow : 0);
              samples[k] = w;
            });
        __syncwarp();
        for (int place = 0; place < count; ++place) {
          const int row = tile.columns.quotient(first + place), column = first + place - row * tile.width;
          const int y = corner.y + row, x = corner.x + column;
          if (y >= s.out_h || x >= s.out_w || !active) continue;
          const A g = A(grad[((int64_t(image) * s.out_h + y) * s.out_w + x) * s.channels + channel]);
          const Weighted<A>* mine = samples + place * int(tile.samples.by) + my_samples;
          for (int p = 0; p < s.points; ++p) {
            const Weighted<A> w = mine[p];
            const A upper = w.upper * g, lower = w.lower * g;
            const A upper_right = upper * w.fx, lower_right = lower * w.fx;
            const bool right = w.cell & kRight, down = w.cell & kDown;
            if (w.cell & kInWindow) {
              A* const at = window + (w.cell >> kFlagBits) * 32 + lane;
              A* const below = at + tile.window_w * 32;
              const A a = at[0], b = right ? at[32] : A(0), d = down ? below[0] : A(0);
              const A e = right && down ? below[32] : A(0);
              at[0] = a + (upper - upper_right);
              if (right) at[32] = b + upper_right;
              if (down) below[0] = d + (lower - lower_right);
              if (right && down) below[32] = e + lower_right;
            } else if (upper != A(0) || lower != A(0)) {
              A* const at = whole + int64_t(w.cell >> kFlagBits) * s.channels;
              A* const below = at + int64_t(s.width) * s.channels;
              atomicAdd(at, upper - upper_right);
              if (right) atomicAdd(at + s.channels, upper_right);
              if (down) atomicAdd(below, lower - lower_right);
              if (right && down) atomicAdd(below + s.channels, lower_right);
            }
          }
        }
      }
      if (active)
        for (int row = 0, i = lane; row < tile.window_h; ++row)
          for (int column = 0; column < tile.window_w; ++column, i += 32) {
            const int y = top + row, x = left + column;
            const A value = window[i];
            if (value != A(0) && y >= 0 && y < s.height && x >= 0 && x < s.width)
              atomicAdd(whole + (int64_t(y) * s.width + x) * s.channels, value);
          }
    }
}

}  // namespace ops_dcnv3
