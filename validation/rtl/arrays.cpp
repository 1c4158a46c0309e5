// Drives one array build over a list of GEMMs and prints one CSV row each.
//
//     arrays_R_C... < cases          cases: "dataflow overlap M N K seed" a line
//
// Built with -DSTATIONARY=0|1 -DROWS= -DCOLS= -DDOUBLE=0|1 -DGROUP=1|4. Cycles run from the first operand handed in to
// the last useful result visible, both included. The bench holds no cycle formula: how long a stationary operand must
// load before the moving one may start (lead), and how soon a fold may follow the one before (interval), are found by
// trying: the smallest values, at or above what the ports take, with which full folds of random operands come out exact.

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "Varray.h"
#include "verilated.h"

double sc_time_stamp() { return 0; }

namespace {

struct Weight {
    int value = 0;
    int index = 0;
};

// left[vector][step] (a group of GROUP bytes), top[step][column]; product[vector][column] sums over the steps.
struct Problem {
    int vectors = 0, columns = 0, steps = 0;
    std::vector<std::vector<uint32_t>> left;
    std::vector<std::vector<Weight>> top;
    std::vector<std::vector<int32_t>> product;
};

struct Outcome {
    bool exact = false;
    long useful = 0, padded = 0;  // cycles to the last useful result, to the last result of the array
};

struct Timing {
    int lead = 0;
    long interval = 0;
};

using Matrix = std::vector<std::vector<int>>;

int ceil_div(int a, int b) { return (a + b - 1) / b; }

// int8 without zero, which would hide an operand used in the wrong cycle.
Matrix random_matrix(std::mt19937& random, int rows, int columns) {
    Matrix made(rows, std::vector<int>(columns));
    for (auto& row : made)
        for (int& value : row) {
            value = static_cast<int>(random() % 255) - 128;
            value += value >= 0;
        }
    return made;
}

// activations M x K times weights K x N; with GROUP 4 two of four consecutive weights of a column survive.
Problem gemm(const std::string& dataflow, int m, int n, int k, std::mt19937& random) {
    const Matrix activations = random_matrix(random, m, k);
    Matrix weights = random_matrix(random, k, n);
    Problem problem;
    problem.steps = GROUP == 1 ? k : 2 * ceil_div(k, 4);
    std::vector<std::vector<Weight>> packed(problem.steps, std::vector<Weight>(n));
    for (int column = 0; column < n; ++column) {
        if (GROUP == 1) {
            for (int step = 0; step < k; ++step) packed[step][column].value = weights[step][column];
            continue;
        }
        for (int group = 0; group < problem.steps / 2; ++group) {
            const int skipped = static_cast<int>(random() % 4);
            const int also_skipped = (skipped + 1 + static_cast<int>(random() % 3)) % 4;
            int slot = 2 * group;
            for (int place = 0; place < 4; ++place) {
                const int row = 4 * group + place;
                if (place == skipped || place == also_skipped) {
                    if (row < k) weights[row][column] = 0;
                } else {
                    packed[slot++][column] = {row < k ? weights[row][column] : 0, place};
                }
            }
        }
    }
    Matrix product(m, std::vector<int>(n, 0));
    for (int row = 0; row < m; ++row)
        for (int step = 0; step < k; ++step)
            for (int column = 0; column < n; ++column)
                product[row][column] += activations[row][step] * weights[step][column];

    if (dataflow == "is") {  // the activations stay: their transpose enters on top, the weights move through
        problem.vectors = n;
        problem.columns = m;
        problem.left.assign(n, std::vector<uint32_t>(k));
        problem.top.assign(k, std::vector<Weight>(m));
        problem.product.assign(n, std::vector<int32_t>(m));
        for (int step = 0; step < k; ++step) {
            for (int vector = 0; vector < n; ++vector) problem.left[vector][step] = weights[step][vector] & 0xff;
            for (int column = 0; column < m; ++column) problem.top[step][column].value = activations[column][step];
        }
        for (int vector = 0; vector < n; ++vector)
            for (int column = 0; column < m; ++column) problem.product[vector][column] = product[column][vector];
        return problem;
    }
    problem.vectors = m;
    problem.columns = n;
    problem.top = packed;
    problem.product = product;
    problem.left.assign(m, std::vector<uint32_t>(problem.steps, 0));
    for (int row = 0; row < m; ++row)
        for (int step = 0; step < problem.steps; ++step)
            for (int byte = 0; byte < GROUP; ++byte) {
                const int position = GROUP == 1 ? step : 4 * (step / 2) + byte;
                if (position < k)
                    problem.left[row][step] |= static_cast<uint32_t>(activations[row][position] & 0xff) << (8 * byte);
            }
    return problem;
}

// Steps that a fold streams: the reduction (output stationary) or the moving vectors.
int stream_length(const Problem& problem) { return STATIONARY ? problem.vectors : problem.steps; }

class Bench {
  public:
    explicit Bench(VerilatedContext* context) : array_(context) {}

