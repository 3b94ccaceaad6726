// What runs beyond the first steps need of the map: steps of every lane by itself, and leaps.
//
// The mathematics is that of jaxsim/driver/steps.py, interpolant.py and leap.py; names are the same. Beside what head.h
// is compiled with:
//
//   KNOWN     increments that are known beside the one where the lane is
//   POINTS    Gauss's points of their polynomial
//   MOST      leaps before lanes are looked at again

#include "handler.h"

static_assert(COMPENSATED && !MOMENTUM);

namespace works {

INLINE lanes converted(const int32_t* from, int count) {
  lanes to;
  for (int l = 0; l < WIDTH; ++l) to[l] = real(from[l < count ? l : count - 1]);
  return to;
}

INLINE int how_many(choice of) {
  whole count = 0;
  for (int l = 0; l < WIDTH; ++l) count -= of[l];
  return int(count);
}

// Increments of one step; `memory` of the logarithm that AdaGrad-norm remembers.
struct Change {
  lanes coeffs[ALL], logits[ALL], memory;
};

// What a step changes where the state is; what the rule remembers goes on.
INLINE void change(State& state, const Problem& problem, const lanes* given, Change& by) {
  static thread_local Gradient gradient;
  lanes kept[MEMORY + 1];
  for (int k = 0; k < MEMORY; ++k) kept[k] = state.memory[k];
  const lanes factor = turn(state, problem, given, gradient), in_logits = factor * problem.unit * problem.unit;
  for (int k = 0; k < ALL; ++k) {
    by.coeffs[k] = factor * gradient.g[k];
    by.logits[k] = in_logits * gradient.pulled[k];
  }
  if constexpr (MEMORY > 0) by.memory = (state.memory[0] - kept[0]) + (state.memory[MEMORY - 1] - kept[MEMORY - 1]);
}

constexpr int CARRIED = 4 + MEMORY, CHANGE = MEMORY ? 3 : 2;  // arrays of a state and of increments

// Increments in row `i` of the arrays from the one `k`.
INLINE void read(Change& to, const Buffers& buffers, int k, int i, int64_t first, int64_t width, int count) {
  load(to.coeffs, buffers.in<real>(k) + i * ALL * width + first, ALL, width, count);
  load(to.logits, buffers.in<real>(k + 1) + i * ALL * width + first, ALL, width, count);
  if (MEMORY) load(&to.memory, buffers.in<real>(k + 2) + i * width + first, 1, width, count);
}

INLINE void write(const Buffers& buffers, int k, int i, const Change& from, int64_t first, int64_t width, int count) {
  store(buffers.out(k) + i * ALL * width + first, from.coeffs, ALL, width, count);
  store(buffers.out(k + 1) + i * ALL * width + first, from.logits, ALL, width, count);
  if (MEMORY) store(buffers.out(k + 2) + i * width + first, &from.memory, 1, width, count);
}

// Buffers in order. Inputs: coeffs, logits, the residuals of both, what the rule remembers; gram, size, deficits, best,
// visible; what the rule was given; how many steps each lane makes. Outputs: what is carried, in the same place or
// another, and the first increments.
static void some(const Buffers& buffers) {
  const int32_t* counts = buffers.in<int32_t>(CARRIED + 6);
  const int64_t width = buffers.last_axis(0);
  static thread_local State state;
  static thread_local Change by, first_by;
  static thread_local lanes residual[2][ALL];
  in_registers(buffers, CARRIED, [&](const Problem& problem, int64_t first, int count) {
    lanes* parts[] = {state.coeffs, state.logits, residual[0], residual[1]};
    lanes given[GIVEN];
    load(given, buffers.in<real>(CARRIED + 5) + first, GIVEN, width, count);
    for (int k = 0; k < 4; ++k) load(parts[k], buffers.in<real>(k) + first, ALL, width, count);
    for (int k = 0; k < MEMORY; ++k) load(state.memory + k, buffers.in<real>(4 + k) + first, 1, width, count);
    for (int k = 0; k < ALL; ++k) state.moved_logits[k] = state.moved_coeffs[k] = lanes{};
    const lanes wanted = converted(counts + first, count);
    int32_t most = 1;  // the first increments are wanted of lanes that stay, too
    for (int l = 0; l < count; ++l) most = counts[first + l] > most ? counts[first + l] : most;
    for (int32_t done = 0; done < most; ++done) {
      const choice on = wanted > real(done);
      lanes kept[MEMORY + 1];
      for (int k = 0; k < MEMORY; ++k) kept[k] = state.memory[k];
      change(state, problem, given, done ? by : first_by);
      const Change& moved = done ? by : first_by;
      for (int k = 0; k < ALL; ++k) {
        state.moved_coeffs[k] = on ? state.moved_coeffs[k] + moved.coeffs[k] : state.moved_coeffs[k];
        state.moved_logits[k] = on ? state.moved_logits[k] + moved.logits[k] : state.moved_logits[k];
      }
      for (int k = 0; k < MEMORY; ++k) state.memory[k] = on ? state.memory[k] : kept[k];
      if ((done + 1) % BURST == 0 || done + 1 == most) {
        add_exactly(state.coeffs, residual[0], state.moved_coeffs);
        add_exactly(state.logits, residual[1], state.moved_logits);
      }
    }
    for (int k = 0; k < 4; ++k) store(buffers.out(k) + first, parts[k], ALL, width, count);
    for (int k = 0; k < MEMORY; ++k) store(buffers.out(4 + k) + first, state.memory + k, 1, width, count);
    write(buffers, CARRIED, 0, first_by, first, width, count);
  });
}

constexpr int NODES = KNOWN + 2;  // at k + N, at k, and before

// Of a leap; see interpolant.py.
struct Weights {
  lanes sum[KNOWN + 1], next[KNOWN + 1], surprise, doubt;
};

INLINE void weigh(const lanes* ago, lanes made, lanes length, real spread, const real* points, Weights& found) {
  lanes oldest = ago[0];
  for (int i = 1; i < KNOWN; ++i) oldest = larger(oldest, ago[i]);
  const lanes scale = smaller(spread * oldest, made);
  lanes S[NODES], t[NODES], w[NODES], apart[NODES][NODES], integral[NODES] = {};
  for (int i = 0; i < NODES; ++i) {
    const lanes from_here = i == 0 ? length : i == 1 ? lanes{} : -ago[i < 2 ? 0 : i - 2];
    S[i] = scale + from_here, t[i] = logarithm_past_one(from_here / scale);
  }
  for (int i = 0; i < NODES; ++i) {
    lanes product = same(1);
    for (int j = 0; j < NODES; ++j)
      if (j != i) apart[i][j] = t[i] - t[j], product *= apart[i][j];
    w[i] = 1 / product;
  }
  for (int q = 0; q < POINTS; ++q) {
    lanes distance[NODES], product = same(1);
    for (int i = 0; i < NODES; ++i) distance[i] = points[q] * t[0] - t[i], product *= distance[i];
    for (int i = 0; i < NODES; ++i) integral[i] += points[POINTS + q] * (w[i] * product / distance[i]);
  }
  for (int i = 0; i < NODES; ++i) integral[i] *= t[0];
  lanes all[NODES];
  for (int i = 0; i < NODES; ++i) all[i] = integral[i];
  for (int a = 0; a < 2; ++a) {  // less half of g, and a twelfth of dg/dκ, from here to the end
    const real sign = a == 0 ? 1 : -1;
    lanes slope = lanes{};
    for (int i = 0; i < NODES; ++i)
      if (i != a) {
        all[i] += sign / 12 * (w[i] / w[a] / apart[a][i]) / (S[a] * S[a]);
        slope += 1 / apart[a][i];
      }
    all[a] += sign / 12 * (slope - 1) / (S[a] * S[a]) - sign / 2 / S[a];
  }
  const lanes end = w[0] * S[0];
  found.surprise = all[0] * S[0];
  found.doubt = lanes{};
  for (int i = 1; i < NODES; ++i) {
    found.next[i - 1] = -(w[i] * S[i]) / end;
    found.sum[i - 1] = all[i] * S[i] + found.surprise * found.next[i - 1];
    if (i > 1) found.doubt = ago[i - 2] == oldest ? integral[i] / w[i] * end : found.doubt;
  }
}

INLINE lanes power(lanes x, real of) { return exponential(of * logarithm(x)); }

// e^x - 1 for x of at least 0.
INLINE lanes exponential_less_one(lanes x) { return x < 1 ? x * growth(smaller(x, same(1))) : exponential(x) - 1; }

// Buffers in order. Inputs: coeffs, logits, the residuals of both, what the rule remembers; the increments that are
// known, and how many steps ago; steps since the last mark, the logarithm of the factor of the next leap, whether the
// lane is fast, how many leaps were taken and refused, where they began, their error, where the lane was stuck. Then, not
// carried: the step of the last mark, how many there are to the next, single steps, and whether the lane leaps; gram,
// size, deficits, best, visible; what the rule was given; Gauss's points and weights; TOLERANCE, SPREAD, SHORT, LONG, AIM,
// SLOWER, FASTER, LONGEST and HOVERS of leap.py. Outputs: what is carried, in the same place or another.
static void leap(const Buffers& buffers) {
  constexpr int PAST = CARRIED, AGO = PAST + CHANGE, OWN = AGO + 1, FIXED = OWN + 8, PROBLEM = FIXED + 4;
  const real* points = buffers.in<real>(PROBLEM + 6);
  const real* how = buffers.in<real>(PROBLEM + 7);
  const real tolerance = how[0], spread = how[1], short_ = how[2], long_ = how[3], aim = how[4], slower = how[5],
             faster = how[6], longest = how[7], above = how[8];
  const int64_t width = buffers.last_axis(0);
  static thread_local State here, there;
  static thread_local Change known[KNOWN], now, next, sum, then;
  static thread_local lanes residual[2][ALL];
  in_registers(buffers, PROBLEM, [&](const Problem& problem, int64_t first, int count) {
    lanes* parts[] = {here.coeffs, here.logits, residual[0], residual[1]};
    lanes ago[KNOWN], own[8], fixed[4], given[GIVEN];
    auto& [elapsed, stretch, fast, leaps, refused, began, error, stuck] = own;
    const auto& [start, gap, stepped, leaping] = fixed;
    for (int k = 0; k < 4; ++k) load(parts[k], buffers.in<real>(k) + first, ALL, width, count);
    for (int k = 0; k < MEMORY; ++k) load(here.memory + k, buffers.in<real>(4 + k) + first, 1, width, count);
    for (int k = 0; k < 8; ++k) load(own + k, buffers.in<real>(OWN + k) + first, 1, width, count);
    for (int k = 0; k < 4; ++k) load(fixed + k, buffers.in<real>(FIXED + k) + first, 1, width, count);
    load(given, buffers.in<real>(PROBLEM + 5) + first, GIVEN, width, count);
    load(ago, buffers.in<real>(AGO) + first, KNOWN, width, count);
    for (int i = 0; i < KNOWN; ++i) read(known[i], buffers, PAST, i, first, width, count);
    const int begun = how_many(leaping != 0);
    for (int tries = 0; tries < MOST; ++tries) {
      const choice on = (leaping != 0) & (fast == 0) & (stuck != stuck) & (elapsed < gap);
      if (2 * how_many(on) <= begun) break;
      const lanes made = start + elapsed, remaining = gap - elapsed;
      const choice lands = stretch >= logarithm_past_one(remaining / made);
      lanes wanted = nearest(made * exponential_less_one(stretch));
      wanted = 2 * wanted > remaining ? nearest(remaining / 2) : wanted;  // so that no crumb is left
      const lanes length = lands ? remaining : smaller(larger(wanted, same(1)), remaining);
      const lanes factor_here = logarithm_past_one(length / made);
      Weights by;
      weigh(ago, made, length, spread, points, by);

      for (int k = 0; k < ALL; ++k) {
        there.coeffs[k] = here.coeffs[k] + residual[0][k], there.logits[k] = here.logits[k] + residual[1][k];
        there.moved_coeffs[k] = there.moved_logits[k] = lanes{};
      }
      for (int k = 0; k < MEMORY; ++k) there.memory[k] = here.memory[k];
      change(there, problem, given, now);
      lanes large = same(1), surprised = lanes{}, moves = lanes{};
      for (int k = 0; k < ALL; ++k) {
        lanes to_coeff = by.sum[0] * now.coeffs[k], to_logit = by.sum[0] * now.logits[k];
        lanes next_coeff = by.next[0] * now.coeffs[k], next_logit = by.next[0] * now.logits[k];
        for (int i = 0; i < KNOWN; ++i) {
          to_coeff += by.sum[i + 1] * known[i].coeffs[k], to_logit += by.sum[i + 1] * known[i].logits[k];
          next_coeff += by.next[i + 1] * known[i].coeffs[k], next_logit += by.next[i + 1] * known[i].logits[k];
        }
        large = larger(larger(large, size_of(there.coeffs[k])), size_of(there.logits[k]));
        moves = larger(larger(moves, size_of(to_coeff)), size_of(to_logit));
        sum.coeffs[k] = to_coeff, sum.logits[k] = to_logit, next.coeffs[k] = next_coeff, next.logits[k] = next_logit;
        there.coeffs[k] = here.coeffs[k] + (to_coeff + residual[0][k]);
        there.logits[k] = here.logits[k] + (to_logit + residual[1][k]);
      }
      if constexpr (MEMORY > 0) {
        sum.memory = by.sum[0] * now.memory, next.memory = by.next[0] * now.memory;
        for (int i = 0; i < KNOWN; ++i)
          sum.memory += by.sum[i + 1] * known[i].memory, next.memory += by.next[i + 1] * known[i].memory;
        lanes more = sum.memory;
        for (int k = 0; k < MEMORY; ++k) there.memory[k] = here.memory[k];
        add_exactly(there.memory, there.memory + MEMORY - 1, &more, 1);
      }
      change(there, problem, given, then);
      choice sound = by.doubt - by.doubt == 0;
      for (int k = 0; k < ALL; ++k) {
        const lanes in_coeff = then.coeffs[k] - next.coeffs[k], in_logit = then.logits[k] - next.logits[k];
        sum.coeffs[k] += by.surprise * in_coeff, sum.logits[k] += by.surprise * in_logit;
        surprised = larger(surprised, larger(size_of(in_coeff), size_of(in_logit)));
        const lanes both = sum.coeffs[k] + sum.logits[k];
        sound &= both - both == 0;
      }
      const lanes local = sound ? size_of(by.doubt) * surprised / large : same(INFINITE);
      const choice taken = on & (local <= tolerance);
      const choice hovers = on & (moves <= above * local * large) & (moves <= above * tolerance * large);

      lanes factor = real(0.9) * power(aim * tolerance / local, real(1) / (KNOWN + 2));
      factor = smaller(larger(factor, same(slower)), same(faster));
      lanes after = smaller(factor_here * factor, same(long_));
      after = taken & lands ? larger(after, stretch) : after;
      const lanes gone = taken ? length : lanes{};
      const choice slack = hovers | (on & ((made + gone) * exponential_less_one(after) < short_));
      for (int k = 0; k < ALL; ++k) {
        here.moved_coeffs[k] = taken ? sum.coeffs[k] : lanes{};
        here.moved_logits[k] = taken ? sum.logits[k] : lanes{};
      }
      add_exactly(here.coeffs, residual[0], here.moved_coeffs);
      add_exactly(here.logits, residual[1], here.moved_logits);
      if constexpr (MEMORY > 0) {
        lanes more = taken ? sum.memory + by.surprise * (then.memory - next.memory) : lanes{};
        add_exactly(here.memory, here.memory + MEMORY - 1, &more, 1);
      }
      choice wanting = taken;  // the oldest increment makes room for that of here
      lanes oldest = ago[0];
      for (int i = 1; i < KNOWN; ++i) oldest = larger(oldest, ago[i]);
      for (int i = 0; i < KNOWN; ++i) {
        const choice new_ = wanting & (ago[i] == oldest);
        wanting &= ~new_;
        ago[i] = new_ ? length : ago[i] + gone;
        if (!how_many(new_)) continue;
        for (int k = 0; k < ALL; ++k) {
          known[i].coeffs[k] = new_ ? now.coeffs[k] : known[i].coeffs[k];
          known[i].logits[k] = new_ ? now.logits[k] : known[i].logits[k];
        }
        if (MEMORY) known[i].memory = new_ ? now.memory : known[i].memory;
      }
      elapsed = taken & lands ? gap : elapsed + gone;
      stretch = on ? after : stretch;
      fast = slack ? same(1) : fast;
      leaps += taken ? same(1) : lanes{};
      refused += on & ~taken ? same(1) : lanes{};
      began = taken & (began != began) ? made : began;
      error += taken ? local : lanes{};
      stuck = (slack & (stepped >= longest)) | (on & (leaps + refused > longest)) ? made : stuck;
    }
    for (int k = 0; k < 4; ++k) store(buffers.out(k) + first, parts[k], ALL, width, count);
    for (int k = 0; k < MEMORY; ++k) store(buffers.out(4 + k) + first, here.memory + k, 1, width, count);
    for (int k = 0; k < 8; ++k) store(buffers.out(OWN + k) + first, own + k, 1, width, count);
    for (int i = 0; i < KNOWN; ++i) write(buffers, PAST, i, known[i], first, width, count);
    store(buffers.out(AGO) + first, ago, KNOWN, width, count);
  });
}

}  // namespace works

HANDLER(some)
HANDLER(leap)
