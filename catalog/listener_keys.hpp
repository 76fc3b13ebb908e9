// The keys of pgporter.yaml that say how clients get in besides an address: Unix-domain sockets, the PROXY protocol, replication, the other
// instances, the bounds on logins. Part of config_loader.cpp, which owns the rules of reading; nobody else includes this.
#pragma once

#include "catalog/config.hpp"
#include "catalog/yaml_reader.hpp"

namespace pgporter {

void read_listener_doors(YamlMapping& mapping, ListenConfig& listener);
void read_login_limits(YamlMapping& mapping, LimitsConfig& limits);
// instance_id and peers
void read_peers(YamlMapping& top, YamlProblems& problems, Config& config);

}  // namespace pgporter
