# crisp_unit_test(NAME SOURCES file... LIBS lib...): a cmocka program that ctest runs as NAME.
# With -DBUILD_TESTING=OFF they are only built when asked for by name, and cmocka isn't needed.
if(BUILD_TESTING)
  pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
endif()

function(crisp_unit_test name)
  cmake_parse_arguments(T "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  if(BUILD_TESTING)
    target_link_libraries(${name} PRIVATE ${T_LIBS} PkgConfig::CMOCKA)
  # protobuf-c and argv want char *: tests hand them literals.
  target_compile_options(${name} PRIVATE -Wno-write-strings)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT 300 LABELS unit
    ENVIRONMENT "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/hack/tsan.supp")
  else()
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
  endif()
endfunction()
