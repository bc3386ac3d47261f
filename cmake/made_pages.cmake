# Manual pages and completions are made from the option table, by the program itself, and installed.
if(NOT TARGET cohort_cli)
  return()
endif()
set(COHORT_MADE ${CMAKE_BINARY_DIR}/made)
file(STRINGS ${PROJECT_SOURCE_DIR}/src/run/command_list.h COHORT_COMMAND_ROWS REGEX "^    X\\([A-Z]+, [a-z]+,")
set(COHORT_MADE_FILES ${COHORT_MADE}/cohort.1 ${COHORT_MADE}/cohort.bash ${COHORT_MADE}/_cohort)
set(COHORT_MAKE_PAGES
    COMMAND ${CMAKE_COMMAND} -E make_directory ${COHORT_MADE}
    COMMAND cohort_cli --man > ${COHORT_MADE}/cohort.1
    COMMAND cohort_cli --completion bash > ${COHORT_MADE}/cohort.bash
    COMMAND cohort_cli --completion zsh > ${COHORT_MADE}/_cohort)
foreach(row ${COHORT_COMMAND_ROWS})
  string(REGEX REPLACE "^    X\\([A-Z]+, ([a-z]+),.*" "\\1" command "${row}")
  list(APPEND COHORT_MADE_FILES ${COHORT_MADE}/cohort-${command}.1)
  list(APPEND COHORT_MAKE_PAGES COMMAND cohort_cli --man ${command} > ${COHORT_MADE}/cohort-${command}.1)
endforeach()
add_custom_command(OUTPUT ${COHORT_MADE_FILES} ${COHORT_MAKE_PAGES} DEPENDS cohort_cli VERBATIM COMMENT "Manual pages and completions")
add_custom_target(made_pages ALL DEPENDS ${COHORT_MADE_FILES})
set(COHORT_PAGES ${COHORT_MADE_FILES})
list(FILTER COHORT_PAGES INCLUDE REGEX "\\.1$")
install(FILES ${COHORT_PAGES} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${COHORT_MADE}/cohort.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME cohort)
install(FILES ${COHORT_MADE}/_cohort DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
