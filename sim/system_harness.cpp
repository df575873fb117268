// A Verilated AXI system at the end of a pipe: commands on standard input, answers on standard output; a DMA and a processor
// stand around it. It ends with status 3 where the design breaks a rule of AXI4-Stream or AXI4-Lite.
//
//   R address              reads a register: "<value> <response>"
//   W address value        writes it, address and data in any order: "<response>"
//   S count, then bytes    queues an input packet
//   K count, then bytes    the same, with a byte of 1 or 0 for each of them, its TKEEP, behind
//   G cycles               waits for a result: "<cycle> <user> <count>", then bytes; or "timeout"
//   A                      drops what is queued and received
//   N cycles               lets time pass: "<cycle>"
//   P in out lite burst seed    percent of the cycles in which a channel pauses; words of a burst
//   L base latency path    the memory outside holds a file's bytes from address base on
//
// Time passes in R, W, G and N alone. BUS_BYTES is 4 or 8; COMMAND is the address and ABANDON the bit by which the design may
// withdraw a word of a result.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "ports.h"
#include "verilated.h"
#ifdef MEMORIES
#include "memory.hpp"
#endif

struct Random {
    uint64_t state = 0x1234567ull;
    uint64_t next() { state ^= state << 13; state ^= state >> 7; state ^= state << 17; return state; }
    bool pauses(uint64_t percent) { return percent && (next() >> 16) % 100 < percent; }
};

struct Packet { std::vector<uint8_t> bytes, keep; bool user = false; uint64_t cycle = 0; };

// What a channel showed while it waited: it must not change.
struct Waiting {
    bool waits = false;
    uint64_t data = 0, flags = 0;
    void check(const char* name, bool valid, bool ready, uint64_t new_data, uint64_t new_flags) {
        if (waits && (!valid || data != new_data || flags != new_flags)) {
            std::fprintf(stderr, "%s changed before its transfer\n", name);
            std::exit(3);
        }
        waits = valid && !ready, data = new_data, flags = new_flags;
    }
};

[[noreturn]] void broken(const char* rule) { std::fprintf(stderr, "%s\n", rule); std::exit(3); }

struct Bench {
    VerilatedContext context;
    std::unique_ptr<Top> top{new Top(&context)};
    Random random;
    uint64_t in = 0, out = 0, lite = 0, burst = 1, cycle = 0, run_length = 0;
    bool run_pauses = false;
    std::deque<Packet> queue, results;
    Packet current;
    size_t place = 0;
    bool offered = false;
    Waiting m_axis, b, r;
    int64_t aw = 0, w = 0, ar = 0;  // requests without a response
#ifdef MEMORIES
    Memory memory;
    MEMORIES(MEMORY_PORT)
#endif

    void step() {
        if (!offered && !queue.empty()) {
            if (run_length == 0) run_length = burst, run_pauses = random.pauses(in);
            --run_length;
            offered = !run_pauses;
        }
        top->s_axis_tvalid = offered;
        bool last = false;
        if (offered) {
            const auto &bytes = queue.front().bytes, &kept = queue.front().keep;
            uint64_t data = 0, keep = 0;
            for (size_t k = 0; k < BUS_BYTES && place + k < bytes.size(); ++k) data |= uint64_t(bytes[place + k]) << 8 * k, keep |= uint64_t(kept.empty() || kept[place + k]) << k;
            last = place + BUS_BYTES >= bytes.size();
            top->s_axis_tdata = data, top->s_axis_tkeep = keep, top->s_axis_tlast = last;
        }
        top->m_axis_tready = !random.pauses(out);
#ifdef MEMORIES
        memory.begin();
        MEMORIES(MEMORY_DRIVE)
#endif
        top->clk = 0;
        top->eval();
#ifdef MEMORIES
        MEMORIES(MEMORY_SAMPLE)
#endif
        if (offered && top->s_axis_tready) {
            offered = false, place += BUS_BYTES;
            if (last) queue.pop_front(), place = 0;
        }
        const uint64_t keep = top->m_axis_tkeep, flags = keep << 2 | uint64_t(top->m_axis_tlast) << 1 | top->m_axis_tuser;
        m_axis.check("m_axis", top->m_axis_tvalid, top->m_axis_tready, top->m_axis_tdata, flags);
        if (top->m_axis_tvalid && top->m_axis_tready) {
            if (!keep || (keep & (keep + 1))) broken("m_axis_tkeep has a hole, or nothing");
            if (!top->m_axis_tlast && (top->m_axis_tuser || keep != (1u << BUS_BYTES) - 1)) broken("a word before the last is not whole, or marked");
            for (size_t k = 0; k < BUS_BYTES; ++k)
                if (keep >> k & 1) current.bytes.push_back(uint8_t(uint64_t(top->m_axis_tdata) >> 8 * k));
            if (top->m_axis_tlast) {
                current.user = top->m_axis_tuser, current.cycle = cycle;
                results.push_back(current), current = Packet();
            }
        }
        aw += top->s_axil_awvalid && top->s_axil_awready, w += top->s_axil_wvalid && top->s_axil_wready;
        b.check("s_axil_b", top->s_axil_bvalid, top->s_axil_bready, top->s_axil_bresp, 0);
        r.check("s_axil_r", top->s_axil_rvalid, top->s_axil_rready, top->s_axil_rdata, top->s_axil_rresp);
        if (top->s_axil_bvalid && (aw < 1 || w < 1)) broken("a write was answered before it came");
        if (top->s_axil_rvalid && ar < 1) broken("a read was answered before it came");
        aw -= top->s_axil_bvalid && top->s_axil_bready, w -= top->s_axil_bvalid && top->s_axil_bready;
        ar += top->s_axil_arvalid && top->s_axil_arready, ar -= top->s_axil_rvalid && top->s_axil_rready;
    }
    void edge() { top->clk = 1, top->eval(), ++cycle; }

