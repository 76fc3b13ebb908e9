# pp_test_postgres: a private PostgreSQL server for C++ tests. Included by whoever needs it; defined once.
if(NOT TARGET pp_test_postgres)
  add_library(pp_test_postgres STATIC ${CMAKE_SOURCE_DIR}/tests/support/postgres_server.cpp)
  target_link_libraries(pp_test_postgres PUBLIC pp_options PRIVATE PostgreSQL::PostgreSQL)
endif()
