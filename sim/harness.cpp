// Feeds a Verilated stream design from a file of beats and records what leaves it.
//
// The generated ports.h describes the design: the class Top, words per beat of `i` and `o`, the bit of `o` that is `last`, the
// ports' C++ names, the lists TRACES(X) of X(index, width) and PEAKS(X) of X(index), and SET_STRAP(value). MEMORIES(X) of
// X(index, bits), where it is defined, lists the ports `m_axi_<index>_*` to a memory (memory.hpp).
//
// Usage: simulation <input file> <output folder> <name=value ...>; the names are those of struct Settings.
// After a reset in the middle all counts, cycles and recordings begin anew.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "ports.h"
#include "verilated.h"
#if VM_COVERAGE
#include "verilated_cov.h"
#endif

using Words = std::vector<uint32_t>;

// Ports of up to 64 bits are integers, wider ones arrays of 32-bit words.
template <typename T> void get(const T& port, Words& words) {
    const uint64_t value = port;
    for (size_t k = 0; k < words.size(); ++k) words[k] = uint32_t(value >> (32 * k));
}
template <std::size_t N> void get(const VlWide<N>& port, Words& words) { std::memcpy(words.data(), port.data(), 4 * words.size()); }
template <typename T> void set(T& port, const Words& words) {
    uint64_t value = 0;
    for (size_t k = 0; k < words.size(); ++k) value |= uint64_t(words[k]) << (32 * k);
    port = T(value);
}
template <std::size_t N> void set(VlWide<N>& port, const Words& words) { std::memcpy(port.data(), words.data(), 4 * words.size()); }

#ifdef MEMORIES
#include "memory.hpp"
#endif

struct Settings {
    uint64_t seed = 0, percent = 0, sink = 0;  // of the stalls on `i` and on `o`
    uint64_t lasts = 0, most = 0;            // beats with `last` that must leave; beats that may leave
    uint64_t idle_cycles = 0, settle = 0;    // cycles without a transfer on `i` and `o`: the design is stuck; the run is over
    int64_t reset_at = -1;                   // cycle of the reset
    uint64_t resume_lasts = 0, resume_beat = 0;  // as `lasts`, and the first beat of the input, after the reset
    uint64_t strap = 0;                      // value of the input `strap`
    int64_t strap_at = -1;                   // the one cycle, before a reset, in which it has it, or all
#ifdef MEMORIES
    MemorySettings memory;
#endif

    void parse(const char* argument) {
        const char* equals = std::strchr(argument, '=');
        const std::string name(argument, equals ? equals - argument : 0);
        const long long value = equals ? std::atoll(equals + 1) : 0;
#ifdef MEMORIES
        if (memory.parse(name, equals + 1)) return;
#endif
        if (name == "seed") seed = value;
        else if (name == "percent") percent = value;
        else if (name == "sink") sink = value;
        else if (name == "lasts") lasts = value;
        else if (name == "most") most = value;
        else if (name == "idle_cycles") idle_cycles = value;
        else if (name == "settle") settle = value;
        else if (name == "reset_at") reset_at = value;
        else if (name == "resume_lasts") resume_lasts = value;
        else if (name == "resume_beat") resume_beat = value;
        else if (name == "strap") strap = value;
        else if (name == "strap_at") strap_at = value;
        else { std::fprintf(stderr, "unknown setting %s\n", argument); std::exit(2); }
    }
};

// A file of beats, or of cycles.
struct Recording {
    std::string path;
    std::FILE* file = nullptr;
    uint64_t count = 0;
    Words words;

    Recording(const std::string& path, size_t width) : path(path), words(width) { begin(); }
    ~Recording() { std::fclose(file); }
    void begin() {
        file = file ? std::freopen(path.c_str(), "wb", file) : std::fopen(path.c_str(), "wb");
        if (!file) { std::perror(path.c_str()); std::exit(2); }
        std::setvbuf(file, nullptr, _IOFBF, 1 << 16);
        count = 0;
    }
    void write() { std::fwrite(words.data(), 4, words.size(), file); ++count; }
    void write_cycle(uint64_t cycle) { std::fwrite(&cycle, 8, 1, file); ++count; }
};

struct Random {
    uint64_t state;
    explicit Random(uint64_t seed) : state(seed * 0x9E3779B97F4A7C15ull + 0x1234567ull) {}
    uint64_t next() { state ^= state << 13; state ^= state >> 7; state ^= state << 17; return state; }
    bool stalls(uint64_t percent) { return percent && (next() >> 16) % 100 < percent; }
};

