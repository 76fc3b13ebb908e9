#include "catalog/name_index.hpp"

#include <algorithm>

namespace pgporter {

NameIndex::NameIndex(const Pairs& pairs) : NameIndex() {
    std::array<std::shared_ptr<Bucket>, name_bucket_count> filled;
    for (const auto& [text, tenant] : pairs) {
        auto& bucket = filled[name_bucket_of(text)];
        if (!bucket) bucket = std::make_shared<Bucket>();
        bucket->emplace(text, tenant);
    }
    for (std::size_t i = 0; i < name_bucket_count; ++i) {
        if (filled[i]) buckets_[i] = std::move(filled[i]);
    }
}

void NameIndex::add(const std::string& text, const std::string& tenant) {
    auto& slot = buckets_[name_bucket_of(text)];
    auto changed = std::make_shared<Bucket>(*slot);
    changed->emplace(text, tenant);
    slot = std::move(changed);
}

void NameIndex::remove(const std::string& text, const std::string& tenant) {
    auto& slot = buckets_[name_bucket_of(text)];
    auto changed = std::make_shared<Bucket>(*slot);
    const auto [from, to] = changed->equal_range(text);
    const auto found = std::find_if(from, to, [&](const auto& item) { return item.second == tenant; });
    if (found != to) changed->erase(found);
    slot = std::move(changed);
}

void NameIndex::share_with(const NameIndex& other) {
    for (std::size_t i = 0; i < name_bucket_count; ++i) {
        if (buckets_[i] != other.buckets_[i] && *buckets_[i] == *other.buckets_[i]) buckets_[i] = other.buckets_[i];
    }
}

}  // namespace pgporter
