// The inside of CatalogStore, for its own source files (store*.cpp) alone.
#pragma once

#include "catalog/store.hpp"
#include "catalog/store_connection.hpp"

namespace pgporter {

class CatalogStore::Impl {
  public:
    explicit Impl(const CatalogConfig& config) : connection(config) {}
    StoreConnection connection;
};

}  // namespace pgporter
