// The loops of DCNv3 on a CPU, compiled once per instruction set; DCNV3_LOOPS names the table to fill in.
//
// Output positions are taken one by one. First, all sampling locations of a position become pixel coordinates and
// corner weights, vectorised over groups and points; then each group sums its samples, vectorised over channels.
// Contraction is off in the whole file, so that locations round as the PyTorch implementation's do; sums of
// products ask for a fused multiply-add by name.

#include "dcnv3_cpu.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace ops_dcnv3 {
namespace {

// -- vectors -----------------------------------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

template <class T, int kLanes>
struct Vector {
  typedef T type __attribute__((vector_size(kLanes * sizeof(T))));
  // The same in memory, where it is aligned to a single value.
  typedef T stored __attribute__((vector_size(kLanes * sizeof(T)), aligned(alignof(T)), may_alias));
};
template <class T>
struct Vector<T, 1> {
  typedef T type;
  typedef T stored;
};

template <class T, int kLanes>
using vec = typename Vector<T, kLanes>::type;

template <class T, int kLanes>
inline vec<T, kLanes> load(const T* at) {
  return *reinterpret_cast<const typename Vector<T, kLanes>::stored*>(at);
}

template <class T, int kLanes>
inline void store(T* at, vec<T, kLanes> value) {
  *reinterpret_cast<typename Vector<T, kLanes>::stored*>(at) = value;
}

template <class V>
inline V madd(V a, V b, V c) {
  return a * b + c;
}
#if defined(__FMA__)
inline float madd(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double madd(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline vec<float, 4> madd(vec<float, 4> a, vec<float, 4> b, vec<float, 4> c) { return _mm_fmadd_ps(a, b, c); }
inline vec<double, 2> madd(vec<double, 2> a, vec<double, 2> b, vec<double, 2> c) { return _mm_fmadd_pd(a, b, c); }
inline vec<float, 8> madd(vec<float, 8> a, vec<float, 8> b, vec<float, 8> c) { return _mm256_fmadd_ps(a, b, c); }
inline vec<double, 4> madd(vec<double, 4> a, vec<double, 4> b, vec<double, 4> c) { return _mm256_fmadd_pd(a, b, c); }
#endif
#if defined(__AVX512F__)
inline vec<float, 16> madd(vec<float, 16> a, vec<float, 16> b, vec<float, 16> c) { return _mm512_fmadd_ps(a, b, c); }
inline vec<double, 8> madd(vec<double, 8> a, vec<double, 8> b, vec<double, 8> c) { return _mm512_fmadd_pd(a, b, c); }
#endif

// out[k] += sum of v[k]'s lanes, for the four of them.
template <class T, int kLanes>
inline void add_sums(const vec<T, kLanes> (&v)[4], T* out) {
  if constexpr (kLanes == 1) {
    for (int k = 0; k < 4; ++k) out[k] += v[k];
  } else {
    for (int k = 0; k < 4; ++k) {
      T lane[kLanes];
      __builtin_memcpy(lane, &v[k], sizeof lane);
      for (int half = kLanes / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
      out[k] += lane[0];
    }
  }
}
#if defined(__AVX2__)
template <>
inline void add_sums<float, 8>(const vec<float, 8> (&v)[4], float* out) {
  const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
  const __m128 both = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
  _mm_storeu_ps(out, _mm_add_ps(_mm_loadu_ps(out), both));
}
template <>
inline void add_sums<double, 4>(const vec<double, 4> (&v)[4], double* out) {
  const __m256d first = _mm256_hadd_pd(v[0], v[1]), second = _mm256_hadd_pd(v[2], v[3]);
  const __m256d low = _mm256_permute2f128_pd(first, second, 0x20), high = _mm256_permute2f128_pd(first, second, 0x31);
  _mm256_storeu_pd(out, _mm256_add_pd(_mm256_loadu_pd(out), _mm256_add_pd(low, high)));
}
#endif
#if defined(__AVX512F__)
template <class T, int kLanes>
inline void add_sums_of_halves(const vec<T, kLanes> (&v)[4], T* out) {
  vec<T, kLanes / 2> sums[4];
  for (int k = 0; k < 4; ++k) {
    vec<T, kLanes / 2> halves[2];
    __builtin_memcpy(halves, &v[k], sizeof halves);
    sums[k] = halves[0] + halves[1];
  }
  add_sums<T, kLanes / 2>(sums, out);
}
template <>
inline void add_sums<float, 16>(const vec<float, 16> (&v)[4], float* out) {
  add_sums_of_halves<float, 16>(v, out);
}
template <>
inline void add_sums<double, 8>(const vec<double, 8> (&v)[4], double* out) {
  add_sums_of_halves<double, 8>(v, out);
}
#endif

template <int kLanes>
struct Lanes {};
template <int kVectors>
struct Vectors {};

// Calls body(channel, lanes, vectors) for consecutive channels that cover 0 to width, wide steps first.

template <class T, class Body>
inline void over_channels(int64_t width, const Body& body) {
  constexpr int kWide = kBytes / sizeof(T), kNarrow = kWide > 16 / (int)sizeof(T) ? 16 / sizeof(T) : 1;
  int64_t at = 0;
  for (; width - at >= 4 * kWide; at += 4 * kWide) body(at, Lanes<kWide>(), Vectors<4>());
  if (width - at >= 2 * kWide) body(at, Lanes<kWide>(), Vectors<2>()), at += 2 * kWide;
  if (width - at >= kWide) body(at, Lanes<kWide>(), Vectors<1>()), at += kWide;
  for (; kNarrow > 1 && width - at >= kNarrow; at += kNarrow) body(at, Lanes<kNarrow>(), Vectors<1>());
  for (; at < width; ++at) body(at, Lanes<1>(), Vectors<1>());
}

// -- where the samples lie -----------------------------------------------------------------------------------------

// All samples of one position: groups times points of each.
template <class T>
struct Samples {
  T *fx, *fy;              // fraction of the way to the right column and to the lower row
  T *upper_left, *upper_right, *lower_left, *lower_right;  // bilinear weight times mask
  T* dots;                 // four per sample: the corners' values times the output's gradient
  int32_t *x, *y;          // column and row of the upper left corner
};

template <class T>
inline Samples<T> samples_in(T* scratch, int64_t count) {
  T* at[11];
  for (int k = 0; k < 11; ++k) at[k] = scratch + k * count;
  int32_t* whole = reinterpret_cast<int32_t*>(at[10]);
  // The two coordinates share what is one array of T, or two where T is float.
  return {at[0], at[1], at[2], at[3], at[4], at[5], at[6], whole, whole + count};
}

struct Position {
  int64_t image, y, x, index;
};

// Fills in all but the dots, for samples first to end of one position.
template <class T>
inline void locate(const Call<T>& call, const Position& position, int64_t first, int64_t end, const Samples<T>& s) {
  const Shape& shape = call.shape;
  const int64_t all = shape.groups * shape.points;
  const T* __restrict offset = call.offset + position.index * all * 2;
  const T* __restrict mask = call.mask + position.index * all;
  const T* __restrict grid_x = call.grid_x;
  const T* __restrict grid_y = call.grid_y;
  T *__restrict fx = s.fx, *__restrict fy = s.fy;
  T *__restrict upper_left = s.upper_left, *__restrict upper_right = s.upper_right;
  T *__restrict lower_left = s.lower_left, *__restrict lower_right = s.lower_right;
  int32_t *__restrict left = s.x, *__restrict top = s.y;
  const T middle_x = T(position.x * shape.stride_w) + call.middle_w;
  const T middle_y = T(position.y * shape.stride_h) + call.middle_h;
  const T scale = call.offset_scale, width = T(shape.width), height = T(shape.height);
  for (int64_t i = first; i < end; ++i) {
    T x = offset[2 * i] * scale + (middle_x + grid_x[i]);
    T y = offset[2 * i + 1] * scale + (middle_y + grid_y[i]);
    // Two pixels outside, a whole cell lies outside. A NaN compares false and goes there too.
    x = x > T(-2) ? x : T(-2);
    y = y > T(-2) ? y : T(-2);
    x = x < width ? x : width;
    y = y < height ? y : height;
    // Truncation rounds up where the value is negative.
    int32_t column = int32_t(x), row = int32_t(y);
    column -= T(column) > x;
    row -= T(row) > y;
    const T right = x - T(column), down = y - T(row), weight = mask[i];
    const T lower = down * weight, upper = weight - lower;
    const T lower_part = right * lower, upper_part = right * upper;
    left[i] = column;
    top[i] = row;
    fx[i] = right;
    fy[i] = down;
    upper_left[i] = upper - upper_part;
    upper_right[i] = upper_part;
    lower_left[i] = lower - lower_part;
    lower_right[i] = lower_part;
  }
}

// Calls body(position) for each position of chunks first to end.
template <class T, class Body>
inline void over_positions(const Call<T>& call, int64_t first, int64_t end, const Body& body) {
  const Shape& shape = call.shape;
  const int64_t places = shape.out_h * shape.out_w, chunks = (places + kChunk - 1) / kChunk;
  for (int64_t chunk = first; chunk < end; ++chunk) {
    const int64_t image = chunk / chunks, start = (chunk - image * chunks) * kChunk;
    const int64_t stop = start + kChunk < places ? start + kChunk : places;
    int64_t y = start / shape.out_w, x = start - y * shape.out_w;
    for (int64_t place = start; place < stop; ++place) {
      body(chunk, Position{image, y, x, image * places + place});
      if (++x == shape.out_w) x = 0, ++y;
    }
  }
}

// The four corners of a sample as pointers; the ones that are not in rows first to end point to `outside`.
template <class P>
struct Corners {
  P upper_left, upper_right, lower_left, lower_right;
};

template <class P, class T>
inline Corners<P> corners(
    const Shape& shape, P image, P outside, const Samples<T>& s, int64_t i, int64_t first_row, int64_t end_row) {
  const int64_t x = s.x[i], y = s.y[i], line = shape.width * shape.channels;
  const int64_t at = y * line + x * shape.channels;
  const bool left = uint64_t(x) < uint64_t(shape.width), right = uint64_t(x + 1) < uint64_t(shape.width);
  const bool upper = y >= first_row && y < end_row, lower = y + 1 >= first_row && y + 1 < end_row;
  if (__builtin_expect(left & right & upper & lower, 1)) {
    const P p = image + at;
    return {p, p + shape.channels, p + line, p + line + shape.channels};
  }
  return {
      upper && left ? image + at : outside,
      upper && right ? image + (at + shape.channels) : outside,
      lower && left ? image + (at + line) : outside,
      lower && right ? image + (at + line + shape.channels) : outside,
  };
}

// -- forward -------------------------------------------------------------------------------------------------------

// Sums `points` samples, from `first` on, over kVectors vectors of channels.
template <class T, int kLanes, int kVectors>
inline void sum_samples(const Call<T>& call, const T* image, const Samples<T>& s, int64_t first, T* out) {
  // A sum is a chain of dependent additions: with few vectors, several chains keep the processor busy.
  constexpr int kChains = kVectors == 1 ? 4 : kVectors == 2 ? 4 : 2;
  vec<T, kLanes> sum[kChains][kVectors] = {};
  const Shape& shape = call.shape;
  for (int64_t i = first; i < first + shape.points; ++i) {
    const Corners<const T*> at = corners(shape, image, call.zeros, s, i, 0, shape.height);
    const vec<T, kLanes> zero = {};
    const auto upper_left = zero + s.upper_left[i], upper_right = zero + s.upper_right[i];
    const auto lower_left = zero + s.lower_left[i], lower_right = zero + s.lower_right[i];
    for (int v = 0; v < kVectors; ++v) {
      const int64_t c = v * kLanes;
      auto &a = sum[0][v], &b = sum[1 % kChains][v], &d = sum[2 % kChains][v], &e = sum[3 % kChains][v];
      a = madd(upper_left, load<T, kLanes>(at.upper_left + c), a);
      b = madd(upper_right, load<T, kLanes>(at.upper_right + c), b);
      d = madd(lower_left, load<T, kLanes>(at.lower_left + c), d);
      e = madd(lower_right, load<T, kLanes>(at.lower_right + c), e);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    vec<T, kLanes> total = sum[0][v] + sum[1][v];
    if constexpr (kChains == 4) total += sum[2][v] + sum[3][v];
    store<T, kLanes>(out + v * kLanes, total);
  }
}

template <class T>
void forward(const Call<T>& call, int64_t first_chunk, int64_t end_chunk, T* scratch) {
  const Shape& shape = call.shape;
  const int64_t count = shape.groups * shape.points;
  const Samples<T> samples = samples_in(scratch, count);
  over_positions(call, first_chunk, end_chunk, [&](int64_t, const Position& position) {
    locate(call, position, 0, count, samples);
    const T* image = call.input + position.image * shape.height * shape.width * shape.channels;
    T* out = call.output + position.index * shape.channels;
    for (int64_t group = 0; group < shape.groups; ++group) {
      const int64_t channel = group * shape.group_width;
      over_channels<T>(shape.group_width, [&]<int kLanes, int kVectors>(int64_t c, Lanes<kLanes>, Vectors<kVectors>) {
        sum_samples<T, kLanes, kVectors>(
            call, image + channel + c, samples, group * shape.points, out + channel + c);
      });
    }
  });
}

// -- backward ------------------------------------------------------------------------------------------------------

template <class T, int kLanes, int kVectors>
inline void dot_samples(const Call<T>& call, const T* image, const Samples<T>& s, int64_t first, const T* grad) {
  const Shape& shape = call.shape;
  vec<T, kLanes> g[kVectors];
  for (int v = 0; v < kVectors; ++v) g[v] = load<T, kLanes>(grad + v * kLanes);
  for (int64_t i = first; i < first + shape.points; ++i) {
    const Corners<const T*> at = corners(shape, image, call.zeros, s, i, 0, shape.height);
    vec<T, kLanes> dot[4] = {};
    for (int v = 0; v < kVectors; ++v) {
      const int64_t c = v * kLanes;
      dot[0] = madd(g[v], load<T, kLanes>(at.upper_left + c), dot[0]);
      dot[1] = madd(g[v], load<T, kLanes>(at.upper_right + c), dot[1]);
      dot[2] = madd(g[v], load<T, kLanes>(at.lower_left + c), dot[2]);
      dot[3] = madd(g[v], load<T, kLanes>(at.lower_right + c), dot[3]);
    }
    add_sums<T, kLanes>(dot, s.dots + 4 * i);
  }
}

// Gradients of offset and mask at one position, from the dots.
template <class T>
inline void differentiate(const Call<T>& call, const Position& position, int64_t count, const Samples<T>& s) {
  const T* __restrict mask = call.mask + position.index * count;
  T* __restrict grad_offset = call.grad_offset + position.index * count * 2;
  T* __restrict grad_mask = call.grad_mask + position.index * count;
  const T *__restrict fx = s.fx, *__restrict fy = s.fy, *__restrict dots = s.dots;
  const T scale = call.offset_scale;
  for (int64_t i = 0; i < count; ++i) {
    const T upper_left = dots[4 * i], upper_right = dots[4 * i + 1];
    const T lower_left = dots[4 * i + 2], lower_right = dots[4 * i + 3];
    const T upper = upper_left + fx[i] * (upper_right - upper_left);
    const T lower = lower_left + fx[i] * (lower_right - lower_left);
    const T upper_step = upper_right - upper_left, lower_step = lower_right - lower_left;
    const T weight = mask[i] * scale;
    grad_offset[2 * i] = (upper_step + fy[i] * (lower_step - upper_step)) * weight;
    grad_offset[2 * i + 1] = (lower - upper) * weight;
    grad_mask[i] = upper + fy[i] * (lower - upper);
  }
}

template <class T>
void backward_samples(const Call<T>& call, int64_t first_chunk, int64_t end_chunk, T* scratch) {
  const Shape& shape = call.shape;
  const int64_t count = shape.groups * shape.points;
  const Samples<T> samples = samples_in(scratch, count);
  for (int64_t chunk = first_chunk; chunk < end_chunk; ++chunk) {
    call.first_row[chunk] = INT32_MAX;
    call.last_row[chunk] = INT32_MIN;
  }
  over_positions(call, first_chunk, end_chunk, [&](int64_t chunk, const Position& position) {
    locate(call, position, 0, count, samples);
    int32_t first = call.first_row[chunk], last = call.last_row[chunk];
    for (int64_t i = 0; i < count; ++i) {
      first = samples.y[i] < first ? samples.y[i] : first;
      last = samples.y[i] + 1 > last ? samples.y[i] + 1 : last;
    }
    call.first_row[chunk] = first;
    call.last_row[chunk] = last;
    __builtin_memset(samples.dots, 0, 4 * count * sizeof(T));
    const T* image = call.input + position.image * shape.height * shape.width * shape.channels;
    const T* grad = call.grad + position.index * shape.channels;
    for (int64_t group = 0; group < shape.groups; ++group) {
      const int64_t channel = group * shape.group_width;
      over_channels<T>(shape.group_width, [&]<int kLanes, int kVectors>(int64_t c, Lanes<kLanes>, Vectors<kVectors>) {
        dot_samples<T, kLanes, kVectors>(
            call, image + channel + c, samples, group * shape.points, grad + channel + c);
      });
    }
    differentiate(call, position, count, samples);
  });
}

template <class T, int kLanes, int kVectors>
inline void scatter_samples(
    const Call<T>& call, const Share<T>& share, T* image, const Samples<T>& s, int64_t first, const T* grad) {
  const Shape& shape = call.shape;
  vec<T, kLanes> g[kVectors];
  for (int v = 0; v < kVectors; ++v) g[v] = load<T, kLanes>(grad + v * kLanes);
  for (int64_t i = first; i < first + shape.points; ++i) {
    const Corners<T*> at = corners(shape, image, share.discarded, s, i, share.first_row, share.end_row);
    const vec<T, kLanes> zero = {};
    const vec<T, kLanes> weight[4] = {
        zero + s.upper_left[i], zero + s.upper_right[i], zero + s.lower_left[i], zero + s.lower_right[i]};
    T* const corner[4] = {at.upper_left, at.upper_right, at.lower_left, at.lower_right};
    for (int k = 0; k < 4; ++k)
      for (int v = 0; v < kVectors; ++v) {
        T* const to = corner[k] + v * kLanes;
        store<T, kLanes>(to, madd(weight[k], g[v], load<T, kLanes>(to)));
      }
  }
}

// Each value of grad_input gets its terms in the order of the positions, whatever the shares: the result depends on
// neither their number nor the threads'.
template <class T>
void backward_input(const Call<T>& call, const Share<T>& share, T* scratch) {
  const Shape& shape = call.shape;
  const int64_t count = shape.groups * shape.points;
  const int64_t chunks = (shape.out_h * shape.out_w + kChunk - 1) / kChunk;
  const Samples<T> samples = samples_in(scratch, count);
  T* image = call.grad_input + share.image * shape.height * shape.width * shape.channels;
  for (int64_t chunk = share.image * chunks; chunk < (share.image + 1) * chunks; ++chunk) {
    if (call.last_row[chunk] < share.first_row || call.first_row[chunk] >= share.end_row) continue;
    over_positions(call, chunk, chunk + 1, [&](int64_t, const Position& position) {
      locate(call, position, share.first_group * shape.points, share.end_group * shape.points, samples);
      const T* grad = call.grad + position.index * shape.channels;
      for (int64_t group = share.first_group; group < share.end_group; ++group) {
        const int64_t channel = group * shape.group_width;
        over_channels<T>(shape.group_width, [&]<int kLanes, int kVectors>(int64_t c, Lanes<kLanes>, Vectors<kVectors>) {
          scatter_samples<T, kLanes, kVectors>(
              call, share, image + channel + c, samples, group * shape.points, grad + channel + c);
        });
      }
    });
  }
}

}  // namespace

extern const LoopsOfBoth DCNV3_LOOPS;
const LoopsOfBoth DCNV3_LOOPS = {
    {forward<float>, backward_samples<float>, backward_input<float>},
    {forward<double>, backward_samples<double>, backward_input<double>},
};

}  // namespace ops_dcnv3
