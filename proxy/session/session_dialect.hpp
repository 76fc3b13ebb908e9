// SessionDialect: how a session's SQL is read, as its server or its client was told last. Owned by the session; one thread.
#pragma once

#include <memory>
#include <string>

#include "proxy/pool/context.hpp"
#include "router/sql_dialect.hpp"

namespace pgporter {

struct SessionDialect {
    std::shared_ptr<const Settings> source;  // what was reported
    SqlDialect dialect;
    std::string key;  // equal keys: every text means the same. Empty: UTF-8 with standard_conforming_strings on
};

}  // namespace pgporter
