// Secret: a password, token or key. It has no formatter and no stream operator, so it can't reach a log by accident; it is
// wiped when it dies. Values; any thread. Call reveal() only where the bytes are sent or compared.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace pgporter {

class Secret {
  public:
    Secret() = default;
    explicit Secret(std::string value) : value_(std::move(value)) {}
    Secret(const Secret&) = default;
    Secret(Secret&&) = default;
    Secret& operator=(const Secret& other) {
        if (this != &other) {
            wipe();
            value_ = other.value_;
        }
        return *this;
    }
    Secret& operator=(Secret&& other) noexcept {
        if (this != &other) {
            wipe();
            value_ = std::move(other.value_);
        }
        return *this;
    }
    ~Secret() { wipe(); }

    [[nodiscard]] std::string_view reveal() const { return value_; }
    [[nodiscard]] bool empty() const { return value_.empty(); }
    // Constant time in the length of the other text: an attacker learns nothing from how long it takes.
    [[nodiscard]] bool equals(std::string_view other) const;

  private:
    void wipe() noexcept;
    std::string value_;
};

}  // namespace pgporter
