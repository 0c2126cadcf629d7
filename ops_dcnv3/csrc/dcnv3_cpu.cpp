// ops_dcnv3::dcnv3 and its gradient for the CPU, against PyTorch's stable ABI: one build serves all versions of
// PyTorch from 2.10 on. Here tensors become pointers and the work is split among threads; the loops themselves are
// in dcnv3_cpu_loops.cpp. Half types are computed in float32 and rounded once.

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstdlib>
#include <tuple>

#include "dcnv3_arguments.h"
#include "dcnv3_cpu.h"

namespace ops_dcnv3 {
namespace {

const LoopsOfBoth& loops() {
#if defined(__x86_64__)
  static const LoopsOfBoth& best = []() -> const LoopsOfBoth& {
    const char* chosen = std::getenv("OPS_DCNV3_CPU");
    const std::string most = chosen ? chosen : "avx512";
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f");
    if (most == "avx512" && avx512) return loops_avx512;
    if (most != "portable" && avx2) return loops_avx2;
    return loops_portable;
  }();
  return best;
#else
  return loops_portable;
#endif
}

template <class T>
const Loops<T>& loops_of();
template <>
const Loops<float>& loops_of() {
  return loops().single;
}
template <>
const Loops<double>& loops_of() {
  return loops().twice;
}

Shape shape_of(const Tensor& input, const Tensor& offset, const Tensor& mask, const Settings& s) {
  check(input, offset, mask, s);
  STD_TORCH_CHECK(
      input.size(1) < INT32_MAX && input.size(2) < INT32_MAX, "input: shape ", describe(input),
      " (expected fewer than 2^31 rows and columns)");
  Shape shape;
  shape.batch = input.size(0);
  shape.height = input.size(1);
  shape.width = input.size(2);
  shape.channels = input.size(3);
  shape.out_h = s.out_h(shape.height);
  shape.out_w = s.out_w(shape.width);
  shape.stride_h = s.stride_h;
  shape.stride_w = s.stride_w;
  shape.groups = s.groups;
  shape.points = s.points();
  shape.group_width = shape.channels / s.groups;
  return shape;
}

// The kernel's points relative to its middle, scaled, column by column and once for each group.
template <class T>
std::vector<T> grid_of(const Settings& s, bool along_x) {
  const T scale = T(s.offset_scale);
  std::vector<T> grid;
  for (int64_t group = 0; group < s.groups; ++group)
    for (int64_t point = 0; point < s.kernel_h * s.kernel_w; ++point) {
      if (point == s.left_out()) continue;
      const int64_t x = point / s.kernel_h * s.dilation_w - s.reach_w();
      const int64_t y = point % s.kernel_h * s.dilation_h - s.reach_h();
      grid.push_back(T(along_x ? x : y) * scale);
    }
  return grid;
}

// A call and the tables that it points to.
template <class T>
struct Prepared {
  std::vector<T> grid_x, grid_y, zeros;
  Call<T> call;

