// Drives one zero-skipping build over a list of masked matrix-vector products and prints one CSV row each.
//
//     zero_skip... < cases
//     cases: "key limit owners positions seed activation_mask owner_mask owner_mask ..." a line; masks are 0/1 text.
//     limit: tiles that may wait in a queue, or products that a shared accumulator adds a cycle
//
// Built with -DLANES= -DTILE= -DVECTORS= -DINPUT_LANES=0|1. A lane owns one owner (an output feature, or with INPUT_LANES
// an input feature) and walks the positions (the other side); groups of LANES owners run one after another from reset.
// Cycles of a group run from the first tile handed in to the last accumulator final (`cycles`), and with INPUT_LANES on
// to the last reduced sum visible (`cycles_reduced`), all included. `total` sums the groups.

#include <cstdint>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "Varray.h"
#include "verilated.h"

double sc_time_stamp() { return 0; }

namespace {

using Matrix = std::vector<std::vector<int>>;

struct Case {
    int limit = 0, owners = 0, positions = 0;
    Matrix weights;      // owners x positions
    Matrix activations;  // VECTORS x positions; with INPUT_LANES 1 x owners
};

int not_zero(std::mt19937& random) {
    const int value = static_cast<int>(random() % 255) - 127;
    return value == 0 ? -128 : value;
}

struct Outcome {
    bool exact = true;
    long cycles = 0, reduced = 0;
};

class Bench {
  public:
    explicit Bench(VerilatedContext* context) : array_(context) {}

    Outcome run(const Case& given) {
        Outcome total;
        Matrix got = INPUT_LANES ? Matrix(1, std::vector<int>(given.positions, 0))
                                 : Matrix(VECTORS, std::vector<int>(given.owners, 0));
        for (int first = 0; first < given.owners; first += LANES) group(given, first, got, total);
        total.exact &= got == expected(given);
        return total;
    }

  private:
    static Matrix expected(const Case& given) {
        Matrix product;
        for (const auto& vector : given.activations) {
            product.emplace_back(INPUT_LANES ? given.positions : given.owners, 0);
            for (int owner = 0; owner < given.owners; ++owner)
                for (int at = 0; at < given.positions; ++at)
                    product.back()[INPUT_LANES ? at : owner] +=
                        given.weights[owner][at] * vector[INPUT_LANES ? owner : at];
        }
        return product;
    }

    void group(const Case& given, int first, Matrix& got, Outcome& total) {
        const int tiles = (given.positions + TILE - 1) / TILE;
        const long longest = 4L * LANES * (given.positions + tiles) + 64;
        reset(given.limit);
        int handed = 0, summed = 0;
        long cycles = 0, reduced = 0;
        for (long now = 0; now < longest && (cycles == 0 || summed < tiles); ++now) {
            const bool ready = array_.in_ready;
            if (cycles == 0 && handed == tiles && array_.idle) {
                cycles = now + 1;
                if (!INPUT_LANES) summed = tiles;
            }
#if INPUT_LANES
            if (array_.out_valid) {
                for (int i = 0; i < TILE && summed * TILE + i < given.positions; ++i)
                    got[0][summed * TILE + i] += static_cast<int32_t>(array_.out[i]);
                ++summed;
                reduced = now + 1;
            }
#endif
            array_.in_valid = handed < tiles;
            if (handed < tiles) present(given, first, handed);
            tick();
            if (handed < tiles && ready) ++handed;
        }
        total.exact &= cycles > 0 && summed == tiles;
#if !INPUT_LANES
        reduced = cycles;
        for (int p = 0; p < LANES && first + p < given.owners; ++p)
            for (int v = 0; v < VECTORS; ++v) got[v][first + p] = static_cast<int32_t>(array_.out[p][v]);
#endif
        total.cycles += cycles;
        total.reduced += reduced;
    }

    template <typename Wide>
    static void set_byte(Wide& word, int at, int value) {
        word[at / 4] |= static_cast<uint32_t>(value & 0xff) << (8 * (at % 4));
    }

    void present(const Case& given, int first, int tile) {
        const int begin = tile * TILE;
        for (int p = 0; p < LANES; ++p) {
            uint64_t stored = 0;
            int packed = 0;
            for (int word = 0; word < TILE / 4; ++word) array_.in_weights[p][word] = 0;
            for (int i = 0; i < TILE; ++i) {
                if (first + p >= given.owners || begin + i >= given.positions) break;
                const int weight = given.weights[first + p][begin + i];
                if (weight == 0) continue;
                stored |= uint64_t{1} << i;
                set_byte(array_.in_weights[p], packed++, weight);
            }
            array_.in_stored[p] = stored;
#if INPUT_LANES
            array_.in_activation[p] = first + p < given.owners ? given.activations[0][first + p] & 0xff : 0;
#endif
        }
#if !INPUT_LANES
        uint64_t any = 0;
        for (int v = 0; v < VECTORS; ++v) {
            for (int word = 0; word < TILE / 4; ++word) array_.in_activations[v][word] = 0;
            for (int i = 0; i < TILE && begin + i < given.positions; ++i) {
                const int activation = given.activations[v][begin + i];
                if (activation != 0) any |= uint64_t{1} << i;
                set_byte(array_.in_activations[v], i, activation);
            }
        }
        array_.in_activation_mask = any;
#endif
    }

    void tick() {
        array_.clk = 0;
        array_.eval();
        array_.clk = 1;
        array_.eval();
    }

    void reset(int limit) {
        array_.in_valid = 0;
        array_.limit = limit;
        array_.rst = 1;
        tick();
        tick();
        array_.rst = 0;
    }

    Varray array_;
};

}  // namespace

int main() {
    VerilatedContext context;
    Bench bench(&context);
    std::string key, mask;
    unsigned seed = 0;
    Case given;
    while (std::cin >> key >> given.limit >> given.owners >> given.positions >> seed) {
        std::mt19937 random(seed);
        std::cin >> mask;
        given.activations.assign(VECTORS, {});
        for (auto& vector : given.activations)
            for (const char bit : mask) vector.push_back(bit == '1' ? not_zero(random) : 0);
        given.weights.assign(given.owners, {});
        for (auto& owner : given.weights) {
            std::cin >> mask;
            for (const char bit : mask) owner.push_back(bit == '1' ? not_zero(random) : 0);
        }
        const Outcome outcome = bench.run(given);
        std::cout << key << ',' << given.limit << ',' << outcome.cycles << ',' << outcome.reduced << ','
                  << outcome.exact << '\n';
    }
    return 0;
}
