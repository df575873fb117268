// Arrays of 32-bit integers in a file, each after its length.

#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

using Array = std::vector<int32_t>;

inline std::vector<Array> read_arrays(const char* path) {
    std::FILE* file = std::fopen(path, "rb");
    if (!file) { std::perror(path); std::exit(2); }
    std::vector<Array> found;
    int32_t length;
    while (std::fread(&length, 4, 1, file) == 1) {
        found.emplace_back(length);
        if (std::fread(found.back().data(), 4, length, file) != static_cast<size_t>(length)) { std::perror(path); std::exit(2); }
    }
    std::fclose(file);
    return found;
}

inline void write_arrays(const char* path, const std::vector<Array>& arrays) {
    std::FILE* file = std::fopen(path, "wb");
    if (!file) { std::perror(path); std::exit(2); }
    for (const Array& array : arrays) {
        const int32_t length = static_cast<int32_t>(array.size());
        std::fwrite(&length, 4, 1, file);
        std::fwrite(array.data(), 4, array.size(), file);
    }
    if (std::fclose(file)) { std::perror(path); std::exit(2); }
}

// Pseudo-random numbers that are the same everywhere.
struct Random {
    uint64_t state = 88172645463325252ull;
    uint64_t next() { state ^= state << 13; state ^= state >> 7; state ^= state << 17; return state; }
    int below(int n) { return static_cast<int>(next() % static_cast<uint64_t>(n)); }
    double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }
};
