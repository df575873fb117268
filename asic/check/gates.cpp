// Simulates a mapped netlist for 64 streams at once, one in each bit of a word, and counts the toggles of every net.
//
// Every gate and latch takes one step of time, so that glitches are counted; clocks and clock gates take none, so that no race is
// between a gated and an ungated clock. A macro is written as the clock rises and read as it falls. Registers and words begin with
// random bits. The generated cells.h has, from the functions of the
// library, the three functions below; `i` are the values of a cell's inputs, `s` its state, `o` its outputs.
//
// Usage: gates <netlist> <beats> <folder> <name=value ...>; the names are those of struct Settings. See gates.py for the formats.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

using Word = uint64_t;
constexpr Word ZERO = 0;
#include "cells.h"  // next_state(kind, i, s), outputs(kind, i, s, o), and PINS, the most inputs or outputs that a cell has

struct Settings {
    long long beats = 0, lasts = 0, limit = 0, seed = 1;  // beats of each stream; sequences that must leave; most cycles
    long long from = 0, cycles = 0;                       // cycles whose toggles are counted, counted from the end of the reset

    void parse(const char* argument) {
        const std::string text(argument);
        const size_t equals = text.find('=');
        const std::string name = text.substr(0, equals);
        const long long value = std::atoll(text.c_str() + equals + 1);
        if (name == "beats") beats = value;
        else if (name == "lasts") lasts = value;
        else if (name == "limit") limit = value;
        else if (name == "seed") seed = value;
        else if (name == "from") from = value;
        else if (name == "cycles") cycles = value;
        else { std::fprintf(stderr, "unknown setting %s\n", argument); std::exit(2); }
    }
};

enum Role { GATE, FF, LATCH, CLOCK_GATE, CLOCK_INVERTER };
struct Cell { int32_t kind, role, clock, ins, outs, pin, out; };  // `clock`: net that clocks it; `pin`, `out`: where its nets begin

// Of a RAM: words, bits of a word and of an address, enables of each port, and where its nets begin: enables, address and data of
// the port that writes, then of the one that reads.
struct Macro { int32_t words, width, address, w_enables, r_enables, pin; };

static std::vector<int32_t> read(const char* path) {
    std::FILE* file = std::fopen(path, "rb");
    if (!file) { std::perror(path); std::exit(2); }
    std::fseek(file, 0, SEEK_END);
    std::vector<int32_t> data(std::ftell(file) / 4);
    std::rewind(file);
    if (std::fread(data.data(), 4, data.size(), file) != data.size()) { std::perror(path); std::exit(2); }
    std::fclose(file);
    return data;
}

struct Simulation {
    std::vector<Cell> cells;
    std::vector<int32_t> nets;               // of all cells' pins
    std::vector<std::vector<int32_t>> readers;  // gates and latches that read a net
    std::vector<int32_t> flip_flops, gates;  // clock gates in an order in which each follows what clocks it
    std::vector<int32_t> inverters;          // of the clock
    std::vector<Macro> macros;
    std::vector<std::vector<Word>> words;    // of each macro, bit by bit
    std::vector<uint64_t> accesses;          // of each macro: written, read
    std::vector<Word> value, state;
    std::vector<uint64_t> toggles;
    std::vector<int32_t> dirty;
    std::vector<char> marked;
    std::vector<std::pair<int32_t, Word>> changes;
    bool counting = false;
    uint64_t steps = 0;

