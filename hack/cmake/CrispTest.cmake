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

# crisp_fuzz_target(NAME CORPUS folder SOURCES file... LIBS lib...): with -DCRISP_FUZZ=ON the libFuzzer program NAME_fuzz;
# always a test that runs the target over the files of tests/fuzz/CORPUS. More time for it:
#   build/fuzz/.../NAME_fuzz -max_total_time=3600 /tmp/new tests/fuzz/CORPUS
function(crisp_fuzz_target name)
  cmake_parse_arguments(T "" "CORPUS" "SOURCES;LIBS" ${ARGN})
  if(CRISP_FUZZ)
    add_executable(${name}_fuzz ${T_SOURCES})
    target_link_libraries(${name}_fuzz PRIVATE ${T_LIBS})
    target_link_options(${name}_fuzz PRIVATE -fsanitize=fuzzer)
  elseif(BUILD_TESTING)
    add_executable(${name}_fuzz_replay ${T_SOURCES} "${CMAKE_SOURCE_DIR}/tests/fuzz/replay.c")
    target_link_libraries(${name}_fuzz_replay PRIVATE ${T_LIBS} crisp_base)
    add_test(NAME ${name}_fuzz_replay COMMAND ${name}_fuzz_replay "${CMAKE_SOURCE_DIR}/tests/fuzz/${T_CORPUS}")
    set_tests_properties(${name}_fuzz_replay PROPERTIES TIMEOUT 300 LABELS unit)
  endif()
endfunction()
