# crisp_proto_library(TARGET PROTO): compiles a .proto (a path relative to the source tree) with
# protoc-c into the build tree; users say #include "api/pod/pod.pb-c.h".
find_program(PROTOC_C protoc-c REQUIRED)
find_program(PROTOC protoc REQUIRED)

function(crisp_proto_library target proto)
  set(out "${CMAKE_BINARY_DIR}/generated")
  string(REGEX REPLACE "\\.proto$" "" stem "${proto}")
  get_filename_component(dir "${proto}" DIRECTORY)
  file(MAKE_DIRECTORY "${out}/${dir}")
  add_custom_command(
    OUTPUT "${out}/${stem}.pb-c.c" "${out}/${stem}.pb-c.h" "${out}/${stem}.desc"
    COMMAND "${PROTOC_C}" "--proto_path=${CMAKE_SOURCE_DIR}" "--proto_path=/usr/include" "--c_out=${out}" "${CMAKE_SOURCE_DIR}/${proto}"
    COMMAND "${PROTOC}" "--proto_path=${CMAKE_SOURCE_DIR}" "--proto_path=/usr/include"
            --include_imports "--descriptor_set_out=${out}/${stem}.desc" "${CMAKE_SOURCE_DIR}/${proto}"
    DEPENDS "${CMAKE_SOURCE_DIR}/${proto}"
    COMMENT "protoc-c ${proto}" VERBATIM)
  add_library(${target} STATIC "${out}/${stem}.pb-c.c")
  target_link_libraries(${target} PUBLIC PkgConfig::PROTOBUF_C)
  # The initializer of a message whose first field is a oneof lacks braces, in the users' code too.
  target_compile_options(${target} PRIVATE -Wno-shadow PUBLIC -Wno-missing-braces)
  add_custom_target(${target}_generated DEPENDS "${out}/${stem}.pb-c.h")
endfunction()
