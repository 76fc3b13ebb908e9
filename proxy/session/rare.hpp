// What few sessions ever have, or only for a moment: while it isn't there it takes a pointer's place, and no memory of its own.
// Owned by a session; same thread; pure.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>

namespace pgporter {

// An optional.
template <class T>
class Rare {
  public:
    Rare() = default;
    Rare(const Rare& other) : value_(other.value_ ? std::make_unique<T>(*other.value_) : nullptr) {}
    Rare(Rare&&) noexcept = default;
    Rare(T value) : value_(std::make_unique<T>(std::move(value))) {}
    Rare(std::optional<T> value) : value_(value ? std::make_unique<T>(*std::move(value)) : nullptr) {}
    Rare& operator=(const Rare& other) {
        value_ = other.value_ ? std::make_unique<T>(*other.value_) : nullptr;
        return *this;
    }
    Rare& operator=(Rare&&) noexcept = default;
    ~Rare() = default;

    [[nodiscard]] explicit operator bool() const { return value_ != nullptr; }
    [[nodiscard]] bool has_value() const { return value_ != nullptr; }
    operator std::optional<T>() const { return value_ ? std::optional<T>(*value_) : std::nullopt; }
    [[nodiscard]] T& operator*() { return *value_; }
    [[nodiscard]] const T& operator*() const { return *value_; }
    [[nodiscard]] T* operator->() { return value_.get(); }
    [[nodiscard]] const T* operator->() const { return value_.get(); }
    // There from now on.
    [[nodiscard]] T& made() {
        if (!value_) value_ = std::make_unique<T>();
        return *value_;
    }
    void reset() { value_.reset(); }

  private:
    std::unique_ptr<T> value_;
};

// A map. clear() gives its memory back.
template <class Map>
class RareMap {
  public:
    using iterator = typename Map::iterator;
    using const_iterator = typename Map::const_iterator;

    template <class Key>
    [[nodiscard]] iterator find(const Key& key) { return get().find(key); }
    template <class Key>
    [[nodiscard]] const_iterator find(const Key& key) const { return get().find(key); }
    template <class Key>
    [[nodiscard]] bool contains(const Key& key) const { return map_ && map_->contains(key); }
    [[nodiscard]] bool empty() const { return !map_ || map_->empty(); }
    [[nodiscard]] std::size_t size() const { return map_ ? map_->size() : 0; }
    [[nodiscard]] iterator begin() { return get().begin(); }
    [[nodiscard]] iterator end() { return get().end(); }
    [[nodiscard]] const_iterator begin() const { return get().begin(); }
    [[nodiscard]] const_iterator end() const { return get().end(); }
    [[nodiscard]] typename Map::mapped_type& operator[](typename Map::key_type key) { return map_.made()[std::move(key)]; }
    void erase(iterator at) { map_->erase(at); }
    void erase(const typename Map::key_type& key) {
        if (map_) map_->erase(key);
    }
    template <class Predicate>
    void erase_if(Predicate predicate) {
        if (map_) std::erase_if(*map_, predicate);
    }
    void clear() { map_.reset(); }

  private:
    // Nothing is ever put into this one.
    static Map& none() {
        static Map map;
        return map;
    }
    [[nodiscard]] Map& get() { return map_ ? *map_ : none(); }
    [[nodiscard]] const Map& get() const { return map_ ? *map_ : none(); }

    Rare<Map> map_;
};

}  // namespace pgporter
