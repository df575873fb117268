// A Verilated design with the serial lines `rx` and `tx`, a bit every DIVISOR cycles, as a process: bytes of standard input go to
// `rx`, those of `tx` to standard output. It ends with its input.

#include <cstdint>
#include <deque>
#include <fcntl.h>
#include <memory>
#include <unistd.h>

#include "ports.h"
#include "verilated.h"

int main() {
    auto context = std::make_unique<VerilatedContext>();
    auto top = std::make_unique<Top>(context.get());
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
    std::deque<uint8_t> waiting;
    uint32_t out = 0, in = 0;
    int out_bits = 0, out_wait = 0, in_bits = 0, in_wait = 0;
    top->rx = 1, top->rst = 1;
    for (uint64_t cycle = 0;; ++cycle) {
        if (cycle == 4) top->rst = 0;
        if (cycle % 64 == 63 && waiting.empty()) {
            uint8_t buffer[256];
            const ssize_t count = read(0, buffer, sizeof buffer);
            if (count == 0) return 0;
            for (ssize_t k = 0; k < count; ++k) waiting.push_back(buffer[k]);
        }
        if (out_wait) --out_wait;
        else if (out_bits) top->rx = out & 1, out >>= 1, --out_bits, out_wait = DIVISOR - 1;
        else if (!waiting.empty() && cycle > 8) out = 0x200u | waiting.front() << 1, out_bits = 10, waiting.pop_front();
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
