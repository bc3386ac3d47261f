# make install: the program, both libraries, the header, pkg-config and CMake files, the documents.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set_target_properties(cohort_shared PROPERTIES EXPORT_NAME cohort)
# Programs over the static library do not export its functions (cohort.h).
target_compile_definitions(cohort_static INTERFACE COHORT_STATIC)

# Where libraries were found that no loader looks for by itself (CUDA's), the installed files find them too; the rest lies beside us.
set(COHORT_INSTALLED_TARGETS cohort_shared)
if(TARGET cohort_cli)
  list(APPEND COHORT_INSTALLED_TARGETS cohort_cli)
endif()
file(RELATIVE_PATH COHORT_BIN_TO_LIB ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
set_target_properties(${COHORT_INSTALLED_TARGETS} PROPERTIES INSTALL_RPATH "$ORIGIN/${COHORT_BIN_TO_LIB}"
                      INSTALL_RPATH_USE_LINK_PATH ON)
set_target_properties(cohort_shared PROPERTIES INSTALL_RPATH "$ORIGIN")

# What a program over the static library needs beyond the other packages.
set(COHORT_WITH_CUDA FALSE)
set(COHORT_PC_CUDA_LIBS)
if(COHORT_CUDA)
  set(COHORT_WITH_CUDA TRUE)
  set(COHORT_PC_CUDA_LIBS " -L${CUDAToolkit_LIBRARY_DIR} -Wl,-rpath,${CUDAToolkit_LIBRARY_DIR} -lcudart -lcublasLt -lstdc++")
endif()
install(TARGETS cohort_shared EXPORT cohortTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS cohort_static EXPORT cohortStaticTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET cohort_cli)
  install(TARGETS cohort_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(FILES include/cohort.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(COHORT_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/cohort)
install(EXPORT cohortTargets NAMESPACE cohort:: DESTINATION ${COHORT_CMAKE_DIR})
install(EXPORT cohortStaticTargets NAMESPACE cohort:: DESTINATION ${COHORT_CMAKE_DIR})
configure_package_config_file(cmake/cohortConfig.cmake.in ${PROJECT_BINARY_DIR}/cohortConfig.cmake
                              INSTALL_DESTINATION ${COHORT_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cohortConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/cohortConfig.cmake ${PROJECT_BINARY_DIR}/cohortConfigVersion.cmake
        DESTINATION ${COHORT_CMAKE_DIR})

# The prefix is known for certain only now: 'cmake --install --prefix' may name another than the configuration did.
install(CODE "set(PROJECT_VERSION ${PROJECT_VERSION})
set(CMAKE_INSTALL_LIBDIR ${CMAKE_INSTALL_LIBDIR})
set(CMAKE_INSTALL_INCLUDEDIR ${CMAKE_INSTALL_INCLUDEDIR})
set(COHORT_PC_CUDA_LIBS \"${COHORT_PC_CUDA_LIBS}\")
get_filename_component(CMAKE_INSTALL_PREFIX \"\${CMAKE_INSTALL_PREFIX}\" ABSOLUTE)
configure_file(\"${PROJECT_SOURCE_DIR}/cmake/cohort.pc.in\" \"${PROJECT_BINARY_DIR}/cohort.pc\" @ONLY)")
install(FILES ${PROJECT_BINARY_DIR}/cohort.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

file(GLOB COHORT_DOCS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/*.md)
install(FILES README.md ARCHITECTURE.md CHANGELOG.md SECURITY.md LICENSE NOTICE docs/demo.svg ${COHORT_DOCS} DESTINATION ${CMAKE_INSTALL_DOCDIR})
