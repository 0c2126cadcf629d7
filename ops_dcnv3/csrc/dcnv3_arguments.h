// The operator's arguments as the CPU and the CUDA part get them, and their checks. Host code alone.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "dcnv3_settings.h"

namespace ops_dcnv3 {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline std::string describe(const Tensor& tensor) {
  std::ostringstream text;
  text << '(';
  for (int64_t i = 0; i < tensor.dim(); ++i) text << (i ? ", " : "") << tensor.size(i);
  text << ") of " << torch::headeronly::toString(tensor.scalar_type());
  return text.str();
}

// Raises unless `found` has this shape and, on the same device, the type of `input`.
inline void require(const char* name, const Tensor& found, const std::vector<int64_t>& shape, const Tensor& input) {
  bool same = found.scalar_type() == input.scalar_type() && found.is_cpu() == input.is_cpu() &&
              found.get_device_index() == input.get_device_index() && found.dim() == int64_t(shape.size());
  for (size_t i = 0; same && i < shape.size(); ++i) same = found.size(i) == shape[i];
  if (same) return;
  std::ostringstream expected;
  expected << '(';
  for (size_t i = 0; i < shape.size(); ++i) expected << (i ? ", " : "") << shape[i];
  expected << ") of " << torch::headeronly::toString(input.scalar_type()) << " on input's device";
  STD_TORCH_CHECK(false, name, ": shape ", describe(found), " (expected ", expected.str(), ")");
}

// Raises where the kernels could not even start; the Python function says the same in more detail.
inline void check(const Tensor& input, const Tensor& offset, const Tensor& mask, const Settings& s) {
  const ScalarType type = input.scalar_type();
  const bool floating = type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
                        type == ScalarType::BFloat16;
  STD_TORCH_CHECK(
      input.dim() == 4 && floating, "input: shape ", describe(input),
      " (expected (N, H, W, groups*D) of float16, bfloat16, float32 or float64)");
  STD_TORCH_CHECK(
      s.kernel_h > 0 && s.kernel_w > 0 && s.stride_h > 0 && s.stride_w > 0 && s.dilation_h > 0 && s.dilation_w > 0 &&
          s.padding_h >= 0 && s.padding_w >= 0,
      "kernel_size, stride, dilation: expected at least 1; padding: expected at least 0");
  STD_TORCH_CHECK(
      s.groups > 0 && input.size(3) % s.groups == 0, "groups: ", s.groups, " (expected a divisor of input's ",
      input.size(3), " channels)");
  const int64_t out_h = s.out_h(input.size(1)), out_w = s.out_w(input.size(2));
  STD_TORCH_CHECK(
      out_h > 0 && out_w > 0, "input: shape ", describe(input), " (smaller than the kernel, even with padding)");
  const int64_t samples = s.groups * s.points();
  require("offset", offset, {input.size(0), out_h, out_w, samples * 2}, input);
  require("mask", mask, {input.size(0), out_h, out_w, samples}, input);
}

inline Tensor of_type(const Tensor& tensor, ScalarType type) {
  return tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type);
}

}  // namespace ops_dcnv3
