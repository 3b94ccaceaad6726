// One step of one softmax attention head, for as many lanes at once as a register holds.
//
// The mathematics is that of jaxsim/model/softmax.py, fixed_decoder.py and coordinates/dual.py, and of the rules; names
// are the same. One compilation serves one shape, dtype, loss and rule:
//
//   N, T      sequences and tokens, T at least 2
//   BITS      32 or 64
//   EXACT     1 where increments are summed in bursts and added to the parameters exactly
//   LOSS      LOGISTIC, EXPONENTIAL or LINEAR
//   RULE      GD, NGD, POLYAK, ADAGRAD_NORM, HEAVY_BALL, NESTEROV or NORMALISED_MOMENTUM
//   DISTINCT  1 where no two scores of a sequence are equal
//   MASKED    1 where tokens may be hidden
//
// Gradients in the logits and the logits themselves sum to zero in every sequence. So the product with the Gram matrix
// K takes T - 1 numbers of each sequence to T - 1: (K g)_j = Σ_{t<T} (K_jt - K_jT) g_t, and the last is minus their
// sum.

#pragma once

#include "vector.h"
#include "xla/ffi/api/c_api.h"

#define LOGISTIC 0
#define EXPONENTIAL 1
#define LINEAR 2
#define GD 0
#define NGD 1
#define POLYAK 2
#define ADAGRAD_NORM 3
#define HEAVY_BALL 4
#define NESTEROV 5
#define NORMALISED_MOMENTUM 6

constexpr int ALL = N * T, FREE = N * (T - 1), BURST = 8;
constexpr bool COMPENSATED = EXACT;
constexpr bool MOMENTUM = RULE >= HEAVY_BALL;
constexpr int GIVEN = RULE == POLYAK || MOMENTUM ? 2 : 1;  // numbers that make a rule, of each lane its own
constexpr int MEMORY = RULE == POLYAK ? 1 : RULE >= ADAGRAD_NORM ? 2 : 0;  // numbers that a rule remembers per lane

constexpr int SPAN = (FREE + WIDTH - 1) / WIDTH, STRIDE = SPAN * WIDTH;  // of a row, in registers and in numbers
constexpr int FEW = 2;  // lanes whose products cost less one by one than together, as far as a register reaches

// K_jt - K_jT over unit² in row t; unit is a power of two, near the root of K's largest entry.
struct Gram {
  alignas(BYTES) real rows[FREE * STRIDE];
};

// Lanes of a register that have one Gram matrix and are multiplied by it together, or one lane alone.
struct Part {
  const Gram* gram;
  choice own;
  int alone;  // which lane, -1 for all of them
};

// What the lanes of a register are given of their problems, which may be several.
struct Problem {
  Part part[WIDTH];
  int parts;
  lanes unit, deficits[ALL], best[N], hidden[ALL];
  lanes at_best[N][3];  // of the loss at the best margin: for `drop`
};

// A direction in the logits, e^scale · g, and K g over unit².
struct Direction {
  lanes g[ALL], pulled[ALL], scale;
};

// What lanes carry. Parameters are `start + moved`; without compensation `moved` is not used. `velocity` is what momentum
// remembers, with its scale, and memory[1] then what that scale leaves of its decay.
struct State {
  lanes logits[ALL], coeffs[ALL], moved_logits[ALL], moved_coeffs[ALL], memory[MEMORY + 1];
  Direction velocity;
};

struct Gradient : Direction {
  lanes norm, gap, gap_scale;
};

// ℓ'(m) = -p e^q as (1 / p, q).
struct Slope {
  lanes inverse, log;
};

INLINE Slope slope(lanes m) {
  if (LOSS == LOGISTIC) return {1 + exponential(-size_of(m)), -larger(m, lanes{})};
  if (LOSS == EXPONENTIAL) return {same(1), -m};
  return {same(1), lanes{}};
}

