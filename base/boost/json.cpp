// Boost.JSON, compiled once: Debian's libboost1.81-dev ships its headers without a library.
#include <boost/json/src.hpp>