    void set(int32_t net, Word now) {
        const Word changed = value[net] ^ now;
        if (!changed) return;
        value[net] = now;
        if (counting) toggles[net] += __builtin_popcountll(changed);
        for (const int32_t cell : readers[net])
            if (!marked[cell]) marked[cell] = 1, dirty.push_back(cell);
    }
    void inputs(const Cell& cell, Word* i) const { for (int k = 0; k < cell.ins; ++k) i[k] = value[nets[cell.pin + k]]; }
    void emit(const Cell& cell, const Word* i, Word s) {
        Word o[PINS];
        outputs(cell.kind, i, s, o);
        for (int k = 0; k < cell.outs; ++k)
            if (const int32_t net = nets[cell.out + k]; net >= 0 && o[k] != value[net]) changes.emplace_back(net, o[k]);
    }
    void apply() {
        for (const auto& [net, now] : changes) set(net, now);
        changes.clear();
    }
    void settle() {
        for (int waves = 0; !dirty.empty(); ++waves) {
            if (waves > 100000) { std::fputs("the netlist oscillates\n", stderr); std::exit(3); }
            std::vector<int32_t> now;
            now.swap(dirty);
            for (const int32_t k : now) {
                const Cell& cell = cells[k];
                Word i[PINS];
                inputs(cell, i);
                marked[k] = 0;
                if (cell.role == LATCH) state[k] = next_state(cell.kind, i, state[k]);
                emit(cell, i, state[k]);
            }
            apply();
            ++steps;
        }
    }
    // The streams in which all of some nets are high.
    Word all(const int32_t* net, int count) const {
        Word high = ~ZERO;
        for (int k = 0; k < count; ++k) high &= value[net[k]];
        return high;
    }
    // The streams in which an address is that of a word.
    Word chosen(const int32_t* net, int bits, int word) const {
        Word same = ~ZERO;
        for (int k = 0; k < bits; ++k) same &= (word >> k & 1) ? value[net[k]] : ~value[net[k]];
        return same;
    }
    void write(size_t m) {
        const Macro& macro = macros[m];
        const int32_t* const enables = &nets[macro.pin];
        const int32_t* const address = enables + macro.w_enables;
        const Word enabled = all(enables, macro.w_enables);
        if (counting) accesses[2 * m] += __builtin_popcountll(enabled);
        for (int w = 0; enabled && w < macro.words; ++w) {
            const Word here = enabled & chosen(address, macro.address, w);
            Word* const word = &words[m][size_t(w) * macro.width];
            for (int b = 0; here && b < macro.width; ++b) word[b] = (word[b] & ~here) | (value[address[macro.address + b]] & here);
        }
    }
    void read(size_t m) {
        const Macro& macro = macros[m];
        const int32_t* const enables = &nets[macro.pin + macro.w_enables + macro.address + macro.width];
        const int32_t* const address = enables + macro.r_enables;
        const int32_t* const data = address + macro.address;
        const Word enabled = all(enables, macro.r_enables);
        if (counting) accesses[2 * m + 1] += __builtin_popcountll(enabled);
        std::vector<Word> found(macro.width);
        for (int w = 0; enabled && w < macro.words; ++w) {
            const Word here = enabled & chosen(address, macro.address, w);
            const Word* const word = &words[m][size_t(w) * macro.width];
            for (int b = 0; here && b < macro.width; ++b) found[b] |= word[b] & here;
        }
        for (int b = 0; b < macro.width; ++b)
            if (data[b] >= 0) changes.emplace_back(data[b], (value[data[b]] & ~enabled) | found[b]);
    }
    // The clock rises. A clock gate passes it where its enable is high at the rise; what rises will fall, and both are counted.
    void rise(int32_t clock) {
        const auto edge = [&](int32_t net, Word now) {
            if (counting) toggles[net] += 2 * __builtin_popcountll(now);
            value[net] = now;
        };
        edge(clock, ~ZERO);
        for (const int32_t k : inverters) {
            if (counting) toggles[nets[cells[k].out]] += 2 * 64;
            value[nets[cells[k].out]] = ZERO;
        }
        for (const int32_t k : gates) {
            Word i[PINS], o[PINS];
            inputs(cells[k], i);
            outputs(cells[k].kind, i, 0, o);
            edge(nets[cells[k].out], o[0]);
        }
        for (size_t m = 0; m < macros.size(); ++m) write(m);
        for (const int32_t k : flip_flops) {
            const Cell& cell = cells[k];
            const Word rise = value[cell.clock];
            if (!rise) continue;
            Word i[PINS];
            inputs(cell, i);
            const Word next = (next_state(cell.kind, i, state[k]) & rise) | (state[k] & ~rise);
            if (next == state[k]) continue;
            state[k] = next;
            emit(cell, i, next);
        }
        for (size_t k = 0; k < cells.size(); ++k)
            if (cells[k].role == LATCH && value[cells[k].clock] && !marked[k]) marked[k] = 1, dirty.push_back(int32_t(k));
        apply();
        settle();
    }
    void fall(int32_t clock) {
        for (const int32_t k : gates) value[nets[cells[k].out]] = ZERO;
        for (const int32_t k : inverters) value[nets[cells[k].out]] = ~ZERO;
        value[clock] = ZERO;
        for (size_t m = 0; m < macros.size(); ++m) read(m);
        apply();
        settle();
    }
};

