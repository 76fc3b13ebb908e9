// The "paths" of the API's description. One entry a route of routes.cpp: a test compares them.
namespace pgporter {

extern const char* const openapi_paths;
const char* const openapi_paths = R"json(
"/v1/tenants": {
  "get": {
    "operationId": "listTenants", "summary": "Tenants in the order of their names, page by page",
    "parameters": [
      {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}},
      {"name": "after", "in": "query", "description": "next_after of the page before", "schema": {"type": "string"}}
    ],
    "responses": {
      "200": {"description": "One page", "content": {"application/json": {"schema": {"type": "object", "required": ["tenants", "total", "next_after"],
        "properties": {"tenants": {"type": "array", "items": {"$ref": "#/components/schemas/Tenant"}},
          "total": {"type": "integer"}, "next_after": {"type": ["string", "null"], "description": "null: this was the last page"}}}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/tenants/{name}": {
  "parameters": [{"$ref": "#/components/parameters/TenantName"}],
  "get": {
    "operationId": "getTenant", "summary": "One tenant, as this instance routes it now",
    "parameters": [{"name": "If-None-Match", "in": "header", "schema": {"type": "string"}}],
    "responses": {
      "200": {"description": "The tenant", "headers": {"ETag": {"schema": {"type": "string"}, "description": "epoch/catalog version"}},
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Tenant"}}}},
      "304": {"description": "Unchanged"},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  },
  "delete": {
    "operationId": "forgetTenant", "summary": "Forget a tenant; its data stays where it is",
    "responses": {
      "200": {"description": "Forgotten", "content": {"application/json": {"schema": {"type": "object",
        "properties": {"name": {"type": "string"}, "forgotten": {"const": true}, "routed": {"$ref": "#/components/schemas/Routed"}}}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/tenants/{name}:promote": {
  "parameters": [{"$ref": "#/components/parameters/TenantName"}],
  "post": {
    "operationId": "promoteTenant", "summary": "Move a tenant from the shared database to its own, while it works",
    "parameters": [{"$ref": "#/components/parameters/DryRun"}, {"$ref": "#/components/parameters/IdempotencyKey"}],
    "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Promote"},
      "example": {"to": {"cluster": "big", "database": "acme"}}}}},
    "responses": {
      "200": {"description": "dry_run: what the preflight found; nothing was changed", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Preflight"}}}},
      "202": {"description": "The move has begun", "headers": {"Location": {"schema": {"type": "string"}}},
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Move"}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/tenants/{name}:demote": {
  "parameters": [{"$ref": "#/components/parameters/TenantName"}],
  "post": {
    "operationId": "demoteTenant", "summary": "Move a tenant from its own database to a shared one, while it works",
    "parameters": [{"$ref": "#/components/parameters/DryRun"}, {"$ref": "#/components/parameters/IdempotencyKey"}],
    "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Promote"},
      "example": {"to": {"cluster": "main", "database": "app"}}}}},
    "responses": {
      "200": {"description": "dry_run: what the preflight found; nothing was changed", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Preflight"}}}},
      "202": {"description": "The move has begun", "headers": {"Location": {"schema": {"type": "string"}}},
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Move"}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/tenants/{name}:relocate": {
  "parameters": [{"$ref": "#/components/parameters/TenantName"}],
  "post": {
    "operationId": "relocateTenant", "summary": "Move a tenant from its own database to another one, while it works",
    "parameters": [{"$ref": "#/components/parameters/DryRun"}, {"$ref": "#/components/parameters/IdempotencyKey"}],
    "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Promote"},
      "example": {"to": {"cluster": "big", "database": "acme"}}}}},
    "responses": {
      "200": {"description": "dry_run: what the preflight found; nothing was changed", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Preflight"}}}},
      "202": {"description": "The move has begun", "headers": {"Location": {"schema": {"type": "string"}}},
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Move"}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/tenants/{name}:suspend": {
  "parameters": [{"$ref": "#/components/parameters/TenantName"}],
  "post": {
    "operationId": "suspendTenant", "summary": "Refuse this tenant's new transactions until it is resumed",
    "parameters": [{"$ref": "#/components/parameters/IdempotencyKey"}],
    "responses": {
      "200": {"description": "The tenant as it is now", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ChangedTenant"}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/tenants/{name}:resume": {
  "parameters": [{"$ref": "#/components/parameters/TenantName"}],
  "post": {
    "operationId": "resumeTenant", "summary": "Serve a suspended tenant again",
    "parameters": [{"$ref": "#/components/parameters/IdempotencyKey"}],
    "responses": {
      "200": {"description": "The tenant as it is now", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ChangedTenant"}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/clusters": {
  "get": {
    "operationId": "listClusters", "summary": "The PostgreSQL servers that tenants live on",
    "responses": {
      "200": {"description": "All clusters", "content": {"application/json": {"schema": {"type": "object",
        "properties": {"clusters": {"type": "array", "items": {"$ref": "#/components/schemas/Cluster"}}}}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/clusters/{cluster}/databases/{database}:check": {
  "parameters": [{"name": "cluster", "in": "path", "required": true, "schema": {"type": "string"}},
    {"name": "database", "in": "path", "required": true, "schema": {"type": "string"}}],
  "post": {
    "operationId": "checkDatabase", "summary": "The doctor: what in a shared database would let one tenant see another's data; reads only",
    "parameters": [{"$ref": "#/components/parameters/IdempotencyKey"}],
    "requestBody": {"required": false, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/DoctorRequest"}}}},
    "responses": {
      "200": {"description": "What was found", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/DoctorReport"}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/apply": {
  "post": {
    "operationId": "applyDocument", "summary": "Make the catalog match a document: creates and changes, never drops",
    "parameters": [{"$ref": "#/components/parameters/DryRun"}, {"$ref": "#/components/parameters/IdempotencyKey"},
      {"name": "name", "in": "query", "description": "what errors call the document", "schema": {"type": "string", "default": "document"}}],
    "requestBody": {"required": true, "description": "tenants.yaml, at most 4 MiB", "content": {"application/yaml": {"schema": {"type": "string"}}}},
    "responses": {
      "200": {"description": "What was, or with dry_run would be, changed", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ApplyReport"}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/moves": {
  "get": {
    "operationId": "listMoves", "summary": "Moves, the newest first",
    "parameters": [
      {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}},
      {"name": "unfinished", "in": "query", "schema": {"type": "boolean", "default": false}},
      {"name": "tenant", "in": "query", "schema": {"type": "string"}}
    ],
    "responses": {
      "200": {"description": "Moves", "content": {"application/json": {"schema": {"type": "object",
        "properties": {"moves": {"type": "array", "items": {"$ref": "#/components/schemas/Move"}}}}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/moves/{id}": {
  "parameters": [{"$ref": "#/components/parameters/MoveId"}],
  "get": {
    "operationId": "getMove", "summary": "One move with its progress of this moment",
    "responses": {
      "200": {"description": "The move", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Move"}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/moves/{id}:cancel": {
  "parameters": [{"$ref": "#/components/parameters/MoveId"}],
  "post": {
    "operationId": "cancelMove", "summary": "Give a move up before its flip: the tenant stays, everything the move made goes",
    "parameters": [{"$ref": "#/components/parameters/IdempotencyKey"}],
    "responses": {
      "202": {"description": "The move is told", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Move"}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/moves/{id}:cutover": {
  "parameters": [{"$ref": "#/components/parameters/MoveId"}],
  "post": {
    "operationId": "cutoverMove", "summary": "Switch over now: for a move that waits for it, or that is out of attempts",
    "parameters": [{"$ref": "#/components/parameters/IdempotencyKey"}],
    "responses": {
      "202": {"description": "The move is told", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Move"}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/moves/{id}:rollback": {
  "parameters": [{"$ref": "#/components/parameters/MoveId"}],
  "post": {
    "operationId": "rollbackMove", "summary": "Bring the tenant of a move in state reversing back to where it came from, with everything written since",
    "parameters": [{"$ref": "#/components/parameters/IdempotencyKey"}],
    "responses": {
      "202": {"description": "The move is told", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Move"}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/moves/{id}:complete": {
  "parameters": [{"$ref": "#/components/parameters/MoveId"}],
  "post": {
    "operationId": "completeMove", "summary": "End a move that has flipped: drops the tenant's data in the source database for good",
    "parameters": [{"$ref": "#/components/parameters/IdempotencyKey"},
      {"name": "force", "in": "query", "description": "also where the source has what the target hasn't", "schema": {"type": "boolean", "default": false}}],
    "responses": {
      "202": {"description": "The move is told", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Move"}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/v1/moves/{id}/events": {
  "parameters": [{"$ref": "#/components/parameters/MoveId"}],
  "get": {
    "operationId": "watchMove", "summary": "Server-sent events of one move: first its present state, then every change, until it is finished",
    "description": "Each event has an id, a type (state or progress) and the whole move as JSON in data, so a client that comes back (Last-Event-ID or not) has lost nothing. A comment every 15 seconds keeps the connection alive.",
    "parameters": [{"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}],
    "responses": {
      "200": {"description": "Events", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/healthz": {
  "get": {
    "operationId": "healthz", "summary": "The process works; never asks the catalog", "security": [],
    "responses": {"200": {"description": "Alive", "content": {"application/json": {"schema": {"type": "object", "properties": {"status": {"const": "ok"}}}}}}}
  }
},
"/readyz": {
  "get": {
    "operationId": "readyz", "summary": "A snapshot is there and the instance isn't draining", "security": [],
    "responses": {
      "200": {"description": "Ready", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ready"}}}},
      "503": {"description": "Not ready", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ready"}}}}
    }
  }
},
"/metrics": {
  "get": {
    "operationId": "metrics", "summary": "Prometheus text format; open on loopback, else with the token", "security": [{}, {"token": []}],
    "responses": {
      "200": {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}},
      "default": {"$ref": "#/components/responses/Problem"}
    }
  }
},
"/openapi.json": {
  "get": {
    "operationId": "openapi", "summary": "This document", "security": [],
    "responses": {"200": {"description": "OpenAPI 3.1", "content": {"application/json": {"schema": {"type": "object"}}}}}
  }
}
)json";

}  // namespace pgporter
