#include "catalog/name_index.hpp"

#include <algorithm>
#include <utility>

namespace pgporter {

NameIndex::NameIndex() {
    static const auto none = std::make_shared<const Bucket>();
    buckets_.fill(none);
}

NameIndex::NameIndex(const std::vector<Entry>& entries) : NameIndex() {
    std::array<Bucket, name_bucket_count> filled;
    for (const Entry& entry : entries) filled[name_bucket_of(entry.text)].push_back(entry);
    for (std::size_t i = 0; i < name_bucket_count; ++i) {
        if (filled[i].empty()) continue;
        std::sort(filled[i].begin(), filled[i].end());
        buckets_[i] = std::make_shared<const Bucket>(filled[i].begin(), filled[i].end());  // no larger than it needs to be
    }
}

std::span<const NameIndex::Entry> NameIndex::find(std::string_view text) const {
    const std::size_t hash = TextHash{}(text);
    const Bucket& bucket = *buckets_[name_bucket_of(hash)];
    const auto from = std::lower_bound(bucket.begin(), bucket.end(), Entry{hash, 0});
    const auto to = std::find_if(from, bucket.end(), [hash](const Entry& entry) { return entry.text != hash; });
    return {from, to};
}

void NameIndex::add(std::string_view text, std::string_view tenant) {
    const Entry added = entry(text, tenant);
    auto& slot = buckets_[name_bucket_of(added.text)];
    auto changed = std::make_shared<Bucket>();
    changed->reserve(slot->size() + 1);
    const auto place = std::lower_bound(slot->begin(), slot->end(), added);
    changed->assign(slot->begin(), place);
    changed->push_back(added);
    changed->insert(changed->end(), place, slot->end());
    slot = std::move(changed);
}

void NameIndex::remove(std::string_view text, std::string_view tenant) {
    const Entry removed = entry(text, tenant);
    auto& slot = buckets_[name_bucket_of(removed.text)];
    auto changed = std::make_shared<Bucket>(*slot);
    const auto found = std::lower_bound(changed->begin(), changed->end(), removed);
    if (found != changed->end() && *found == removed) changed->erase(found);
    slot = std::move(changed);
}

void NameIndex::share_with(const NameIndex& other) {
    for (std::size_t i = 0; i < name_bucket_count; ++i) {
        if (buckets_[i] != other.buckets_[i] && *buckets_[i] == *other.buckets_[i]) buckets_[i] = other.buckets_[i];
    }
}

}  // namespace pgporter
