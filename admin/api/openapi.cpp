#include "admin/api/openapi.hpp"

namespace pgporter {

// In openapi_paths.cpp and openapi_schemas.cpp: members of the objects "paths" and "components".
extern const char* const openapi_paths;
extern const char* const openapi_schemas;

const std::string& openapi_document() {
    static const std::string document = std::string(R"json({
"openapi": "3.1.0",
"info": {
  "title": "pgporter admin API",
  "version": ")json") + PGPORTER_VERSION + R"json(",
  "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
  "description": "Tenants, clusters and moves of one pgporter instance. Errors are application/problem+json (RFC 9457). A POST may carry an Idempotency-Key: the same key and request within 24 hours give the same answer again."
},
"servers": [{"url": "http://127.0.0.1:6480"}],
"security": [{"token": []}],
"paths": {)json" + openapi_paths + R"json(},
"components": {)json" + openapi_schemas + "}\n}\n";
    return document;
}

}  // namespace pgporter
