// SharedValues: equal values are one object as long as anybody has it. Owned by a thread; what it gives may be read on any. Pure.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <unordered_map>

#include "proxy/pool/context.hpp"

namespace pgporter {

[[nodiscard]] inline std::size_t hash_of(const Settings& settings) {
    std::size_t hash = settings.size();
    const auto mix = [&hash](const std::string& text) { hash = hash * 1'000'003U ^ std::hash<std::string>()(text); };
    for (const auto& [name, value] : settings) {
        mix(name);
        mix(value);
    }
    return hash;
}

[[nodiscard]] inline std::size_t hash_of(const Context& context) {
    const std::hash<std::string> hash;
    return (hash_of(context.settings) * 31 + hash(context.role)) * 31 + hash(context.search_path) + (context.has_empty_path ? 1 : 0);
}

// A Made is made of a Value and equals it.
template <class Value, class Made = Value>
class SharedValues {
  public:
    [[nodiscard]] std::shared_ptr<const Made> find_or_make(const Value& value) {
        const std::size_t hash = hash_of(value);
        const auto [first, last] = known_.equal_range(hash);
        for (auto at = first; at != last; ++at) {
            if (auto held = at->second.lock(); held && static_cast<const Value&>(*held) == value) return held;
        }
        if (known_.size() >= sweep_at_) sweep();
        auto made = std::make_shared<const Made>(value);
        known_.emplace(hash, made);
        return made;
    }
    [[nodiscard]] std::size_t size() const { return known_.size(); }

  private:
    static constexpr std::size_t sweep_at_least = 64;
    void sweep() {
        std::erase_if(known_, [](const auto& entry) { return entry.second.expired(); });
        sweep_at_ = std::max(sweep_at_least, 2 * known_.size());
    }
    std::unordered_multimap<std::size_t, std::weak_ptr<const Made>> known_;
    std::size_t sweep_at_ = sweep_at_least;
};

}  // namespace pgporter