  Prepared(const Shape& shape, const Settings& s)
      : grid_x(grid_of<T>(s, true)), grid_y(grid_of<T>(s, false)), zeros(kMostChannels), call{} {
    call.shape = shape;
    call.offset_scale = T(s.offset_scale);
    call.middle_w = T(s.reach_w() - s.padding_w);
    call.middle_h = T(s.reach_h() - s.padding_h);
    call.grid_x = grid_x.data();
    call.grid_y = grid_y.data();
    call.zeros = zeros.data();
  }
};

int64_t chunks_of(const Shape& shape) { return shape.batch * ((shape.out_h * shape.out_w + kChunk - 1) / kChunk); }

// Values of scratch that the loops want: 12 per sample.
size_t scratch_of(const Shape& shape) { return size_t(12 * shape.groups * shape.points); }

// Chunks that are worth a thread of their own.
int64_t grain_of(const Shape& shape) {
  const int64_t work = kChunk * shape.points * (shape.channels + 8 * shape.groups);
  return std::max<int64_t>(1, 65536 / std::max<int64_t>(1, work));
}

template <class T>
Tensor dense(const Tensor& tensor) {
  constexpr ScalarType type = sizeof(T) == 8 ? ScalarType::Double : ScalarType::Float;
  return torch::stable::contiguous(tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type));
}

template <class T>
const T* read(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
T* write(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

template <class T>
Tensor forward(const Tensor& input, const Tensor& offset, const Tensor& mask, const Shape& shape, const Settings& s) {
  const Tensor values = dense<T>(input), moves = dense<T>(offset), weights = dense<T>(mask);
  Tensor output = torch::stable::new_empty(values, {shape.batch, shape.out_h, shape.out_w, shape.channels});
  Prepared<T> prepared(shape, s);
  Call<T>& call = prepared.call;
  call.input = read<T>(values);
  call.offset = read<T>(moves);
  call.mask = read<T>(weights);
  call.output = write<T>(output);
  torch::stable::parallel_for(0, chunks_of(shape), grain_of(shape), [&](int64_t first, int64_t end) {
    std::vector<T> scratch(scratch_of(shape));
    loops_of<T>().forward(call, first, end, scratch.data());
  });
  return of_type(output, input.scalar_type());
}

// Splits grad_input into at least as many shares as there are threads, where the shape has that many: by image, then
// by group, then by rows.
template <class T>
std::vector<Share<T>> shares_of(const Shape& shape, int64_t wanted) {
  const auto parts = [](int64_t whole, int64_t wish) { return std::clamp<int64_t>(wish, 1, std::max<int64_t>(1, whole)); };
  const auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t group_parts = parts(shape.groups, ceil_div(wanted, shape.batch));
  const int64_t row_parts = parts(shape.height, ceil_div(wanted, shape.batch * group_parts));
  std::vector<Share<T>> shares;
  for (int64_t image = 0; image < shape.batch; ++image)
    for (int64_t rows = 0; rows < row_parts; ++rows)
      for (int64_t part = 0; part < group_parts; ++part)
        shares.push_back({
            image, shape.height * rows / row_parts, shape.height * (rows + 1) / row_parts,
            shape.groups * part / group_parts, shape.groups * (part + 1) / group_parts, nullptr});
  return shares;
}

template <class T>
std::tuple<Tensor, Tensor, Tensor> backward(
    const Tensor& grad, const Tensor& input, const Tensor& offset, const Tensor& mask, const Shape& shape,
    const Settings& s) {
  const Tensor arriving = dense<T>(grad), values = dense<T>(input);
  const Tensor moves = dense<T>(offset), weights = dense<T>(mask);
  Tensor grad_input = torch::stable::new_zeros(values, values.sizes());
  Tensor grad_offset = torch::stable::new_empty(moves, moves.sizes());
  Tensor grad_mask = torch::stable::new_empty(weights, weights.sizes());
  Prepared<T> prepared(shape, s);
  Call<T>& call = prepared.call;
  std::vector<int32_t> first_row(chunks_of(shape)), last_row(chunks_of(shape));
  call.first_row = first_row.data();
  call.last_row = last_row.data();
  call.grad = read<T>(arriving);
  call.input = read<T>(values);
  call.offset = read<T>(moves);
  call.mask = read<T>(weights);
  call.grad_input = write<T>(grad_input);
  call.grad_offset = write<T>(grad_offset);
  call.grad_mask = write<T>(grad_mask);
  torch::stable::parallel_for(0, chunks_of(shape), grain_of(shape), [&](int64_t first, int64_t end) {
    std::vector<T> scratch(scratch_of(shape));
    loops_of<T>().backward_samples(call, first, end, scratch.data());
  });
  if (shape.batch) {
    const int64_t threads = chunks_of(shape) > grain_of(shape) ? torch::stable::get_num_threads() : 1;
    std::vector<Share<T>> shares = shares_of<T>(shape, threads);
    torch::stable::parallel_for(0, int64_t(shares.size()), 1, [&](int64_t first, int64_t end) {
      std::vector<T> scratch(scratch_of(shape) + kMostChannels);
      for (int64_t i = first; i < end; ++i) {
        shares[i].discarded = scratch.data() + scratch_of(shape);
        loops_of<T>().backward_input(call, shares[i], scratch.data());
      }
    });
  }
  const ScalarType type = input.scalar_type();
  return {of_type(grad_input, type), of_type(grad_offset, type), of_type(grad_mask, type)};
}

Tensor dcnv3(
    const Tensor& input, const Tensor& offset, const Tensor& mask, int64_t kernel_h, int64_t kernel_w,
    int64_t stride_h, int64_t stride_w, int64_t padding_h, int64_t padding_w, int64_t dilation_h, int64_t dilation_w,
    int64_t groups, double offset_scale, bool remove_center) {
  const Settings s = {kernel_h,   kernel_w,   stride_h, stride_w,     padding_h,    padding_w,
                      dilation_h, dilation_w, groups,   offset_scale, remove_center};
  const Shape shape = shape_of(input, offset, mask, s);
  return input.scalar_type() == ScalarType::Double ? forward<double>(input, offset, mask, shape, s)
                                                   : forward<float>(input, offset, mask, shape, s);
}

std::tuple<Tensor, Tensor, Tensor> dcnv3_backward(
    const Tensor& grad, const Tensor& input, const Tensor& offset, const Tensor& mask, int64_t kernel_h,
    int64_t kernel_w, int64_t stride_h, int64_t stride_w, int64_t padding_h, int64_t padding_w, int64_t dilation_h,
    int64_t dilation_w, int64_t groups, double offset_scale, bool remove_center) {
  const Settings s = {kernel_h,   kernel_w,   stride_h, stride_w,     padding_h,    padding_w,
                      dilation_h, dilation_w, groups,   offset_scale, remove_center};
  const Shape shape = shape_of(input, offset, mask, s);
  require("grad", grad, {shape.batch, shape.out_h, shape.out_w, shape.channels}, input);
  return input.scalar_type() == ScalarType::Double ? backward<double>(grad, input, offset, mask, shape, s)
                                                   : backward<float>(grad, input, offset, mask, shape, s);
}

}  // namespace
}  // namespace ops_dcnv3

STABLE_TORCH_LIBRARY_IMPL(ops_dcnv3, CPU, m) {
  m.impl("dcnv3", TORCH_BOX(&ops_dcnv3::dcnv3));
  m.impl("dcnv3_backward", TORCH_BOX(&ops_dcnv3::dcnv3_backward));
}
