// NameIndex: which tenants a text stands for (a schema, a key, a domain). In 256 buckets that snapshots share: a changed copy
// costs the buckets that changed. Part of a Snapshot; immutable once the snapshot is built, then any thread.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace pgporter {

struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
};

// Of tenants and of indexes alike. The low bits of the hash choose the place inside a bucket's own table, the high ones the bucket.
inline constexpr std::size_t name_bucket_count = 256;
[[nodiscard]] inline std::size_t name_bucket_of(std::string_view text) { return (TextHash{}(text) >> 40) % name_bucket_count; }

class NameIndex {
  public:
    using Bucket = std::unordered_multimap<std::string, std::string, TextHash, std::equal_to<>>;  // text, tenant's name
    using Pairs = std::vector<std::pair<std::string, std::string>>;

    NameIndex() {
        static const auto none = std::make_shared<const Bucket>();
        buckets_.fill(none);
    }
    explicit NameIndex(const Pairs& pairs);

    [[nodiscard]] std::pair<Bucket::const_iterator, Bucket::const_iterator> find(std::string_view text) const {
        return buckets_[name_bucket_of(text)]->equal_range(text);
    }
    // Copies the one bucket that changes; snapshots that share it keep theirs.
    void add(const std::string& text, const std::string& tenant);
    void remove(const std::string& text, const std::string& tenant);
    // Takes the buckets of `other` that say the same.
    void share_with(const NameIndex& other);

  private:
    std::array<std::shared_ptr<const Bucket>, name_bucket_count> buckets_;
};

}  // namespace pgporter
