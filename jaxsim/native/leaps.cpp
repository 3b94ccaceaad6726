// What leaps need of the map: steps of every lane by itself, and the flow that the iterates are samples of.
//
// The mathematics is that of jaxsim/driver/steps.py, generator.py and formulas.py; names are the same. Beside what
// head.h is compiled with:
//
//   TERMS     of a series, at most
//   STAGES    of the formulas

#include "head.h"

static_assert(COMPENSATED && !MOMENTUM);
constexpr int PLACE = 4 + MEMORY;  // of the first input that is not carried

namespace works {

INLINE lanes converted(const int32_t* from, int count) {
  lanes to;
  for (int l = 0; l < WIDTH; ++l) to[l] = real(from[l < count ? l : count - 1]);
  return to;
}

// Buffers in order. Inputs: coeffs, logits, the residuals of both, what the rule remembers; gram, size, deficits, best,
// visible; what the rule was given; how many steps each lane makes. Outputs: what is carried, in the same place or another.
static void some(const Buffers& buffers) {
  const real* given = buffers.in<real>(PLACE + 5);
  const int32_t* counts = buffers.in<int32_t>(PLACE + 6);
  const int64_t width = buffers.last_axis(0);
  static thread_local State state;
  static thread_local Gradient gradient;
  static thread_local lanes residual[2][ALL], before[2][ALL];
  in_registers(buffers, PLACE, [&](const Problem& problem, int64_t first, int count) {
    lanes* parts[] = {state.coeffs, state.logits, residual[0], residual[1]};
    for (int k = 0; k < 4; ++k) load(parts[k], buffers.in<real>(k) + first, ALL, width, count);
    for (int k = 0; k < MEMORY; ++k) load(state.memory + k, buffers.in<real>(4 + k) + first, 1, width, count);
    for (int k = 0; k < ALL; ++k) state.moved_logits[k] = state.moved_coeffs[k] = lanes{};
    const lanes wanted = converted(counts + first, count);
    int32_t most = 0;
    for (int l = 0; l < count; ++l) most = counts[first + l] > most ? counts[first + l] : most;
    for (int32_t done = 0; done < most; ++done) {
      const choice on = wanted > real(done);
      lanes kept[MEMORY + 1];
      for (int k = 0; k < MEMORY; ++k) kept[k] = state.memory[k];
      for (int k = 0; k < ALL; ++k) before[0][k] = state.moved_coeffs[k], before[1][k] = state.moved_logits[k];
      const lanes factor = turn(state, problem, given, gradient);
      move(state, problem, factor, gradient);
      for (int k = 0; k < ALL; ++k) {
        state.moved_coeffs[k] = on ? state.moved_coeffs[k] : before[0][k];
        state.moved_logits[k] = on ? state.moved_logits[k] : before[1][k];
      }
      for (int k = 0; k < MEMORY; ++k) state.memory[k] = on ? state.memory[k] : kept[k];
      if ((done + 1) % BURST == 0 || done + 1 == most) {
        add_exactly(state.coeffs, residual[0], state.moved_coeffs);
        add_exactly(state.logits, residual[1], state.moved_logits);
      }
    }
    for (int k = 0; k < 4; ++k) store(buffers.out(k) + first, parts[k], ALL, width, count);
    for (int k = 0; k < MEMORY; ++k) store(buffers.out(4 + k) + first, state.memory + k, 1, width, count);
  });
}

// A sum of increments; `memory` of the logarithm that AdaGrad-norm remembers.
struct Change {
  lanes coeffs[ALL], logits[ALL], memory;
};

// The largest of three sizes; NaN stays NaN.
INLINE lanes larger_of(lanes size, lanes x, lanes y) {
  x = size_of(x), y = size_of(y);
  size = (x > size) | (x != x) ? x : size;
  return (y > size) | (y != y) ? y : size;
}

INLINE lanes size_of(const Change& change) {
  lanes size = {};
  for (int k = 0; k < ALL; ++k) size = larger_of(size, change.coeffs[k], change.logits[k]);
  return size;
}

INLINE void add(Change& sum, choice on, lanes weight, lanes factor, lanes in_logits, const Gradient& gradient) {
  for (int k = 0; k < ALL; ++k) {
    sum.coeffs[k] = on ? sum.coeffs[k] + weight * (factor * gradient.g[k]) : sum.coeffs[k];
    sum.logits[k] = on ? sum.logits[k] + weight * (in_logits * gradient.pulled[k]) : sum.logits[k];
  }
}

constexpr int CHOICES = 3;  // orders at once, at most

// The sums of the series at `state`, one for each choice of orders, and their last terms where they are wanted; `state`
// is used up.
static void series(State& state, const Problem& problem, const real* given, const lanes* orders, int choices,
                   const real* weights, const real* last_weights, Change* sums, Change* last) {
  static thread_local Gradient gradient;
  real most = 0;
  for (int c = 0; c < choices; ++c) {
    sums[c] = Change{};
    if (last) last[c] = Change{};
    for (int l = 0; l < WIDTH; ++l) most = orders[c][l] > most ? orders[c][l] : most;
  }
  for (int k = 0; k < ALL; ++k) state.moved_logits[k] = state.moved_coeffs[k] = lanes{};
  for (int j = 0; j < most; ++j) {
    lanes kept[MEMORY + 1];
    for (int k = 0; k < MEMORY; ++k) kept[k] = state.memory[k];
    const lanes factor = turn(state, problem, given, gradient), in_logits = factor * problem.unit * problem.unit;
    move(state, problem, factor, gradient);
    for (int c = 0; c < choices; ++c) {
      const choice on = orders[c] > real(j);
      lanes weight, last_weight;
      for (int l = 0; l < WIDTH; ++l) {
        weight[l] = weights[int(orders[c][l]) * TERMS + j];
        last_weight[l] = last ? last_weights[int(orders[c][l]) * TERMS + j] : 0;
      }
      add(sums[c], on, weight, factor, in_logits, gradient);
      if (last) add(last[c], on, last_weight, factor, in_logits, gradient);
      if constexpr (MEMORY > 0) {
        const lanes more = (state.memory[0] - kept[0]) + (state.memory[MEMORY - 1] - kept[MEMORY - 1]);
        sums[c].memory = on ? sums[c].memory + weight * more : sums[c].memory;
      }
    }
  }
}

// Buffers in order. Inputs: coeffs, logits, what the rule remembers; gram, size, deficits, best, visible; what the rule
// was given; orders, one row for each choice; weights of increments in the sum of J terms, and in the last of them, or
// one row where that is not wanted. Outputs, for each choice: the flow in coeffs, logits, and what the rule remembers;
// and the size of the last term.
static void flow(const Buffers& buffers) {
  constexpr int GIVEN = 2 + MEMORY, SLOPES = MEMORY ? 4 : 3;
  const real* given = buffers.in<real>(GIVEN + 5);
  const int32_t* asked = buffers.in<int32_t>(GIVEN + 6);
  const int64_t width = buffers.last_axis(0);
  const int choices = int(buffers.first_axis(GIVEN + 6));
  static thread_local State state;
  static thread_local Change sums[CHOICES], last[CHOICES];
  Change* wanted = buffers.first_axis(GIVEN + 8) > 1 ? last : nullptr;
  in_registers(buffers, GIVEN, [&](const Problem& problem, int64_t first, int count) {
    lanes orders[CHOICES];
    for (int c = 0; c < choices; ++c) orders[c] = converted(asked + c * width + first, count);
    load(state.coeffs, buffers.in<real>(0) + first, ALL, width, count);
    load(state.logits, buffers.in<real>(1) + first, ALL, width, count);
    for (int k = 0; k < MEMORY; ++k) load(state.memory + k, buffers.in<real>(2 + k) + first, 1, width, count);
    series(state, problem, given, orders, choices, buffers.in<real>(GIVEN + 7), buffers.in<real>(GIVEN + 8), sums, wanted);
    for (int c = 0; c < choices; ++c) {
      store(buffers.out(c * SLOPES) + first, sums[c].coeffs, ALL, width, count);
      store(buffers.out(c * SLOPES + 1) + first, sums[c].logits, ALL, width, count);
      if (MEMORY) store(buffers.out(c * SLOPES + 2) + first, &sums[c].memory, 1, width, count);
      const lanes size = wanted ? size_of(last[c]) : lanes{};
      store(buffers.out(c * SLOPES + SLOPES - 1) + first, &size, 1, width, count);
    }
  });
}

// Σ_j w_j stage_j of one number.
template <typename Number>
INLINE lanes combined(const real* weights, int stages, const Number& number) {
  lanes sum = {};
  for (int j = 0; j < stages; ++j)
    if (weights[j] != 0) sum += weights[j] * number(j);
  return sum;
}

// Buffers in order. Inputs: coeffs, logits, the residuals of both, what the rule remembers; the flow there in coeffs,
// logits and what the rule remembers; s, σ; gram, size, deficits, best, visible; what the rule was given; the order;
// weights of increments in the sum of J terms; the formulas. Outputs: what is carried, and the sizes of the two errors.
static void leap(const Buffers& buffers) {
  constexpr int SLOPE = 4 + MEMORY, SCALE = SLOPE + (MEMORY ? 3 : 2), GIVEN = SCALE + 2;
  const real* given = buffers.in<real>(GIVEN + 5);
  const real* weights = buffers.in<real>(GIVEN + 7);
  const real* formulas = buffers.in<real>(GIVEN + 8);  // A of each stage, B, C, and of errors of orders 5 and 3
  const real *B = formulas + STAGES * STAGES, *C = B + STAGES, *E3 = C + STAGES, *E5 = E3 + STAGES;
  const int64_t width = buffers.last_axis(0);
  static thread_local State here, there;
  static thread_local lanes residual[2][ALL];
  static thread_local Change stages[STAGES];
  in_registers(buffers, GIVEN, [&](const Problem& problem, int64_t first, int count) {
    lanes* parts[] = {here.coeffs, here.logits, residual[0], residual[1]};
    lanes scale, sigma;
    const lanes order = converted(buffers.in<int32_t>(GIVEN + 6) + first, count);
    for (int k = 0; k < 4; ++k) load(parts[k], buffers.in<real>(k) + first, ALL, width, count);
    for (int k = 0; k < MEMORY; ++k) load(here.memory + k, buffers.in<real>(4 + k) + first, 1, width, count);
    load(stages[0].coeffs, buffers.in<real>(SLOPE) + first, ALL, width, count);
    load(stages[0].logits, buffers.in<real>(SLOPE + 1) + first, ALL, width, count);
    if (MEMORY) load(&stages[0].memory, buffers.in<real>(SLOPE + 2) + first, 1, width, count);
    load(&scale, buffers.in<real>(SCALE) + first, 1, width, count);
    load(&sigma, buffers.in<real>(SCALE + 1) + first, 1, width, count);
    for (int i = 0; i < STAGES; ++i) {
      if (i) {
        const real* A = formulas + i * STAGES;
        for (int k = 0; k < ALL; ++k) {
          const auto coeff = [&](int j) { return stages[j].coeffs[k]; };
          const auto logit = [&](int j) { return stages[j].logits[k]; };
          there.coeffs[k] = here.coeffs[k] + (combined(A, i, coeff) + residual[0][k]);
          there.logits[k] = here.logits[k] + (combined(A, i, logit) + residual[1][k]);
        }
        if constexpr (MEMORY > 0) {
          lanes more = combined(A, i, [&](int j) { return stages[j].memory; });
          for (int k = 0; k < MEMORY; ++k) there.memory[k] = here.memory[k];
          add_exactly(there.memory, there.memory + MEMORY - 1, &more, 1);
        }
        series(there, problem, given, &order, 1, weights, nullptr, stages + i, nullptr);
      }
      const lanes speed = sigma * scale * exponential(C[i] * sigma);
      for (int k = 0; k < ALL; ++k) stages[i].coeffs[k] *= speed, stages[i].logits[k] *= speed;
      stages[i].memory *= speed;
    }
    lanes five = {}, three = {};
    for (int k = 0; k < ALL; ++k) {
      const auto coeff = [&](int j) { return stages[j].coeffs[k]; };
      const auto logit = [&](int j) { return stages[j].logits[k]; };
      here.moved_coeffs[k] = combined(B, STAGES, coeff), here.moved_logits[k] = combined(B, STAGES, logit);
      five = larger_of(five, combined(E5, STAGES, coeff), combined(E5, STAGES, logit));
      three = larger_of(three, combined(E3, STAGES, coeff), combined(E3, STAGES, logit));
    }
    add_exactly(here.coeffs, residual[0], here.moved_coeffs);
    add_exactly(here.logits, residual[1], here.moved_logits);
    if constexpr (MEMORY > 0) {
      lanes more = combined(B, STAGES, [&](int j) { return stages[j].memory; });
      add_exactly(here.memory, here.memory + MEMORY - 1, &more, 1);
    }
    for (int k = 0; k < 4; ++k) store(buffers.out(k) + first, parts[k], ALL, width, count);
    for (int k = 0; k < MEMORY; ++k) store(buffers.out(4 + k) + first, here.memory + k, 1, width, count);
    store(buffers.out(4 + MEMORY) + first, &five, 1, width, count);
    store(buffers.out(5 + MEMORY) + first, &three, 1, width, count);
  });
}

}  // namespace works

HANDLER(some)
HANDLER(flow)
HANDLER(leap)