    unsigned write(uint32_t address, uint32_t value) {
        const bool withdraws = address == COMMAND && (value & ABANDON);
        bool addressed = false, given = false;
        top->s_axil_awaddr = address, top->s_axil_wdata = value, top->s_axil_wstrb = 15;
        for (;;) {
            if (!addressed && !top->s_axil_awvalid) top->s_axil_awvalid = !random.pauses(lite);
            if (!given && !top->s_axil_wvalid) top->s_axil_wvalid = !random.pauses(lite);
            top->s_axil_bready = !random.pauses(lite);
            if (withdraws) m_axis.waits = false;
            step();
            const bool taken = top->s_axil_awvalid && top->s_axil_awready, took = top->s_axil_wvalid && top->s_axil_wready;
            const bool done = top->s_axil_bvalid && top->s_axil_bready;
            const unsigned response = top->s_axil_bresp;
            edge();
            if (taken) addressed = true, top->s_axil_awvalid = 0;
            if (took) given = true, top->s_axil_wvalid = 0;
            if (done) {
                top->s_axil_bready = 0;
                if (withdraws) m_axis.waits = false, step(), edge();
                return response;
            }
        }
    }
    uint32_t read(uint32_t address, unsigned& response) {
        bool addressed = false;
        top->s_axil_araddr = address;
        for (;;) {
            if (!addressed && !top->s_axil_arvalid) top->s_axil_arvalid = !random.pauses(lite);
            top->s_axil_rready = !random.pauses(lite);
            step();
            const bool taken = top->s_axil_arvalid && top->s_axil_arready, done = top->s_axil_rvalid && top->s_axil_rready;
            const uint32_t value = top->s_axil_rdata;
            response = top->s_axil_rresp;
            edge();
            if (taken) addressed = true, top->s_axil_arvalid = 0;
            if (done) { top->s_axil_rready = 0; return value; }
        }
    }
};

int main() {
    Bench bench;
    bench.top->rst = 1;
    for (int k = 0; k < 4; ++k) bench.step(), bench.edge();
    bench.top->rst = 0;
    char command;
    while (std::scanf(" %c", &command) == 1) {
        unsigned long long a = 0, b = 0, c = 0, d = 0, e = 0;
        if (command == 'R' && std::scanf("%llu", &a) == 1) {
            unsigned response = 0;
            const uint32_t value = bench.read(a, response);
            std::printf("%u %u\n", value, response);
        } else if (command == 'W' && std::scanf("%llu %llu", &a, &b) == 2) {
            std::printf("%u\n", bench.write(a, b));
        } else if ((command == 'S' || command == 'K') && std::scanf("%llu", &a) == 1) {
            Packet packet;
            packet.bytes.resize(a);
            std::getchar();
            if (std::fread(packet.bytes.data(), 1, a, stdin) != a) return 2;
            if (command == 'K') {
                packet.keep.resize(a);
                if (std::fread(packet.keep.data(), 1, a, stdin) != a) return 2;
            }
            bench.queue.push_back(packet);
            continue;
        } else if (command == 'G' && std::scanf("%llu", &a) == 1) {
            for (uint64_t k = 0; k < a && bench.results.empty(); ++k) bench.step(), bench.edge();
            if (bench.results.empty()) {
                std::printf("timeout\n");
            } else {
                const Packet& packet = bench.results.front();
                std::printf("%llu %d %zu\n", (unsigned long long)packet.cycle, packet.user, packet.bytes.size());
                std::fwrite(packet.bytes.data(), 1, packet.bytes.size(), stdout);
                bench.results.pop_front();
            }
        } else if (command == 'A') {
            bench.queue.clear(), bench.results.clear(), bench.current = Packet();
            bench.place = 0, bench.offered = false;
            continue;
        } else if (command == 'N' && std::scanf("%llu", &a) == 1) {
            for (uint64_t k = 0; k < a; ++k) bench.step(), bench.edge();
            std::printf("%llu\n", (unsigned long long)bench.cycle);
        } else if (command == 'P' && std::scanf("%llu %llu %llu %llu %llu", &a, &b, &c, &d, &e) == 5) {
            bench.in = a, bench.out = b, bench.lite = c, bench.burst = d, bench.random.state = e * 0x9E3779B97F4A7C15ull + 0x1234567ull;
            continue;
#ifdef MEMORIES
        } else if (command == 'L' && std::scanf("%llu %llu", &a, &b) == 2) {
            char path[4096];
            if (std::scanf("%4095s", path) != 1) return 2;
            bench.memory.settings.latency = b, bench.memory.load(path, a);
            continue;
#endif
        } else {
            return 2;
        }
        std::fflush(stdout);
    }
    return 0;
}
