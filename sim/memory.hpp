// A memory outside a design, at AXI4 ports that read: latency, refresh, a share of the ports' bytes, random pauses. Every rule of
// AXI4 that a master of reads can break ends the simulation.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

template <typename T> void put(T& port, const uint8_t* bytes) { uint64_t value = 0; std::memcpy(&value, bytes, sizeof(port)); port = T(value); }
template <std::size_t N> void put(VlWide<N>& port, const uint8_t* bytes) { std::memcpy(port.data(), bytes, 4 * N); }

struct MemorySettings {
    std::string path;                        // the file of its bytes
    uint64_t latency = 0, pauses = 0;        // cycles from a request to its first beat beyond the next one; percent of the cycles
    uint64_t refresh = 0, recovery = 0;      // every so many cycles nothing comes for so many
    uint64_t rate = 0, open = 8;             // thousandths of a byte a cycle for all ports, 0: no limit; requests that wait

    bool parse(const std::string& name, const char* value) {
        if (name == "memory") path = value;
        else if (name == "latency") latency = std::atoll(value);
        else if (name == "pauses") pauses = std::atoll(value);
        else if (name == "refresh") refresh = std::atoll(value);
        else if (name == "recovery") recovery = std::atoll(value);
        else if (name == "rate") rate = std::atoll(value);
        else if (name == "open") open = std::atoll(value);
        else return false;
        return true;
    }
};

struct MemoryPort;

struct Memory {
    std::vector<MemoryPort*> ports;
    MemorySettings settings;
    uint64_t random = 0x9E3779B97F4A7C15ull;
    const uint8_t* bytes = nullptr;
    uint64_t base = 0, size = 0, cycle = 0, beats = 0, moved = 0;
    int64_t budget = 0;  // thousandths of a byte

    void load(const char* path, uint64_t at) {
        const int file = open(path, O_RDONLY);
        struct stat found;
        if (file < 0 || fstat(file, &found)) { std::perror(path); std::exit(2); }
        base = at, size = found.st_size;
        bytes = static_cast<const uint8_t*>(mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0));
        close(file);
    }
    bool pauses() {
        random ^= random << 13; random ^= random >> 7; random ^= random << 17;
        return settings.pauses && (random >> 16) % 100 < settings.pauses;
    }
    void begin();
};

struct Request {
    uint64_t address, length, size, burst;
    bool operator==(const Request& other) const {
        return address == other.address && length == other.length && size == other.size && burst == other.burst;
    }
};

struct MemoryPort {
    struct Burst { uint64_t address, beats, from; };

    Memory& memory;
    int index;
    uint64_t width;
    std::deque<Burst> bursts;
    Request waiting{};
    bool ready = false, offered = false, asked = false;  // of the design: a request waits

    MemoryPort(Memory& memory, int index, uint64_t width) : memory(memory), index(index), width(width) { memory.ports.push_back(this); }
    void reset() { bursts.clear(), offered = asked = false; }

    template <typename Ready, typename Valid, typename Data, typename Response, typename Last>
    void drive(Ready& arready, Valid& rvalid, Data& rdata, Response& rresp, Last& rlast) {
        arready = ready = bursts.size() < memory.settings.open && !memory.pauses();
        if (offered) put(rdata, memory.bytes + bursts.front().address);
        rvalid = offered, rresp = 0, rlast = offered && bursts.front().beats == 1;
    }

    void sample(bool arvalid, const Request& request, bool rready) {
        if (asked && !(arvalid && request == waiting)) fail("a request changed while it waited");
        asked = arvalid && !ready, waiting = request;
        if (offered && rready) {
            ++memory.beats, memory.moved += width;
            bursts.front().address += width;
            if (!--bursts.front().beats) bursts.pop_front();
            offered = false;
        }
        if (!arvalid || !ready) return;
        const uint64_t bytes = (request.length + 1) * width, first = request.address - memory.base;
        if (request.burst != 1) fail("a burst does not increment");
        if (uint64_t(1) << request.size != width) fail("a beat is not as wide as the port");
        if (request.address % width) fail("an address is not that of a beat");
        if (request.address / 4096 != (request.address + bytes - 1) / 4096) fail("a burst crosses 4 KiB");
        if (request.address < memory.base || first + bytes > memory.size) fail("a burst ends after the memory's end");
        bursts.push_back({first, request.length + 1, memory.cycle + memory.settings.latency});
    }

    void fail(const char* what) const {
        std::fprintf(stderr, "m_axi_%d: %s in cycle %llu\n", index, what, (unsigned long long)memory.cycle);
        std::exit(3);
    }
};

// Ports take turns: each cycle begins with another one.
inline void Memory::begin() {
    ++cycle;
    const bool rests = settings.refresh && cycle % settings.refresh < settings.recovery;
    budget = std::min<int64_t>(budget + (rests ? 0 : settings.rate), 256000);
    for (size_t k = 0; k < ports.size() && !rests; ++k) {
        MemoryPort& port = *ports[(cycle + k) % ports.size()];
        const int64_t cost = settings.rate ? 1000 * port.width : 0;
        if (port.offered || port.bursts.empty() || port.bursts.front().from >= cycle || budget < cost || pauses()) continue;
        port.offered = true, budget -= cost;
    }
}

// What MEMORIES(X) lists, in a harness whose model is `top` and whose memory `memory`.
#define MEMORY_PORT(index, bits) MemoryPort port_##index{memory, index, bits / 8};
#define MEMORY_DRIVE(index, bits) \
    port_##index.drive(top->m_axi_##index##_arready, top->m_axi_##index##_rvalid, top->m_axi_##index##_rdata, \
                       top->m_axi_##index##_rresp, top->m_axi_##index##_rlast);
#define MEMORY_SAMPLE(index, bits) \
    port_##index.sample(top->m_axi_##index##_arvalid, {top->m_axi_##index##_araddr, top->m_axi_##index##_arlen, \
                        top->m_axi_##index##_arsize, top->m_axi_##index##_arburst}, top->m_axi_##index##_rready);
