// A memory outside a design, at AXI4 ports that read: latency, refresh, a share of the ports' bytes, random pauses. Every rule of
// AXI4 that a master of reads can break ends the simulation.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <deque>

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

struct Memory {
    const MemorySettings& settings;
    Random random{77};
    const uint8_t* bytes = nullptr;
    uint64_t size = 0, cycle = 0, beats = 0, moved = 0;
    int64_t budget = 0;  // thousandths of a byte
    bool rests = false;

    explicit Memory(const MemorySettings& settings) : settings(settings) {
        const int file = open(settings.path.c_str(), O_RDONLY);
        struct stat found;
        if (file < 0 || fstat(file, &found)) { std::perror(settings.path.c_str()); std::exit(2); }
        size = found.st_size;
        bytes = static_cast<const uint8_t*>(mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0));
        close(file);
    }
    void begin() {
        ++cycle;
        rests = settings.refresh && cycle % settings.refresh < settings.recovery;
        budget = std::min<int64_t>(budget + (rests ? 0 : settings.rate), 256000);
    }
    bool allows(uint64_t size) {
        if (rests || (settings.rate && budget < int64_t(1000 * size))) return false;
        budget -= 1000 * size;
        return true;
    }
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
    Words beat;
    Request waiting{};
    bool ready = false, offered = false, asked = false;

    MemoryPort(Memory& memory, int index, uint64_t width) : memory(memory), index(index), width(width), beat(width / 4) {}
    void reset() { bursts.clear(), offered = asked = false; }

    template <typename Ready, typename Valid, typename Data, typename Response, typename Last>
    void drive(Ready& arready, Valid& rvalid, Data& rdata, Response& rresp, Last& rlast) {
        arready = ready = bursts.size() < memory.settings.open && !memory.random.stalls(memory.settings.pauses);
        if (!offered && !bursts.empty() && bursts.front().from < memory.cycle && !memory.random.stalls(memory.settings.pauses)
            && memory.allows(width)) {
            offered = true;
            std::memcpy(beat.data(), memory.bytes + bursts.front().address, width);
            set(rdata, beat);
        }
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
        const uint64_t bytes = (request.length + 1) * width, first = request.address;
        if (request.burst != 1) fail("a burst does not increment");
        if (uint64_t(1) << request.size != width) fail("a beat is not as wide as the port");
        if (first % width) fail("an address is not that of a beat");
        if (first / 4096 != (first + bytes - 1) / 4096) fail("a burst crosses 4 KiB");
        if (first + bytes > memory.size) fail("a burst ends after the memory's end");
        bursts.push_back({first, request.length + 1, memory.cycle + memory.settings.latency});
    }

    void fail(const char* what) const {
        std::fprintf(stderr, "m_axi_%d: %s in cycle %llu\n", index, what, (unsigned long long)memory.cycle);
        std::exit(3);
    }
};