    Outcome run(const Problem& problem, const Timing& timing) {
        const int down = ceil_div(STATIONARY ? problem.steps : problem.vectors, ROWS);
        const long folds = static_cast<long>(down) * ceil_div(problem.columns, COLS);
        const int stream = stream_length(problem);
        const int shown = STATIONARY ? stream : ROWS;  // results of a fold and column
        const long limit = folds * timing.interval + stream + timing.lead + 4 * (ROWS + COLS);
        std::vector<long> seen(COLS, 0);
        Matrix got(problem.vectors, std::vector<int>(problem.columns, 0));
        Outcome outcome;
        outcome.exact = true;

        reset();
        for (long now = 0; now < limit; ++now) {
            for (int c = 0; c < COLS; ++c) {
                if (!array_.out_valid[c]) continue;
                const long fold = seen[c] / shown;
                const int place = static_cast<int>(seen[c]++ % shown);
                const int column = static_cast<int>(fold / down) * COLS + c;
                const int vector = STATIONARY ? place : static_cast<int>(fold % down) * ROWS + ROWS - 1 - place;
                const int value = static_cast<int32_t>(array_.out[c]);
                if (fold >= folds) {
                    outcome.exact = false;
                    continue;
                }
                outcome.padded = now + 1;
                if (column < problem.columns && vector < problem.vectors) {
                    got[vector][column] += value;
                    outcome.useful = now + 1;
                } else if (value != 0) {
                    outcome.exact = false;
                }
            }
            drive(problem, timing, now, folds, down, stream);
            tick();
        }
        for (int c = 0; c < COLS; ++c) outcome.exact &= seen[c] == folds * shown;
        outcome.exact &= got == problem.product;
        return outcome;
    }

  private:
    void tick() {
        array_.clk = 0;
        array_.eval();
        array_.clk = 1;
        array_.eval();
    }

    void reset() {
        idle();
        array_.rst = 1;
        tick();
        tick();
        array_.rst = 0;
    }

    void idle() {
        array_.in_valid = 0;
        array_.in_first = 0;
        set_mark(0);
        for (int r = 0; r < ROWS; ++r) array_.left[r] = 0;
        for (int c = 0; c < COLS; ++c) array_.top[c] = array_.top_index[c] = 0;
    }

#if STATIONARY
    void set_mark(bool on) { array_.in_load = on; }
#else
    void set_mark(bool on) { array_.in_last = on; }
#endif

    void top(const Problem& problem, int step, int first_column) {
        for (int c = 0; c < COLS; ++c) {
            const int column = first_column + c;
            if (step >= problem.steps || column >= problem.columns) continue;
            array_.top[c] = problem.top[step][column].value & 0xff;
            array_.top_index[c] = problem.top[step][column].index;
        }
    }

    void drive(const Problem& problem, const Timing& timing, long now, long folds, int down, int stream) {
        idle();
        const long moving = now - timing.lead;
        const long fold = moving / timing.interval;
        const int step = static_cast<int>(moving % timing.interval);
        if (moving >= 0 && fold < folds && step < stream) {
            array_.in_valid = 1;
            array_.in_first = step == 0;
            const int block = static_cast<int>(fold % down) * ROWS;
            for (int r = 0; r < ROWS; ++r) {
                const int vector = STATIONARY ? step : block + r, at = STATIONARY ? block + r : step;
                if (vector < problem.vectors && at < problem.steps) array_.left[r] = problem.left[vector][at];
            }
            if (!STATIONARY) {
                set_mark(step == stream - 1);
                top(problem, step, static_cast<int>(fold / down) * COLS);
            }
        }
        if (STATIONARY) {
            const long loading = now / timing.interval;
            const int row = static_cast<int>(now % timing.interval);
            if (loading < folds && row < ROWS) {
                set_mark(true);
                top(problem, static_cast<int>(loading % down) * ROWS + ROWS - 1 - row,
                    static_cast<int>(loading / down) * COLS);
            }
        }
    }

    Varray array_;
};

// Full folds side by side, `count` of them, that stream `stream` steps.
Problem full_folds(const std::string& dataflow, int stream, int count) {
    std::mt19937 random(977u * static_cast<unsigned>(stream) + static_cast<unsigned>(count));
    const int depth = GROUP == 1 ? ROWS : 2 * ROWS;  // 2 * ROWS weights, two of four: ROWS of them are packed
    if (dataflow == "is") return gemm(dataflow, count * COLS, stream, depth, random);
    if (STATIONARY) return gemm(dataflow, stream, count * COLS, depth, random);
    return gemm(dataflow, ROWS, count * COLS, GROUP == 1 ? stream : 2 * stream, random);
}

Timing find_timing(Bench& bench, const std::string& dataflow, const std::string& overlap, int stream) {
    const long ports = STATIONARY ? std::max(stream, ROWS) : stream;
    const long far = 8L * (stream + ROWS + COLS);
    const Problem one = full_folds(dataflow, stream, 1), three = full_folds(dataflow, stream, 3);
    Timing timing{0, far};
    while (STATIONARY && timing.lead < far && !bench.run(one, timing).exact) ++timing.lead;
    if (overlap == "none") {
        timing.interval = bench.run(one, timing).padded;
        return timing;
    }
    for (timing.interval = ports; timing.interval < far && !bench.run(three, timing).exact;) ++timing.interval;
    return timing;
}

}  // namespace

int main() {
    VerilatedContext context;
    Bench bench(&context);
    std::map<std::string, Timing> known;
    std::string dataflow, overlap;
    int m = 0, n = 0, k = 0;
    unsigned seed = 0;
    while (std::cin >> dataflow >> overlap >> m >> n >> k >> seed) {
        std::mt19937 random(seed);
        const Problem problem = gemm(dataflow, m, n, k, random);
        const int stream = stream_length(problem);
        const std::string key = dataflow + overlap + std::to_string(stream);
        if (!known.count(key)) known[key] = find_timing(bench, dataflow, overlap, stream);
        const Timing timing = known[key];
        const Outcome outcome = bench.run(problem, timing);
        std::cout << dataflow << ',' << overlap << ',' << ROWS << ',' << COLS << ',' << m << ',' << n << ',' << k << ','
                  << timing.lead << ',' << timing.interval << ',' << outcome.useful << ',' << outcome.padded << ','
                  << outcome.exact << '\n';
    }
    return 0;
}
