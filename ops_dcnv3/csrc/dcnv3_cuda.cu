// ops_dcnv3::dcnv3 and its gradient for CUDA, against PyTorch's stable ABI: tensors become pointers, calls become
// launches on the current stream. Nothing waits for the device, and nothing but results and the float32 sum of
// grad_input is allocated, so CUDA graphs can capture both.

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>

#include <tuple>

#include "dcnv3_arguments.h"
#include "dcnv3_cuda_kernels.cuh"
#include "dcnv3_cuda_tiles.h"

namespace ops_dcnv3 {
namespace {

Shape checked(const Tensor& input, const Tensor& offset, const Tensor& mask, const Settings& s) {
  check(input, offset, mask, s);
  STD_TORCH_CHECK(
      input.size(1) * input.size(2) < (int64_t(1) << (32 - kFlagBits)) && input.size(3) < INT32_MAX / 2 &&
          input.size(0) < INT32_MAX,
      "input: shape ", describe(input), " (expected fewer than 2^28 pixels in an image)");
  STD_TORCH_CHECK(
      s.points() <= kMostPoints, "kernel_size: ", s.kernel_h, " by ", s.kernel_w, " (the CUDA kernels take up to ",
      kMostPoints, " points)");
  return shape_of(input.size(0), input.size(1), input.size(2), input.size(3), s);
}

// Dense, and at an address that vector loads accept: a slice of a larger tensor may start anywhere.
Tensor dense(const Tensor& tensor) {
  const Tensor whole = torch::stable::contiguous(tensor);
  if (reinterpret_cast<uintptr_t>(whole.const_data_ptr()) % 16 == 0) return whole;
  Tensor copy = torch::stable::empty_like(whole);
  return torch::stable::copy_(copy, whole);
}

template <class T>
const T* read_from(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
T* write_to(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

cudaStream_t stream_of(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

template <class... Parameters, class... Arguments>
void run(
    void (*kernel)(const Shape, const Tile, Parameters...), const Shape& shape, const Launch& launch,
    cudaStream_t stream, Arguments... arguments) {
  const dim3 blocks(unsigned(launch.blocks_x), launch.blocks_y, launch.blocks_z);
  kernel<<<blocks, launch.threads, launch.shared_bytes, stream>>>(shape, launch.tile, arguments...);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

// Calls body(T(), integral constant V) with the widest vector that group_width allows.
template <class T, class Body>
void with_width(int group_width, const Body& body) {
  constexpr int kWidest = 16 / sizeof(T);
  if (group_width % kWidest == 0) return body(T(), std::integral_constant<int, kWidest>());
  if constexpr (kWidest == 8)
    if (group_width % 4 == 0) return body(T(), std::integral_constant<int, 4>());
  return body(T(), std::integral_constant<int, 1>());
}

template <class Body>
void with_type(ScalarType type, int group_width, const Body& body) {
  switch (type) {
    case ScalarType::Double: return with_width<double>(group_width, body);
    case ScalarType::Half: return with_width<__half>(group_width, body);
    case ScalarType::BFloat16: return with_width<__nv_bfloat16>(group_width, body);
    default: return with_width<float>(group_width, body);
  }
}

Tensor dcnv3(
    const Tensor& input, const Tensor& offset, const Tensor& mask, int64_t kernel_h, int64_t kernel_w,
    int64_t stride_h, int64_t stride_w, int64_t padding_h, int64_t padding_w, int64_t dilation_h, int64_t dilation_w,
    int64_t groups, double offset_scale, bool remove_center) {
  const Settings s = {kernel_h,   kernel_w,   stride_h, stride_w,     padding_h,    padding_w,
                      dilation_h, dilation_w, groups,   offset_scale, remove_center};
  const Shape shape = checked(input, offset, mask, s);
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  const Tensor values = dense(input), moves = dense(offset), weights = dense(mask);
  Tensor output = torch::stable::new_empty(values, {shape.batch, shape.out_h, shape.out_w, shape.channels});
  if (output.numel() == 0) return output;
  if (input.numel() == 0) return torch::stable::zero_(output);
  with_type(input.scalar_type(), shape.group_width, [&]<class T, int V>(T, std::integral_constant<int, V>) {
    run(forward<T, V>, shape, tiles_of_pairs(shape, V, sizeof(T), sizeof(Weighted<sum_of<T>>)), stream_of(input),
        read_from<T>(values), read_from<T>(moves), read_from<T>(weights), write_to<T>(output));
  });
  return output;
}

std::tuple<Tensor, Tensor, Tensor> dcnv3_backward(
    const Tensor& grad, const Tensor& input, const Tensor& offset, const Tensor& mask, int64_t kernel_h,
    int64_t kernel_w, int64_t stride_h, int64_t stride_w, int64_t padding_h, int64_t padding_w, int64_t dilation_h,
    int64_t dilation_w, int64_t groups, double offset_scale, bool remove_center) {
  const Settings s = {kernel_h,   kernel_w,   stride_h, stride_w,     padding_h,    padding_w,
                      dilation_h, dilation_w, groups,   offset_scale, remove_center};
  const Shape shape = checked(input, offset, mask, s);
  require("grad", grad, {shape.batch, shape.out_h, shape.out_w, shape.channels}, input);
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  const Tensor arriving = dense(grad), values = dense(input), moves = dense(offset), weights = dense(mask);
  const ScalarType type = input.scalar_type();
  const ScalarType sums = type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  Tensor grad_input = torch::stable::new_zeros(values, values.sizes(), sums);
  Tensor grad_offset = torch::stable::new_empty(moves, moves.sizes());
  Tensor grad_mask = torch::stable::new_empty(weights, weights.sizes());
  if (grad.numel() == 0 || input.numel() == 0)
    return {of_type(grad_input, type), torch::stable::zero_(grad_offset), torch::stable::zero_(grad_mask)};
  with_type(type, shape.group_width, [&]<class T, int V>(T, std::integral_constant<int, V>) {
    using A = sum_of<T>;
    run(backward_samples<T, V>, shape, tiles_of_pairs(shape, V, sizeof(T), sizeof(Cell<A>)), stream_of(input),
        read_from<T>(arriving), read_from<T>(values), read_from<T>(moves), read_from<T>(weights),
        write_to<T>(grad_offset), write_to<T>(grad_mask));
    run(backward_input<T>, shape, tiles_of_windows(shape, s, sizeof(A), sizeof(Weighted<A>)), stream_of(input),
        read_from<T>(arriving), read_from<T>(moves), read_from<T>(weights), write_to<A>(grad_input));
  });
  return {of_type(grad_input, type), grad_offset, grad_mask};
}

}  // namespace
}  // namespace ops_dcnv3

STABLE_TORCH_LIBRARY_IMPL(ops_dcnv3, CUDA, m) {
  m.impl("dcnv3", TORCH_BOX(&ops_dcnv3::dcnv3));
  m.impl("dcnv3_backward", TORCH_BOX(&ops_dcnv3::dcnv3_backward));
}
