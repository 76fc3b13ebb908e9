// The inside of CatalogStore, for its own source files (store*.cpp) alone.
#pragma once

#include "catalog/store.hpp"
#include "catalog/store_connection.hpp"

namespace pgporter {

class CatalogStore::Impl {
  public:
    explicit Impl(const CatalogConfig& config) : connection(config), instance(random_instance()) {}
    StoreConnection connection;
    const std::uint32_t instance;

  private:
    static std::uint32_t random_instance();
};

}  // namespace pgporter
