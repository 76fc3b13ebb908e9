#include "base/secret.hpp"

namespace pgporter {

bool Secret::equals(std::string_view other) const {
    unsigned difference = value_.size() == other.size() ? 0U : 1U;
    for (std::size_t i = 0; i < other.size(); ++i) {
        const char mine = value_.empty() ? '\0' : value_[i % value_.size()];
        difference |= static_cast<unsigned>(static_cast<unsigned char>(mine) ^ static_cast<unsigned char>(other[i]));
    }
    return difference == 0;
}

void Secret::wipe() noexcept {
    volatile char* bytes = value_.data();  // volatile: the compiler must not drop writes to memory about to be freed
    for (std::size_t i = 0; i < value_.size(); ++i) bytes[i] = '\0';
    value_.clear();
}

}  // namespace pgporter