// (ℓ(s - δ) - ℓ(s)) / δ, and -ℓ'(s) at δ = 0.
INLINE lanes drop(const lanes (&at)[3], lanes s, lanes delta) {
  if (LOSS == LINEAR) return same(1);
  const lanes little = delta * growth(smaller(delta, same(1)));  // e^δ - 1 for δ ≤ 1
  lanes difference;
  if (LOSS == LOGISTIC) {  // log(1 + q (e^δ - 1)), q = σ(-s)
    const lanes past = delta - s, q = at[0];
    const lanes far = exponential(smaller(past, same(60))) * at[1] - q;
    const lanes near_or_far = logarithm_past_one(delta < 1 ? q * little : far);
    difference = past < 60 ? near_or_far : past - at[2];
  } else {
    difference = delta < 1 ? at[0] * little : exponential(delta - s) - at[0];
  }
  const choice tiny = delta < std::numeric_limits<real>::epsilon();
  return tiny ? at[0] : difference / (tiny ? same(1) : delta);
}

INLINE lanes logit(const State& state, const Problem& problem, int k) {
  lanes a = state.logits[k];
  if (COMPENSATED) a += state.moved_logits[k];
  if (MASKED) a += problem.hidden[k];
  return a;
}

// The product K g, `rows` numbers of it at a time, so many as stay in registers.
template <int rows>
INLINE void product(const Gram& of, const lanes* g, int first, lanes* pulled) {
  lanes sum[rows] = {};
  const real* gram = of.rows + first;
  for (int i = 0; i < N; ++i)
#pragma GCC unroll 32
    for (int t = 0; t < T - 1; ++t, gram += STRIDE) {
      const lanes here = g[i * T + t];
#pragma GCC unroll 32
      for (int r = 0; r < rows; ++r) sum[r] += gram[r] * here;
    }
#pragma GCC unroll 32
  for (int r = 0; r < rows; ++r) pulled[first + r] = sum[r];
}

// The same of one lane, `count` registers of it at a time: sums in the same order, so the same numbers.
template <int count>
INLINE void product_alone(const Gram& of, const lanes* g, int lane, int first, real* pulled) {
  lanes sum[count] = {};
  const real* gram = of.rows + first * WIDTH;
  for (int i = 0; i < N; ++i)
#pragma GCC unroll 32
    for (int t = 0; t < T - 1; ++t, gram += STRIDE) {
      const real here = g[i * T + t][lane];
#pragma GCC unroll 32
      for (int r = 0; r < count; ++r) {
        lanes row;
        __builtin_memcpy(&row, gram + r * WIDTH, BYTES);
        sum[r] += row * here;
      }
    }
  __builtin_memcpy(pulled + first * WIDTH, sum, sizeof sum);
}

// Registers hold ROWS sums, one vector and, without operands from memory, one number of K.
constexpr int REGISTERS = BYTES == 64 ? 28 : 12;
constexpr int PASSES = (FREE + REGISTERS - 1) / REGISTERS, ROWS = (FREE + PASSES - 1) / PASSES;
constexpr int LAST = FREE - ROWS * (PASSES - 1);
constexpr int TURNS = (SPAN + REGISTERS - 1) / REGISTERS, EACH = (SPAN + TURNS - 1) / TURNS;
constexpr int REST = SPAN - EACH * (TURNS - 1);

INLINE int at(int free) { return free / (T - 1) * T + free % (T - 1); }  // of a number of K g among all

