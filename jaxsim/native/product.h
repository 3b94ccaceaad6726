// Products with the Gram matrix of a problem, for the lanes of a register that are of that problem.
//
// Gradients in the logits and the logits themselves sum to zero in every sequence. So the product with the Gram matrix
// K takes T - 1 numbers of each sequence to T - 1: (K g)_j = Σ_{t<T} (K_jt - K_jT) g_t, and the last is minus their
// sum.

#pragma once

#include "vector.h"

constexpr int ALL = N * T, FREE = N * (T - 1);
constexpr int SPAN = (FREE + WIDTH - 1) / WIDTH;  // of a row, in registers
constexpr int STRIDE = SEVERAL ? SPAN * WIDTH : FREE;  // and in numbers
constexpr int FEW = 2;  // lanes of a problem that are multiplied one by one: of more, all of a register together cost less

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

INLINE int at(int free) { return free / (T - 1) * T + free % (T - 1); }  // of a number of K g among all

// The product K g, `rows` numbers of it at a time, so many as stay in registers; of `own` lanes, or of all.
template <int rows>
INLINE void product(const Gram& of, const lanes* g, int first, const choice* own, lanes* pulled) {
  lanes sum[rows] = {};
  const real* gram = of.rows + first;
  for (int i = 0; i < N; ++i)
#pragma GCC unroll 32
    for (int t = 0; t < T - 1; ++t, gram += STRIDE) {
      const lanes here = g[i * T + t];
#pragma GCC unroll 32
      for (int r = 0; r < rows; ++r) sum[r] += gram[r] * here;
    }
  if (own) {
    for (int r = 0; r < rows; ++r) pulled[at(first + r)] = *own ? sum[r] : pulled[at(first + r)];
  } else {
#pragma GCC unroll 32
    for (int r = 0; r < rows; ++r) pulled[at(first + r)] = sum[r];
  }
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

// K g for the lanes of one part of a register, which may be the `only` one; what the others have stays.
INLINE void multiply(const Part& part, bool only, const lanes* g, lanes* pulled) {
  if (!SEVERAL || part.alone < 0) {
    const choice* own = only ? nullptr : &part.own;
    for (int pass = 0; pass < PASSES - 1; ++pass) product<ROWS>(*part.gram, g, pass * ROWS, own, pulled);
    product<LAST>(*part.gram, g, (PASSES - 1) * ROWS, own, pulled);
  } else {
    real found[STRIDE];
    for (int turn = 0; turn < TURNS - 1; ++turn) product_alone<EACH>(*part.gram, g, part.alone, turn * EACH, found);
    product_alone<REST>(*part.gram, g, part.alone, (TURNS - 1) * EACH, found);
    for (int k = 0; k < FREE; ++k) pulled[at(k)] = part.own ? same(found[k]) : pulled[at(k)];
  }
}

static void prepare(Gram& to, const real* gram, real unit) {
  const real inverse = 1 / unit;
  for (int k = 0; k < FREE; ++k) {
    const real *row = gram + at(k) * ALL, *last = gram + (k / (T - 1) * T + T - 1) * ALL;  // K is symmetric
    for (int j = 0; j < STRIDE; ++j)
      to.rows[k * STRIDE + j] = j < FREE ? (row[at(j)] - last[at(j)]) * inverse * inverse : 0;
  }
}
