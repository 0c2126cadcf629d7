// The operator's settings as they arrive, and what follows from them. Plain numbers alone.
#pragma once

#include <cstdint>

namespace ops_dcnv3 {

// The operator's settings, in the order of its schema.
struct Settings {
  int64_t kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, groups;
  double offset_scale;
  bool remove_center;

  int64_t points() const { return kernel_h * kernel_w - remove_center; }
  // From the kernel's first point to its middle.
  int64_t reach_h() const { return dilation_h * (kernel_h - 1) / 2; }
  int64_t reach_w() const { return dilation_w * (kernel_w - 1) / 2; }
  // The kernel point without a sample; points run column by column.
  int64_t left_out() const { return remove_center ? kernel_h * kernel_w / 2 : -1; }
  int64_t out_h(int64_t height) const {
    return (height + 2 * padding_h - dilation_h * (kernel_h - 1) - 1) / stride_h + 1;
  }
  int64_t out_w(int64_t width) const { return (width + 2 * padding_w - dilation_w * (kernel_w - 1) - 1) / stride_w + 1; }
};

}  // namespace ops_dcnv3
