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
//   SEVERAL   1 where the lanes of a register may be of several problems
//
// How lanes come into registers is in handler.h, products with the Gram matrix are in product.h.

#pragma once

#include "product.h"

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

constexpr int BURST = 8;
constexpr bool COMPENSATED = EXACT;
constexpr bool MOMENTUM = RULE >= HEAVY_BALL;
constexpr int GIVEN = RULE == POLYAK || MOMENTUM ? 2 : 1;  // numbers that make a rule, of each lane its own
constexpr int MEMORY = RULE == POLYAK ? 1 : RULE >= ADAGRAD_NORM ? 2 : 0;  // numbers that a rule remembers per lane

// A number of a problem, or of the problem of every lane.
using known = std::conditional<SEVERAL, lanes, real>::type;

// What the lanes of a register are given of their problems.
struct Problem {
  Part part[WIDTH];
  int parts;
  known unit, deficits[ALL], best[N], hidden[ALL];
  known at_best[N][3];  // of the loss at the best margin: for `drop`
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
INLINE lanes drop(const known (&at)[3], known s, lanes delta) {
  if (LOSS == LINEAR) return same(1);
  const lanes little = delta * growth(smaller(delta, same(1)));  // e^δ - 1 for δ ≤ 1
  lanes difference;
  if (LOSS == LOGISTIC) {  // log(1 + q (e^δ - 1)), q = σ(-s)
    const lanes past = delta - s, q = same(at[0]);
    const lanes far = exponential(smaller(past, same(60))) * at[1] - q;
    const lanes near_or_far = logarithm_past_one(delta < 1 ? q * little : far);
    difference = past < 60 ? near_or_far : past - at[2];
  } else {
    difference = delta < 1 ? at[0] * little : exponential(delta - s) - at[0];
  }
  const choice tiny = delta < std::numeric_limits<real>::epsilon();
  return tiny ? same(at[0]) : difference / (tiny ? same(1) : delta);
}

INLINE lanes logit(const State& state, const Problem& problem, int k) {
  lanes a = state.logits[k];
  if (COMPENSATED) a += state.moved_logits[k];
  if (MASKED) a += problem.hidden[k];
  return a;
}

INLINE void pull(const Problem& problem, Gradient& gradient) {
  const int parts = SEVERAL ? problem.parts : 1;
  for (int k = 0; k < parts; ++k) multiply(problem.part[k], parts == 1, gradient.g, gradient.pulled);
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
    const known* deficits = problem.deficits + i * T;
    lanes a[T], top = same(-INFINITE), second = same(-INFINITE), least = same(INFINITE);
#pragma GCC unroll 32
    for (int t = 0; t < T; ++t) {
      a[t] = logit(state, problem, i * T + t);
      second = larger(second, smaller(top, a[t]));
      top = larger(top, a[t]);
    }
#pragma GCC unroll 32
    for (int t = 0; t < T; ++t) least = a[t] >= top ? smaller(least, same(deficits[t])) : least;
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
      const known deficit = problem.deficits[i * T + t];
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
