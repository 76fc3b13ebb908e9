// The keys of a listener in pgporter.yaml that are about TLS and about who a client is. Part of config_loader.cpp, which owns the rules of reading;
// nobody else includes this.
#pragma once

#include <string>

#include "catalog/config.hpp"
#include "catalog/yaml_reader.hpp"

namespace pgporter {

// All but `tls` itself, which has been read. Paths are relative to `directory`.
void read_listener_tls(YamlMapping& mapping, const std::string& directory, ListenConfig& listener);

}  // namespace pgporter