int main(int argc, char** argv) {
    if (argc < 3) { std::fprintf(stderr, "usage: %s <input file> <output folder> <name=value ...>\n", argv[0]); return 2; }
    Settings settings;
    for (int k = 3; k < argc; ++k) settings.parse(argv[k]);
    const std::string folder = std::string(argv[2]) + "/";
    std::FILE* input = std::fopen(argv[1], "rb");
    if (!input) { std::perror(argv[1]); return 2; }
    std::setvbuf(input, nullptr, _IOFBF, 1 << 20);

    auto context = std::make_unique<VerilatedContext>();
    auto top = std::make_unique<Top>(context.get());
    Words beat(I_WORDS);
    Recording output(folder + "o.bin", O_WORDS), output_cycles(folder + "o_cycles.bin", 0), input_cycles(folder + "i_cycles.bin", 0);
    std::vector<std::unique_ptr<Recording>> traces;
#define X(index, width) traces.emplace_back(new Recording(folder + "trace_" #index ".bin", width));
    TRACES(X)
#undef X

    Random random(settings.seed);
#ifdef MEMORIES
    Memory memory;
    memory.settings = settings.memory, memory.load(settings.memory.path.c_str(), 0);
    MEMORIES(MEMORY_PORT)
#endif
    bool offered = false, more = true, was_reset = false;
    uint64_t cycle = 0, idle = 0, lasts = 0;
    const auto clock = [&] { top->CLK = 1; top->eval(); };
    const auto reset = [&] {
        top->RST = 1, top->CLK = 0, top->I_VALID = 0, top->O_READY = 0, top->eval(), clock();
        top->RST = 0;
    };
    const char* status = nullptr;
    reset();
    while (!status) {
        if (!was_reset && settings.reset_at >= 0 && cycle == uint64_t(settings.reset_at)) {
            reset();
            std::fseek(input, long(settings.resume_beat) * I_WORDS * 4, SEEK_SET);
            output.begin(), output_cycles.begin(), input_cycles.begin();
            for (auto& trace : traces) trace->begin();
            settings.lasts = settings.resume_lasts;
            was_reset = more = true, offered = false, cycle = idle = lasts = 0;
#ifdef MEMORIES
#define X(index, bits) port_##index.reset();
            MEMORIES(X)
#undef X
#endif
        }
        if (!offered && more && !random.stalls(settings.percent)) {
            offered = more = std::fread(beat.data(), 4, I_WORDS, input) == I_WORDS;
            if (offered) set(top->I_PAYLOAD, beat);
        }
        top->I_VALID = offered;
        top->O_READY = !random.stalls(settings.sink);
        SET_STRAP(settings.strap_at < 0 || (!was_reset && cycle == uint64_t(settings.strap_at)) ? settings.strap : 0);
#ifdef MEMORIES
        memory.begin();
        MEMORIES(MEMORY_DRIVE)
#endif
        top->CLK = 0;
        top->eval();
#ifdef MEMORIES
        MEMORIES(MEMORY_SAMPLE)
#endif

        ++idle;
        if (offered && top->I_READY) {
            input_cycles.write_cycle(cycle);
            offered = false, idle = 0;
        }
        if (top->O_VALID && top->O_READY) {
            get(top->O_PAYLOAD, output.words);
            output.write(), output_cycles.write_cycle(cycle);
            lasts += output.words[O_LAST / 32] >> (O_LAST % 32) & 1, idle = 0;
        }
#define X(index, width) \
    if (top->TRACE_FIRE(index)) get(top->TRACE_PAYLOAD(index), traces[index]->words), traces[index]->write();
        TRACES(X)
#undef X
        clock();
        ++cycle;

        const bool complete = !offered && !more && lasts == settings.lasts && (was_reset || settings.reset_at < 0);
        if (lasts > settings.lasts || output.count > settings.most) status = "surplus";
        else if (complete && idle >= settings.settle) status = "complete";
        else if (idle >= settings.idle_cycles) status = "stuck";
    }

    std::FILE* summary = std::fopen((folder + "summary.txt").c_str(), "w");
    std::fprintf(summary, "status %s\ncycles %llu\nidle %llu\nlasts %llu\n", status, (unsigned long long)cycle,
                 (unsigned long long)idle, (unsigned long long)lasts);
#define X(index) std::fprintf(summary, "peak_" #index " %llu\n", (unsigned long long)top->PEAK(index));
    PEAKS(X)
#undef X
#ifdef MEMORIES
    std::fprintf(summary, "memory_beats %llu\nmemory_bytes %llu\n", (unsigned long long)memory.beats,
                 (unsigned long long)memory.moved);
#endif
    std::fclose(summary);
    top->final();
#if VM_COVERAGE
    context->coveragep()->write((folder + "coverage.dat").c_str());
#endif
    return 0;
}
