// Runs the CUDA kernels' own source on the CPU, so that their arithmetic, their tiles and their synchronisation can
// be tested without a GPU. A block's threads are fibers of one operating-system thread; they change at barriers and
// shuffles alone. Says nothing about speed, memory ordering or the compiler for the device.

#include <ucontext.h>

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <vector>

#define __launch_bounds__(...)

using std::max;
using std::min;

struct Place {
  unsigned x, y, z;
};
Place threadIdx, blockIdx, blockDim, gridDim;

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  bool done, waiting;
  int shuffles;
  double posted[2];
};
std::vector<Fiber> fibers;
ucontext_t scheduler;
unsigned running;

void yield() { swapcontext(&fibers[running].context, &scheduler); }

void __syncthreads() {
  fibers[running].waiting = true;
  while (fibers[running].waiting) yield();
}
void __syncwarp() { __syncthreads(); }  // used by blocks of one warp alone

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int other) {
  const unsigned me = running, first = me / 32 * 32;
  const int turn = ++fibers[me].shuffles;
  fibers[me].posted[turn % 2] = value;
  for (unsigned lane = 0; lane < 32; ++lane)
    while ((mask >> lane & 1) && fibers.at(first + lane).shuffles < turn) yield();
  return T(fibers[first + (me % 32 ^ other)].posted[turn % 2]);
}

template <class T>
void atomicAdd(T* at, T value) {
  *at += value;
}
float __fadd_rn(float a, float b) { return a + b; }
float __fmul_rn(float a, float b) { return a * b; }
double __dadd_rn(double a, double b) { return a + b; }
double __dmul_rn(double a, double b) { return a * b; }

#include "dcnv3_cuda_kernels.cuh"
#include "dcnv3_cuda_tiles.h"

namespace ops_dcnv3 {
alignas(16) char shared_memory[kSharedBytes];
}

std::function<void()> body;

void start() {
  body();
  fibers[running].done = true;
  yield();
}

void run_block(int threads) {
  fibers.resize(threads);
  for (Fiber& fiber : fibers) {
    fiber.stack.resize(64 * 1024);
    fiber.done = fiber.waiting = false;
    fiber.shuffles = 0;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, start, 0);
  }
  for (bool alive = true; alive;) {
    alive = false;
    bool all_wait = true;
    for (running = 0; running < fibers.size(); ++running) {
      Fiber& fiber = fibers[running];
      if (fiber.done) continue;
      if (!fiber.waiting) {
        threadIdx = {running, 0, 0};
        swapcontext(&scheduler, &fiber.context);
      }
      alive |= !fiber.done;
      all_wait &= fiber.done || fiber.waiting;
    }
    if (alive && all_wait)
      for (Fiber& fiber : fibers) fiber.waiting = false;
  }
}

void launch(const ops_dcnv3::Launch& how, std::function<void()> kernel) {
  if (how.shared_bytes > ops_dcnv3::kSharedBytes) std::abort();
  body = std::move(kernel);
  blockDim = {unsigned(how.threads), 1, 1};
  // Fewer than asked for, as in a call too large for one grid: blocks then work on several tiles.
  gridDim = {unsigned(how.blocks_x), min(unsigned(how.blocks_y), 2u), 1};
  for (unsigned z = 0; z < gridDim.z; ++z)
    for (unsigned y = 0; y < gridDim.y; ++y)
      for (unsigned x = 0; x < gridDim.x; ++x) {
        blockIdx = {x, y, z};
        // Left-overs of the block before must not help.
        std::fill_n(ops_dcnv3::shared_memory, ops_dcnv3::kSharedBytes, char(0xff));
        run_block(how.threads);
      }
}

template <class T, int V>
void run_all(const ops_dcnv3::Settings& set, const int64_t* size, void* const* p) {
  using namespace ops_dcnv3;
  using A = sum_of<T>;
  const Shape s = shape_of(size[0], size[1], size[2], size[3], set);
  const auto *grad = (const T*)p[0], *input = (const T*)p[1], *offset = (const T*)p[2], *mask = (const T*)p[3];
  const Launch first = tiles_of_pairs(s, V, sizeof(T), sizeof(Weighted<A>));
  launch(first, [=] { forward<T, V>(s, first.tile, input, offset, mask, (T*)p[4]); });
  const Launch second = tiles_of_pairs(s, V, sizeof(T), sizeof(Cell<A>));
  launch(second, [=] { backward_samples<T, V>(s, second.tile, grad, input, offset, mask, (T*)p[6], (T*)p[7]); });
  const Launch third = tiles_of_windows(s, set, sizeof(A), sizeof(Weighted<A>));
  launch(third, [=] { backward_input<T>(s, third.tile, grad, offset, mask, (A*)p[5]); });
}

// Pointers: grad, input, offset, mask, output, grad_input (zeros of the summing type), grad_offset, grad_mask.
// settings: as in the schema, without offset_scale; type: 0 float, 1 double, 2 half, 3 bfloat16.
extern "C" int emulate(int type, int width, const int64_t* settings, double scale, const int64_t* size, void** p) {
  const int64_t* i = settings;
  const ops_dcnv3::Settings s = {i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], scale, i[9] != 0};
  if (type == 0 && width == 4) return run_all<float, 4>(s, size, p), 0;
  if (type == 0 && width == 1) return run_all<float, 1>(s, size, p), 0;
  if (type == 1 && width == 2) return run_all<double, 2>(s, size, p), 0;
  if (type == 1 && width == 1) return run_all<double, 1>(s, size, p), 0;
  if (type == 2 && width == 8) return run_all<__half, 8>(s, size, p), 0;
  if (type == 2 && width == 4) return run_all<__half, 4>(s, size, p), 0;
  if (type == 2 && width == 1) return run_all<__half, 1>(s, size, p), 0;
  if (type == 3 && width == 8) return run_all<__nv_bfloat16, 8>(s, size, p), 0;
  if (type == 3 && width == 4) return run_all<__nv_bfloat16, 4>(s, size, p), 0;
  if (type == 3 && width == 1) return run_all<__nv_bfloat16, 1>(s, size, p), 0;
  return 1;
}
