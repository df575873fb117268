// A Verilated design with the serial lines `rx` and `tx`, a bit every DIVISOR cycles, as a process: bytes of standard input go to
// `rx`, those of `tx` to standard output. It ends with its input. After QUIET cycles without a bit it waits for input, and the design
// with it. Where FLASH is defined, the design has the lines of a flash memory, whose content is the file that is named.

#include <cstdint>
#include <deque>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <memory>
#include <poll.h>
#include <unistd.h>
#include <vector>

#include "ports.h"
#include "verilated.h"

static const int WAIT = 20;  // milliseconds

#ifdef FLASH
// A flash memory that knows the command 0x03: from an address on, its bytes. It takes a bit as the clock rises, and gives one as
// it falls.
struct Flash {
    std::vector<uint8_t> bytes;
    uint32_t command = 0;
    uint64_t place = 0;
    int taken = 0;
    bool before = false, out = false;
    explicit Flash(const char* path) {
        std::ifstream file(path, std::ios::binary);
        bytes.assign(std::istreambuf_iterator<char>(file), {});
    }
    void step(bool selected, bool clock, bool in) {
        if (!selected) taken = 0;
        else if (clock && !before && taken < 32) {
            command = command << 1 | in;
            if (++taken == 32) place = 8ull * (command & 0xFFFFFF);
        } else if (!clock && before && taken == 32 && command >> 24 == 3) {
            out = place / 8 < bytes.size() ? bytes[place / 8] >> (7 - place % 8) & 1 : 1;
            ++place;
        }
        before = clock;
    }
};
#endif

int main(int, char** arguments) {
    auto context = std::make_unique<VerilatedContext>();
    auto top = std::make_unique<Top>(context.get());
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
    std::deque<uint8_t> waiting;
    uint32_t out = 0, in = 0;
    int out_bits = 0, out_wait = 0, in_bits = 0, in_wait = 0;
    uint64_t last = 0;  // with a bit
#ifdef FLASH
    Flash flash(arguments[1]);
#endif
    top->rx = 1, top->rst = 1;
    for (uint64_t cycle = 0;; ++cycle) {
        if (cycle == 4) top->rst = 0;
        if (out_bits || in_bits) last = cycle;
        if (cycle % 64 == 63 && waiting.empty()) {
            pollfd input{0, POLLIN, 0};
            if (cycle - last > QUIET) poll(&input, 1, WAIT);
            uint8_t buffer[256];
            const ssize_t count = read(0, buffer, sizeof buffer);
            if (count == 0) return 0;
            for (ssize_t k = 0; k < count; ++k) waiting.push_back(buffer[k]);
        }
        if (out_wait) --out_wait;
        else if (out_bits) top->rx = out & 1, out >>= 1, --out_bits, out_wait = DIVISOR - 1;
        else if (!waiting.empty() && cycle > 8) out = 0x200u | waiting.front() << 1, out_bits = 10, waiting.pop_front();
#ifdef FLASH
        flash.step(top->flash_cs, top->flash_clk, top->flash_copi);
        top->flash_cipo = flash.out;
#endif
        top->clk = 0, top->eval();
        if (in_wait) --in_wait;
        else if (in_bits) {
            in |= uint32_t(top->tx) << (10 - in_bits), in_wait = DIVISOR - 1;
            if (--in_bits == 0) {
                const uint8_t byte = in >> 1;
                if ((in & 1) || !(in & 0x200)) return 3;  // no start bit, no stop bit
                if (write(1, &byte, 1) != 1) return 2;
                in_wait = 0;
            }
        } else if (cycle > 8 && !top->tx) in = 0, in_bits = 10, in_wait = DIVISOR / 2 - 1;
        top->clk = 1, top->eval();
    }
}
