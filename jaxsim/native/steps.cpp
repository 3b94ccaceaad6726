// Many steps in one call.
//
// Buffers in order. Inputs: coeffs and logits, with compensation the residuals of both, of momentum the velocity in both,
// what else the rule remembers; gram, size, deficits, best, visible; what the rule was given, once or for every step; the
// number of steps.
// Outputs: what is carried, up to the memory, in the same place or another.

#include "handler.h"

constexpr int LOST = COMPENSATED ? 2 : 0, VELOCITY = 2 + LOST, KEPT = VELOCITY + (MOMENTUM ? 2 : 0);
constexpr int CARRIED = KEPT + MEMORY;

namespace works {
static void many(const Buffers& buffers) {
  const int32_t steps = *buffers.in<int32_t>(CARRIED + 6);
  const int64_t width = buffers.last_axis(0), apart = buffers.first_axis(CARRIED + 5) > 1 ? GIVEN * width : 0;
  static thread_local State state;
  static thread_local Gradient gradient;
  static thread_local lanes residual[2][ALL];
  in_registers(buffers, CARRIED, [&](const Problem& problem, int64_t first, int count) {
    lanes given[GIVEN];
    const real* of_step = buffers.in<real>(CARRIED + 5) + first;
    load(given, of_step, GIVEN, width, count);
    load(state.coeffs, buffers.in<real>(0) + first, ALL, width, count);
    load(state.logits, buffers.in<real>(1) + first, ALL, width, count);
    for (int k = 0; k < LOST; ++k) load(residual[k], buffers.in<real>(2 + k) + first, ALL, width, count);
    for (int k = 0; k < MEMORY; ++k) load(state.memory + k, buffers.in<real>(KEPT + k) + first, 1, width, count);
    if (MOMENTUM) {
      Direction& velocity = state.velocity;
      load(velocity.g, buffers.in<real>(VELOCITY) + first, ALL, width, count);
      load(velocity.pulled, buffers.in<real>(VELOCITY + 1) + first, ALL, width, count);
      for (int k = 0; k < ALL; ++k) velocity.pulled[k] = velocity.pulled[k] / problem.unit / problem.unit;
      velocity.scale = state.memory[0];
    }
    for (int k = 0; k < ALL; ++k) state.moved_logits[k] = state.moved_coeffs[k] = lanes{};
    for (int32_t done = 0; done < steps; ++done, of_step += apart) {
      if (apart) load(given, of_step, GIVEN, width, count);
      const lanes factor = turn(state, problem, given, gradient);
      move(state, problem, factor, gradient);
      if (COMPENSATED && ((done + 1) % BURST == 0 || done + 1 == steps)) {
        add_exactly(state.coeffs, residual[0], state.moved_coeffs);
        add_exactly(state.logits, residual[1], state.moved_logits);
      }
    }
    store(buffers.out(0) + first, state.coeffs, ALL, width, count);
    store(buffers.out(1) + first, state.logits, ALL, width, count);
    for (int k = 0; k < LOST; ++k) store(buffers.out(2 + k) + first, residual[k], ALL, width, count);
    if (MOMENTUM) {
      Direction& velocity = state.velocity;
      for (int k = 0; k < ALL; ++k) velocity.pulled[k] = velocity.pulled[k] * problem.unit * problem.unit;
      store(buffers.out(VELOCITY) + first, velocity.g, ALL, width, count);
      store(buffers.out(VELOCITY + 1) + first, velocity.pulled, ALL, width, count);
      state.memory[0] = velocity.scale;
    }
    for (int k = 0; k < MEMORY; ++k) store(buffers.out(KEPT + k) + first, state.memory + k, 1, width, count);
  });
}

}  // namespace works

HANDLER(many)
