# crisp_grpc: gRPC core without TLS (the endpoint is a Unix socket), for crispd and crisp.
#
# Linked statically, with the C++ runtime it needs, the daemon's idle memory is about half of what the sixty
# shared libraries cost it in relocations and page tables. CRISP_STATIC_GRPC=OFF takes the shared ones: for
# sanitizer builds, and where a distribution has no static libraries.
if(TARGET crisp_grpc)
  return()
endif()

add_library(crisp_grpc INTERFACE)
pkg_check_modules(GRPC_UNSECURE REQUIRED grpc_unsecure)
target_include_directories(crisp_grpc SYSTEM INTERFACE ${GRPC_UNSECURE_INCLUDE_DIRS})

function(crisp_grpc_link_static)
  set(archives)
  foreach(name grpc_unsecure gpr address_sorting upb re2 cares z)
    find_library(CRISP_LIB_${name} "lib${name}.a")
    if(NOT CRISP_LIB_${name})
      message(FATAL_ERROR "lib${name}.a was not found: install it, or configure with -DCRISP_STATIC_GRPC=OFF")
    endif()
    list(APPEND archives "${CRISP_LIB_${name}}")
  endforeach()
  get_filename_component(libdir "${CRISP_LIB_grpc_unsecure}" DIRECTORY)
  # Abseil is some seventy archives that need one another; the linker takes only the members that are used.
  file(GLOB abseil "${libdir}/libabsl_*.a")
  execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=libstdc++.a
                  OUTPUT_VARIABLE stdcxx OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT IS_ABSOLUTE "${stdcxx}")
    message(FATAL_ERROR "libstdc++.a was not found: install it, or configure with -DCRISP_STATIC_GRPC=OFF")
  endif()
  target_link_libraries(crisp_grpc INTERFACE
    -Wl,--start-group ${archives} ${abseil} -Wl,--end-group "${stdcxx}" -static-libgcc m Threads::Threads)
  target_link_options(crisp_grpc INTERFACE -Wl,--gc-sections)
endfunction()

if(CRISP_STATIC_GRPC)
  crisp_grpc_link_static()
else()
  target_link_libraries(crisp_grpc INTERFACE grpc_unsecure gpr Threads::Threads)
  target_link_directories(crisp_grpc INTERFACE ${GRPC_UNSECURE_LIBRARY_DIRS})
endif()
