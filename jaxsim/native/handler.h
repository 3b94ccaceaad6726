// What XLA calls, and how the lanes that it gives come into registers.

#pragma once

#include "head.h"
#include "xla/ffi/api/c_api.h"

// `count` lanes of an array whose rows have `stride` numbers; the rest of a register repeats the last of them.
INLINE void load(lanes* to, const real* from, int rows, int64_t stride, int count) {
  for (int k = 0; k < rows; ++k)
    for (int l = 0; l < WIDTH; ++l) to[k][l] = from[k * stride + (l < count ? l : count - 1)];
}

INLINE void load(real* to, const real* from, int rows, int64_t stride, int) {
  for (int k = 0; k < rows; ++k) to[k] = from[k * stride];
}

INLINE void put(lanes& to, int lane, real x) { to[lane] = x; }
INLINE void put(real& to, int, real x) { to = x; }
INLINE real of(const lanes& x, int lane) { return x[lane]; }
INLINE real of(const real& x, int) { return x; }

INLINE void store(real* to, const lanes* from, int rows, int64_t stride, int count) {
  for (int k = 0; k < rows; ++k)
    for (int l = 0; l < count; ++l) to[k * stride + l] = from[k][l];
}

INLINE real power_above(real x) {
  int exponent;
  std::frexp(x, &exponent);
  return std::ldexp(real(1), exponent);
}

// What `count` lanes are given, of which each has its own column of `stride`, or all the only one.
static void prepare(Problem& p, const real* size, const real* deficits, const real* best, const uint8_t* seen,
                    int64_t stride, int count) {
  load(&p.unit, size, 1, stride, count);
  load(p.deficits, deficits, ALL, stride, count);
  load(p.best, best, N, stride, count);
  for (int l = 0; l < (SEVERAL ? WIDTH : 1); ++l) {
    put(p.unit, l, power_above(of(p.unit, l)));
    if (MASKED)
      for (int k = 0; k < ALL; ++k)
        put(p.hidden[k], l, seen[k * stride + (l < count ? l : count - 1)] ? 0 : -INFINITE);
    for (int i = 0; RULE == POLYAK && i < N; ++i) {
      const real s = of(p.best[i], l);
      known(&at)[3] = p.at_best[i];
      if (LOSS == LOGISTIC) {
        put(at[0], l, 1 / (1 + std::exp(s)));
        put(at[1], l, 1 / (1 + std::exp(-s)));
        put(at[2], l, s > 0 ? std::log1p(std::exp(-s)) : std::log1p(std::exp(s)) - s);
      } else {
        put(at[0], l, LOSS == EXPONENTIAL ? std::exp(-s) : real(1));
      }
    }
  }
}

struct Buffers {
  XLA_FFI_CallFrame* frame;
  template <typename Number>
  Number* in(int k) const {
    return static_cast<Number*>(static_cast<XLA_FFI_Buffer*>(frame->args.args[k])->data);
  }
  real* out(int k) const { return static_cast<real*>(static_cast<XLA_FFI_Buffer*>(frame->rets.rets[k])->data); }
  int64_t last_axis(int k) const {
    const auto* buffer = static_cast<XLA_FFI_Buffer*>(frame->args.args[k]);
    return buffer->rank ? buffer->dims[buffer->rank - 1] : 1;
  }
  int64_t first_axis(int k) const { return static_cast<XLA_FFI_Buffer*>(frame->args.args[k])->dims[0]; }
};

// The lanes from `first` on by the problem that they belong to, `each` of every problem; what is past the last of them
// goes with it.
INLINE void divide(Problem& problem, const Gram* grams, int64_t first, int count, int64_t each) {
  problem.parts = 0;
  const auto add = [&](int from, int to, int alone) {
    Part& part = problem.part[problem.parts++];
    part.gram = grams + (first + from) / each % WIDTH, part.own = choice{}, part.alone = alone;
    for (int l = from; l < (to == count ? WIDTH : to); ++l) part.own[l] = -1;
  };
  for (int from = 0, to; from < count; from = to) {
    const int64_t left = each - (first + from) % each;
    to = left < count - from ? from + int(left) : count;
    if (to - from > FEW) add(from, to, -1);
    else
      for (int l = from; l < to; ++l) add(l, l + 1, l);
  }
}

// Calls `work(problem, first, count)` for the lanes of every register, in which those of several problems may lie; Gram
// matrices and what else a problem is are inputs `known` and following: gram, size, deficits, best, visible.
template <typename Work>
INLINE void in_registers(const Buffers& buffers, int known, const Work& work) {
  static thread_local Problem problem;
  static thread_local Gram grams[WIDTH];  // as many as a register may need
  const real* gram = buffers.in<real>(known);
  const real* size = buffers.in<real>(known + 1);
  const real* deficits = buffers.in<real>(known + 2);
  const real* best = buffers.in<real>(known + 3);
  const uint8_t* seen = buffers.in<uint8_t>(known + 4);
  const int64_t width = buffers.last_axis(0), stride = buffers.last_axis(known + 2);
  const int64_t each = width / buffers.first_axis(known);
  int64_t ready = 0;  // problems whose Gram matrix is or was at hand
  for (int64_t first = 0; first < width; first += WIDTH) {
    const int count = width - first < WIDTH ? int(width - first) : WIDTH;
    const int64_t apart = stride > 1 ? first : 0;
    for (; ready <= (first + count - 1) / each; ++ready)
      prepare(grams[ready % WIDTH], gram + ready * ALL * ALL, power_above(size[stride > 1 ? ready * each : 0]));
    if (SEVERAL || first == 0)
      prepare(problem, size + apart, deficits + apart, best + apart, seen + apart, stride, stride > 1 ? count : 1);
    if (SEVERAL)
      divide(problem, grams, first, count, each);
    else
      problem.part[0] = {grams, choice{}, -1};
    work(problem, first, count);
  }
}

// What a handler of XLA's has to answer beside doing its work.
template <typename Work>
INLINE XLA_FFI_Error* answer(XLA_FFI_CallFrame* frame, const Work& work) {
  if (auto* extension = frame->extension_start; extension && extension->type == XLA_FFI_Extension_Metadata) {
    auto* metadata = reinterpret_cast<XLA_FFI_Metadata_Extension*>(extension)->metadata;
    metadata->api_version.major_version = XLA_FFI_API_MAJOR;
    metadata->api_version.minor_version = XLA_FFI_API_MINOR;
    return nullptr;
  }
  if (frame->stage == XLA_FFI_ExecutionStage_EXECUTE) work(Buffers{frame});
  return nullptr;
}

// The exported handler of some work, which lies in a namespace of its own so that both have its name.
#define HANDLER(work) \
  extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* work(XLA_FFI_CallFrame* frame) { \
    return answer(frame, works::work); \
  }