INLINE void multiply(const Part& part, const lanes* g, lanes* pulled) {
  if (part.alone < 0) {
    lanes found[FREE];
    for (int pass = 0; pass < PASSES - 1; ++pass) product<ROWS>(*part.gram, g, pass * ROWS, found);
    product<LAST>(*part.gram, g, (PASSES - 1) * ROWS, found);
    for (int k = 0; k < FREE; ++k) pulled[at(k)] = part.own ? found[k] : pulled[at(k)];
  } else {
    real found[STRIDE];
    for (int turn = 0; turn < TURNS - 1; ++turn) product_alone<EACH>(*part.gram, g, part.alone, turn * EACH, found);
    product_alone<REST>(*part.gram, g, part.alone, (TURNS - 1) * EACH, found);
    for (int k = 0; k < FREE; ++k) pulled[at(k)] = part.own ? same(found[k]) : pulled[at(k)];
  }
}

INLINE void pull(const Problem& problem, Gradient& gradient) {
  for (int k = 0; k < problem.parts; ++k) multiply(problem.part[k], gradient.g, gradient.pulled);
  lanes squared = {};
  for (int i = 0; i < N; ++i) {
    lanes sum = {};
#pragma GCC unroll 32
    for (int t = 0; t < T - 1; ++t) {
      sum += gradient.pulled[i * T + t];
      squared += gradient.g[i * T + t] * gradient.pulled[i * T + t];
    }
    gradient.pulled[i * T + T - 1] = -sum;
    squared -= gradient.g[i * T + T - 1] * sum;
  }
  gradient.norm = problem.unit * root(squared);
}

INLINE void differentiate(const State& state, const Problem& problem, Gradient& gradient) {
  // c_i, q_i, -p_i / (n D_i), G_i, e^{c_i} G_i, δ_ik
  lanes scale[N], log_slope[N], weight[N], gap[N], past[N], shortfall[N];
  lanes kappa = same(-INFINITE);
  for (int i = 0; i < N; ++i) {
    const lanes* deficits = problem.deficits + i * T;
    lanes a[T], top = same(-INFINITE), second = same(-INFINITE), least = same(INFINITE);
#pragma GCC unroll 32
    for (int t = 0; t < T; ++t) {
      a[t] = logit(state, problem, i * T + t);
      second = larger(second, smaller(top, a[t]));
      top = larger(top, a[t]);
    }
#pragma GCC unroll 32
    for (int t = 0; t < T; ++t) least = a[t] >= top ? smaller(least, deficits[t]) : least;
    if (!DISTINCT) {  // the largest logit that is not of a peer
      second = same(-INFINITE);
#pragma GCC unroll 32
      for (int t = 0; t < T; ++t) second = larger(second, deficits[t] == least ? same(-INFINITE) : a[t]);
    }
    const lanes c = second - top, from = MASKED || !DISTINCT ? (c == -INFINITE ? top : second) : second;
    lanes sum = {}, fall = {}, peers = DISTINCT ? same(1) : lanes{};
#pragma GCC unroll 32
    for (int t = 0; t < T; ++t) {
      const choice peer = deficits[t] == least;
      const lanes w = exponential(peer ? (DISTINCT ? lanes{} : a[t] - top) : a[t] - from);
      sum += w;
      fall += w * (deficits[t] - least);
      if (!DISTINCT) peers += peer ? w : lanes{};
      gradient.g[i * T + t] = w;
    }
    const lanes shrunk = exponential(c), denominator = peers + shrunk * (sum - peers);
    gap[i] = fall / denominator;
    past[i] = shrunk * gap[i];
    shortfall[i] = least;
    const Slope at = slope(problem.best[i] - (least + past[i]));
    scale[i] = c;
    log_slope[i] = at.log;
    weight[i] = -1 / (at.inverse * (N * denominator));
    kappa = larger(kappa, c + at.log);
  }
  kappa = nearest(kappa);
  kappa = kappa == -INFINITE ? lanes{} : kappa;
  for (int i = 0; i < N; ++i) {
    const lanes here = weight[i] * exponential((scale[i] - kappa) + log_slope[i]);
#pragma GCC unroll 32
    for (int t = 0; t < T; ++t) {
      const lanes deficit = problem.deficits[i * T + t];
      const lanes own = (shortfall[i] - deficit) + past[i];
      gradient.g[i * T + t] *= here * (deficit == shortfall[i] ? gap[i] : own);
    }
  }
  gradient.scale = kappa;
  if (RULE == POLYAK) {  // L - L*
    lanes most = shortfall[0], common = scale[0], sum = {};
    for (int i = 1; i < N; ++i) most = larger(most, shortfall[i]), common = larger(common, scale[i]);
    common = most == 0 ? common : lanes{};
    for (int i = 0; i < N; ++i) {
      const lanes deficit = shortfall[i] + past[i];
      const lanes scaled = shortfall[i] == 0 ? exponential(scale[i] - common) * gap[i] : deficit;
      sum += scaled * drop(problem.at_best[i], problem.best[i], deficit);
    }
    gradient.gap = sum * (real(1) / N);
    gradient.gap_scale = common;
  }
}

