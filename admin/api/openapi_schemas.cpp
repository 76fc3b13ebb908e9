// The "components" of the API's description.
namespace pgporter {

extern const char* const openapi_schemas;
const char* const openapi_schemas = R"json(
"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
"parameters": {
  "TenantName": {"name": "name", "in": "path", "required": true, "schema": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$"}},
  "MoveId": {"name": "id", "in": "path", "required": true, "schema": {"type": "integer", "minimum": 1}},
  "DryRun": {"name": "dry_run", "in": "query", "description": "look, change nothing", "schema": {"type": "boolean", "default": false}},
  "IdempotencyKey": {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255}}
},
"responses": {
  "Problem": {"description": "400 invalid, 401 no valid token, 403 closed, 404 unknown, 405 wrong method, 409 conflict, 413 too large, 415 wrong media type, 421 wrong host, 422 Idempotency-Key of another request, 429 a limit, 431 header too large, 500 a bug, 503 unavailable, 504 timeout",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
},
"schemas": {
  "Problem": {"type": "object", "required": ["type", "title", "status", "detail", "instance"],
    "properties": {"type": {"type": "string", "description": "urn:pgporter:problem:<code>"}, "title": {"type": "string"}, "status": {"type": "integer"},
      "detail": {"type": "string"}, "instance": {"type": "string"}, "hint": {"type": "string", "description": "what to do"},
      "sqlstate": {"type": "string"}, "next_steps": {"type": "array", "items": {"type": "string"}}}},
  "Routed": {"type": "boolean", "description": "false: the change is in the catalog, but this instance couldn't read it back yet"},
  "Placement": {"type": "object", "required": ["kind", "cluster", "database", "schema"],
    "properties": {"kind": {"enum": ["rows", "schema", "database"]}, "cluster": {"type": "string"}, "database": {"type": "string"}, "schema": {"type": ["string", "null"]}}},
  "Tenant": {"type": "object", "required": ["name", "state", "placement", "epoch"],
    "properties": {"name": {"type": "string"}, "key": {"type": "string", "description": "what SQL calls it"}, "state": {"enum": ["active", "suspended"]}, "placement": {"$ref": "#/components/schemas/Placement"},
      "epoch": {"type": "integer", "description": "every change of placement raises it"}, "pool_mode": {"enum": ["transaction", "session"]},
      "role": {"type": ["string", "null"]}, "shared_schemas": {"type": "array", "items": {"type": "string"}},
      "domains": {"type": "array", "items": {"type": "string"}, "description": "host names (TLS SNI) that name it"},
      "allowed_addresses": {"type": "array", "items": {"type": "string"}, "description": "CIDR blocks that its clients may come from; empty: all"},
      "server_connections_max": {"type": "integer", "description": "0: no cap of its own"}, "sessions_max": {"type": "integer", "description": "0: no cap of its own"},
      "settings": {"type": "object", "additionalProperties": {"type": "string"}}}},
  "ChangedTenant": {"allOf": [{"$ref": "#/components/schemas/Tenant"}, {"type": "object", "properties": {"routed": {"$ref": "#/components/schemas/Routed"}}}]},
  "Cluster": {"type": "object", "required": ["name", "host", "port"],
    "properties": {"name": {"type": "string"}, "host": {"type": "string"}, "port": {"type": "integer"},
      "tls": {"type": "string"}, "server_connections_max": {"type": "integer"}, "tenants": {"type": "integer"},
      "databases": {"type": "array", "items": {"$ref": "#/components/schemas/Database"}}}},
  "Database": {"type": "object", "required": ["name"],
    "properties": {"name": {"type": "string"}, "server_connections_max": {"type": "integer", "description": "0: only the cluster's cap"},
      "isolation": {"enum": ["app", "role", "login"], "description": "how its tenants are kept apart"},
      "tenant_setting": {"type": ["string", "null"], "description": "the run-time parameter that row-level security reads"},
      "tenant_column": {"type": ["string", "null"], "description": "the column that says whose a row is"}}},
  "ApplyReport": {"type": "object", "required": ["dry_run", "created", "changed", "unchanged", "changes"],
    "properties": {"dry_run": {"type": "boolean"}, "created": {"type": "integer"}, "changed": {"type": "integer"}, "unchanged": {"type": "integer"},
      "changes": {"type": "array", "items": {"type": "object", "properties": {"action": {"enum": ["create", "change"]}, "kind": {"enum": ["cluster", "database", "user", "tenant"]},
        "name": {"type": "string"}, "what": {"type": "string"}}}},
      "routed": {"$ref": "#/components/schemas/Routed"}}},
  "Promote": {"type": "object", "additionalProperties": false,
    "properties": {"to": {"type": "object", "additionalProperties": false, "required": ["cluster"],
        "properties": {"cluster": {"type": "string"}, "database": {"type": "string", "description": "default: the tenant's name; created when it doesn't exist"}}},
      "cluster": {"type": "string", "description": "instead of to.cluster"}, "database": {"type": "string", "description": "instead of to.database"},
      "dry_run": {"type": "boolean", "default": false}, "copy_jobs": {"type": "integer", "minimum": 1, "maximum": 64, "description": "default: mover.copy_jobs"},
      "cutover": {"type": "boolean", "default": true, "description": "false: wait, caught up, until :cutover"}}},
  "Blocker": {"type": "object", "properties": {"code": {"type": "string"}, "object": {"type": "string"}, "message": {"type": "string"}, "remedy": {"type": "string"}}},
  "NextStep": {"type": "object", "properties": {"why": {"type": "string"}, "command": {"type": "string"}, "request": {"type": "string"}}},
  "Preflight": {"type": "object", "required": ["tenant", "dry_run", "ok", "blockers", "warnings"],
    "properties": {"tenant": {"type": "string"}, "dry_run": {"const": true}, "ok": {"type": "boolean", "description": "no blockers: the move may start"},
      "blockers": {"type": "array", "items": {"$ref": "#/components/schemas/Blocker"}}, "warnings": {"type": "array", "items": {"$ref": "#/components/schemas/Blocker"}},
      "tables": {"type": "integer"}, "rows_estimate": {"type": "integer"}, "bytes": {"type": "integer"}, "seconds_estimate": {"type": "number"},
      "source": {"$ref": "#/components/schemas/Placement"}, "target": {"$ref": "#/components/schemas/Placement"},
      "next_steps": {"type": "array", "items": {"$ref": "#/components/schemas/NextStep"}}}},
  "Progress": {"type": "object",
    "properties": {"rows_total_estimate": {"type": "integer"}, "rows_copied": {"type": "integer"}, "bytes_copied": {"type": "integer"}, "changes_applied": {"type": "integer"},
      "transactions_applied": {"type": "integer"}, "rows_verified": {"type": "integer"}, "lag_bytes": {"type": "integer"}, "cutover_attempts": {"type": "integer"},
      "pause_ms": {"type": "number", "description": "of the successful cutover"}, "note": {"type": "string"}}},
  "Move": {"type": "object", "required": ["id", "tenant", "state", "finished", "source", "target", "progress", "next_steps"],
    "properties": {"id": {"type": "integer"}, "tenant": {"type": "string"},
      "state": {"enum": ["planned", "preflight", "schema", "gate", "slot", "copy", "index", "catchup", "verify", "hold", "fenced", "drained", "flipped", "opened", "completed", "aborting", "aborted"]},
      "finished": {"type": "boolean"}, "before_flip": {"type": "boolean", "description": "it can still be cancelled"},
      "source": {"$ref": "#/components/schemas/Placement"}, "target": {"$ref": "#/components/schemas/Placement"}, "cutover": {"type": "boolean"},
      "epoch": {"type": "integer", "description": "the tenant's when the move began"}, "progress": {"$ref": "#/components/schemas/Progress"},
      "error": {"type": ["string", "null"], "description": "why it was aborted"}, "created_at": {"type": "string"}, "updated_at": {"type": "string"},
      "finished_at": {"type": ["string", "null"]}, "next_steps": {"type": "array", "items": {"$ref": "#/components/schemas/NextStep"}}}},
  "Ready": {"type": "object", "properties": {"status": {"enum": ["ready", "starting", "draining"]}, "catalog_connected": {"type": "boolean"}, "catalog_version": {"type": "integer"}}}
}
)json";

}  // namespace pgporter
