// What every fuzz target starts with: its input as a text, and requirements that stop the fuzzer when they are broken.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"

namespace pgporter::fuzz {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
    return {reinterpret_cast<const char*>(data), size};
}

// Cuts the front of `input` off at the first `separator`, which belongs to neither part.
inline std::string_view take_until(std::string_view& input, char separator) {
    const std::size_t end = input.find(separator);
    const std::string_view front = input.substr(0, end);
    input.remove_prefix(end == std::string_view::npos ? input.size() : end + 1);
    return front;
}

}  // namespace pgporter::fuzz

#define PP_FUZZ(input)                                                                  \
    static void fuzz_one(std::string_view input);                                       \
    extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) { \
        fuzz_one(pgporter::fuzz::text_of(data, size));                                  \
        return 0;                                                                       \
    }                                                                                   \
    static void fuzz_one(std::string_view input)