// β v + ∇, with β = 1 - rest; scales are whole numbers and follow the gradient upwards, and downwards the decay.
INLINE void mix(const Direction& v, lanes slack, lanes rest, const Direction& gradient, Direction& mixed, lanes& left) {
  const lanes decayed = slack + logarithm_past_one(-rest);
  const lanes down = __builtin_convertvector(__builtin_convertvector(larger(decayed, same(-64)), choice), lanes);
  const lanes kept = v.scale + down, scale = larger(kept, gradient.scale);
  const choice still = scale == -INFINITE;  // no gradient so far
  const lanes before = still ? lanes{} : exponential(v.scale - scale);
  const lanes now = still ? lanes{} : exponential(gradient.scale - scale);
  for (int k = 0; k < ALL; ++k) {
    mixed.g[k] = before * (v.g[k] - rest * v.g[k]) + now * gradient.g[k];
    mixed.pulled[k] = before * (v.pulled[k] - rest * v.pulled[k]) + now * gradient.pulled[k];
  }
  mixed.scale = scale;
  left = scale > kept ? lanes{} : decayed - down;
}

// What the rule multiplies the direction by, and what it remembers from then on.
INLINE lanes rule(const Gradient& gradient, const lanes* given, lanes* memory) {
  const lanes norm = gradient.norm;
  const choice none = norm == 0;
  if (RULE == GD) return -given[0] * exponential(gradient.scale);
  if (RULE == NGD) return none ? lanes{} : -given[0] / norm;
  if (RULE == POLYAK) {
    lanes wanted = given[0] * gradient.gap / norm * exponential(gradient.gap_scale - gradient.scale);
    wanted = none ? lanes{} : wanted;
    const lanes most = given[1], length = wanted > most ? most : wanted;
    memory[0] = wanted > length ? memory[0] + 1 : memory[0];
    return -length / (none ? same(1) : norm);
  }
  // log b² ← log(b² + ‖∇‖²), carried with what rounding leaves out
  const lanes x = 2 * (((gradient.scale + logarithm(norm)) - memory[0]) - memory[1]);
  const lanes more = real(0.5) * (larger(x, lanes{}) + logarithm_past_one(exponential(-size_of(x)))) + memory[1];
  const lanes sum = memory[0] + more, back = sum - memory[0];
  memory[1] = (memory[0] - (sum - back)) + (more - back);
  memory[0] = sum;
  return -given[0] * exponential((gradient.scale - memory[0]) - memory[1]);
}

// The same of rules with momentum, which go along `velocity`, or for Nesterov's along β v + ∇ once more.
INLINE lanes with_momentum(const Problem& problem, const Gradient& gradient, const lanes* given, State& state,
                           Direction& along) {
  Direction& velocity = state.velocity;
  mix(velocity, state.memory[1], given[1], gradient, velocity, state.memory[1]);
  if (RULE == NORMALISED_MOMENTUM) {
    lanes squared = {};
    for (int k = 0; k < ALL; ++k) squared += velocity.g[k] * velocity.pulled[k];
    const lanes length = problem.unit * root(squared);
    return length == 0 ? lanes{} : -given[0] / length;
  }
  if (RULE == HEAVY_BALL) return -given[0] * exponential(velocity.scale);
  lanes unused;
  mix(velocity, state.memory[1], given[1], gradient, along, unused);
  return -given[0] * exponential(along.scale);
}

