# The Node addon (bindings/node): one file that holds the library, for every Node from 18 on. Node's headers are all that it needs; without them
# it is left out. What it calls of Node is found in the process that loads it.
find_program(COHORT_NODE node)
get_filename_component(COHORT_NODE_FOLDER "${COHORT_NODE}" REALPATH)
get_filename_component(COHORT_NODE_FOLDER "${COHORT_NODE_FOLDER}" DIRECTORY)
find_path(COHORT_NODE_INCLUDE node_api.h HINTS ${COHORT_NODE_FOLDER}/../include PATH_SUFFIXES node nodejs/src)
if(COHORT_NODE_INCLUDE)
  file(GLOB COHORT_NODE_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bindings/node/src/*.c)
  add_library(cohort_node MODULE ${COHORT_NODE_SOURCES})
  set_target_properties(cohort_node PROPERTIES OUTPUT_NAME cohort PREFIX "" SUFFIX .node LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/node-addon
                        BUILD_RPATH "$ORIGIN/libs")
  target_include_directories(cohort_node SYSTEM PRIVATE ${COHORT_NODE_INCLUDE})
  target_link_libraries(cohort_node PRIVATE cohort_static m)
  target_link_options(cohort_node PRIVATE -Wl,--exclude-libs,ALL)
endif()
