// The API's own description, OpenAPI 3.1, written by hand next to the routes (routes.cpp). Any thread.
#pragma once

#include <string>

namespace pgporter {

[[nodiscard]] const std::string& openapi_document();  // JSON

}  // namespace pgporter