int main(int argc, char** argv) {
    if (argc < 4) { std::fprintf(stderr, "usage: %s <netlist> <beats> <folder> <name=value ...>\n", argv[0]); return 2; }
    Settings settings;
    for (int k = 4; k < argc; ++k) settings.parse(argv[k]);
    const std::vector<int32_t> file = read(argv[1]), beats = read(argv[2]);
    const std::string folder = std::string(argv[3]) + "/";

    // Numbers of nets, cells, macros, words of pins; nets of clk, rst, i_valid, i_ready, o_valid, o_ready; payloads; cells; macros; pins.
    size_t at = 0;
    const auto next = [&] { return file[at++]; };
    const int net_count = next(), cell_count = next(), macro_count = next(), pin_words = next();
    const int clk = next(), rst = next(), i_valid = next(), i_ready = next(), o_valid = next(), o_ready = next();
    std::vector<int32_t> i_payload(next()), o_payload(next());
    for (auto& net : i_payload) net = next();
    for (auto& net : o_payload) net = next();
    Simulation s;
    s.cells.resize(cell_count);
    std::memcpy(s.cells.data(), &file[at], cell_count * sizeof(Cell));
    at += cell_count * sizeof(Cell) / 4;
    s.macros.resize(macro_count), s.accesses.resize(2 * macro_count);
    std::memcpy(s.macros.data(), &file[at], macro_count * sizeof(Macro));
    at += macro_count * sizeof(Macro) / 4;
    s.nets.assign(file.begin() + at, file.begin() + at + pin_words);
    s.readers.resize(net_count), s.value.resize(net_count), s.toggles.resize(net_count);
    s.state.resize(cell_count), s.marked.resize(cell_count);

    uint64_t random = settings.seed * 0x9E3779B97F4A7C15ull + 1;
    for (int k = 0; k < cell_count; ++k) {
        const Cell& cell = s.cells[k];
        if (cell.role == FF) s.flip_flops.push_back(k);
        if (cell.role == CLOCK_GATE) s.gates.push_back(k);
        if (cell.role == CLOCK_INVERTER) s.inverters.push_back(k);
        if (cell.role == GATE || cell.role == LATCH) {
            for (int p = 0; p < cell.ins; ++p) s.readers[s.nets[cell.pin + p]].push_back(k);
            s.marked[k] = 1, s.dirty.push_back(k);
        }
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        if (cell.role == FF || cell.role == LATCH) {
            Word i[PINS];
            s.inputs(cell, i);
            s.state[k] = random, s.emit(cell, i, random);
        }
    }
    for (const Macro& macro : s.macros) {
        auto& words = s.words.emplace_back(size_t(macro.words) * macro.width);
        for (Word& word : words) random ^= random << 13, random ^= random >> 7, random ^= random << 17, word = random;
    }
    s.apply();
    s.set(rst, ~ZERO), s.set(i_valid, 0), s.set(o_ready, ~ZERO), s.settle();
    s.rise(clk), s.fall(clk), s.rise(clk);
    s.set(rst, 0), s.settle();

    std::FILE* output = std::fopen((folder + "o.bin").c_str(), "wb");
    if (!output) { std::perror(folder.c_str()); return 2; }
    const Word* words = reinterpret_cast<const Word*>(beats.data());
    long long beat = 0, lasts = 0, cycle = 0, first = -1, last_cycle = 0;
    const char* status = "done";
    for (; lasts < settings.lasts || cycle < settings.from + settings.cycles; ++cycle) {
        s.counting = cycle >= settings.from && cycle < settings.from + settings.cycles;
        if (cycle > settings.limit) { status = "stuck"; break; }
        if (beat < settings.beats) for (size_t k = 0; k < i_payload.size(); ++k) s.set(i_payload[k], words[beat * i_payload.size() + k]);
        s.set(i_valid, beat < settings.beats ? ~ZERO : 0);
        s.settle();
        s.fall(clk);
        const Word ready = s.value[i_ready], valid = s.value[o_valid];
        if ((ready && ~ready) || (valid && ~valid)) { status = "uneven"; break; }  // no control depends on data
        if (valid) {
            for (const int32_t net : o_payload) std::fwrite(&s.value[net], 8, 1, output);
            lasts += s.value[o_payload.back()] & 1, last_cycle = cycle;
        }
        if (beat < settings.beats && ready) { if (first < 0) first = cycle; ++beat; }
        s.rise(clk);
    }
    std::fclose(output);
    std::FILE* counts = std::fopen((folder + "toggles.bin").c_str(), "wb");
    std::fwrite(s.toggles.data(), 8, s.toggles.size(), counts);
    std::fclose(counts);
    std::FILE* accesses = std::fopen((folder + "accesses.bin").c_str(), "wb");
    std::fwrite(s.accesses.data(), 8, s.accesses.size(), accesses);
    std::fclose(accesses);
    std::printf("%s %lld %lld %lld %lld\n", status, cycle, first, last_cycle, lasts);
    return 0;
}
