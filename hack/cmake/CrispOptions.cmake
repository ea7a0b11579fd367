# Options shared by every target.
option(CRISP_WERROR "Treat warnings as errors" ON)
option(CRISP_STATIC_GRPC "Link gRPC core statically into crispd and crisp (half the memory)" ON)
option(CRISP_STATIC_POD "Link crisp-pod statically" ON)
option(CRISP_FUZZ "Build the fuzz targets (clang only)" OFF)
option(CRISP_COVERAGE "Instrument for gcov" OFF)
set(CRISP_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")

# c17 and not gnu17: gnu17 predefines `linux`, which is a field name in the CRI API.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()

add_compile_definitions(_GNU_SOURCE CRISP_VERSION="${PROJECT_VERSION}")
add_compile_options(
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
  -Wformat=2 -Wundef -Wvla -Wpointer-arith -Wwrite-strings -Wimplicit-fallthrough
  -fno-strict-aliasing -fstack-protector-strong -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU") # messages are cut to their buffers on purpose; clang has no such warning
  add_compile_options(-Wno-format-truncation)
endif()
if(CRISP_WERROR)
  add_compile_options(-Werror)
endif()
if(CMAKE_BUILD_TYPE MATCHES "^Rel")
  add_compile_options(-D_FORTIFY_SOURCE=2)
  add_link_options(-Wl,-z,relro,-z,now)
endif()
if(CRISP_SANITIZE)
  add_compile_options(-fsanitize=${CRISP_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${CRISP_SANITIZE})
  # A sanitizer's runtime has to be the program's only allocator: no static libc, no static gRPC.
  set(CRISP_STATIC_GRPC OFF)
  set(CRISP_STATIC_POD OFF)
endif()
if(CRISP_COVERAGE)
  add_compile_options(--coverage)
  add_link_options(--coverage)
  set(CRISP_STATIC_POD OFF)
endif()
if(CRISP_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

include_directories("${CMAKE_SOURCE_DIR}" "${CMAKE_BINARY_DIR}/generated")
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PROTOBUF_C REQUIRED IMPORTED_TARGET libprotobuf-c)