// The gradient, and what the rule multiplies the direction by.
INLINE lanes turn(State& state, const Problem& problem, const lanes* given, Gradient& gradient) {
  differentiate(state, problem, gradient);
  pull(problem, gradient);
  return MOMENTUM ? with_momentum(problem, gradient, given, state, gradient) : rule(gradient, given, state.memory);
}

// One step along it.
INLINE void move(State& state, const Problem& problem, lanes factor, const Direction& gradient) {
  const Direction& along = !MOMENTUM || RULE == NESTEROV ? gradient : state.velocity;
  const lanes in_logits = factor * problem.unit * problem.unit;
  lanes* logits = COMPENSATED ? state.moved_logits : state.logits;
  lanes* coeffs = COMPENSATED ? state.moved_coeffs : state.coeffs;
  for (int k = 0; k < ALL; ++k) {
    logits[k] += in_logits * along.pulled[k];
    coeffs[k] += factor * along.g[k];
  }
}

// x + (moved + residual), and the rounding error of that sum; `moved` is used up.
INLINE void add_exactly(lanes* x, lanes* residual, lanes* moved, int count = ALL) {
  for (int k = 0; k < count; ++k) {
    const lanes more = moved[k] + residual[k], sum = x[k] + more, back = sum - x[k];
    residual[k] = (x[k] - (sum - back)) + (more - back);
    x[k] = sum;
    moved[k] = lanes{};
  }
}

// `count` lanes of an array whose rows have `stride` numbers; the rest of a register repeats the last of them.
INLINE void load(lanes* to, const real* from, int rows, int64_t stride, int count) {
  for (int k = 0; k < rows; ++k)
    for (int l = 0; l < WIDTH; ++l) to[k][l] = from[k * stride + (l < count ? l : count - 1)];
}

INLINE void store(real* to, const lanes* from, int rows, int64_t stride, int count) {
  for (int k = 0; k < rows; ++k)
    for (int l = 0; l < count; ++l) to[k * stride + l] = from[k][l];
}

static void prepare(Gram& to, const real* gram, real unit) {
  const real inverse = 1 / unit;
  for (int k = 0; k < FREE; ++k) {
    const real *row = gram + at(k) * ALL, *last = gram + (k / (T - 1) * T + T - 1) * ALL;  // K is symmetric
    for (int j = 0; j < STRIDE; ++j)
      to.rows[k * STRIDE + j] = j < FREE ? (row[at(j)] - last[at(j)]) * inverse * inverse : 0;
  }
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
  for (int l = 0; l < WIDTH; ++l) {
    p.unit[l] = power_above(p.unit[l]);
    if (MASKED)
      for (int k = 0; k < ALL; ++k) p.hidden[k][l] = seen[k * stride + (l < count ? l : count - 1)] ? 0 : -INFINITE;
    for (int i = 0; RULE == POLYAK && i < N; ++i) {
      const real s = p.best[i][l];
      if (LOSS == LOGISTIC) {
        p.at_best[i][0][l] = 1 / (1 + std::exp(s));
        p.at_best[i][1][l] = 1 / (1 + std::exp(-s));
        p.at_best[i][2][l] = s > 0 ? std::log1p(std::exp(-s)) : std::log1p(std::exp(s)) - s;
      } else {
        p.at_best[i][0][l] = LOSS == EXPONENTIAL ? std::exp(-s) : real(1);
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
    prepare(problem, size + apart, deficits + apart, best + apart, seen + apart, stride, stride > 1 ? count : 1);
    divide(problem, grams, first, count, each);
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
